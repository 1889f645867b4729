package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/replica"
)

// target is a disk that is being restored.
type target struct {
	disk   *replica.PointDisk
	blocks *replica.BlockMap
	// file is the temporary file, at path temporary, until it is published.
	file      *os.File
	temporary string
	fetched   atomic.Int64
}

// dataSize returns the size of the blocks that are not zero, in bytes.
func (t *target) dataSize() int64 { return int64(t.blocks.Blocks()) * disk.BlockSize }

// create makes the temporary file, in the disk's own folder so that it can be
// renamed, with a name that no disk of a VM is likely to have.
func (t *target) create(root *os.Root) error {
	folder, name := filepath.Split(t.disk.Path)
	if folder != "" {
		if err := root.MkdirAll(filepath.Clean(folder), 0o755); err != nil {
			return fmt.Errorf("making its folder: %w", err)
		}
	}
	// A name may be 255 bytes long; the temporary one must not be longer.
	temporary := filepath.Join(folder, "."+name[:min(len(name), 180)]+".restoring-"+replica.NewID())
	file, err := root.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating it: %w", err)
	}
	t.file, t.temporary = file, temporary
	if err := file.Truncate(t.disk.Size); err != nil {
		return fmt.Errorf("giving it its size of %d bytes: %w", t.disk.Size, err)
	}
	return nil
}

// writeBlocks writes blocks, from start on, as far as the disk goes.
func (t *target) writeBlocks(start disk.Block, data []byte) error {
	data = data[:min(int64(len(data)), t.disk.Size-start.Offset())]
	if _, err := t.file.WriteAt(data, start.Offset()); err != nil {
		return fmt.Errorf("writing %d bytes at %d: %w", len(data), start.Offset(), err)
	}
	return nil
}

// publish gives all disks their names, now that all are proved.
func (r *restore) publish() error {
	for _, t := range r.targets {
		if err := r.rename(t); err != nil {
			return fmt.Errorf("giving disk %s its name: %w", t.disk.Path, err)
		}
		if err := t.file.Close(); err != nil {
			return fmt.Errorf("closing disk %s: %w", t.disk.Path, err)
		}
		t.file = nil
	}
	return nil
}

// rename puts the temporary file in the place of its disk. Without Force it
// replaces nothing, even if a file appeared since the beginning.
func (r *restore) rename(t *target) error {
	folder := filepath.Dir(t.disk.Path)
	parent, err := r.root.Open(folder)
	if err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if r.options.Force {
		flags = 0
	}
	from, to, fd := filepath.Base(t.temporary), filepath.Base(t.disk.Path), int(parent.Fd())
	err = unix.Renameat2(fd, from, fd, to, flags)
	if errors.Is(err, unix.EINVAL) && flags != 0 {
		// The file system cannot refuse by itself; look and hope.
		if _, found := r.root.Lstat(t.disk.Path); errors.Is(found, fs.ErrNotExist) {
			err = unix.Renameat2(fd, from, fd, to, 0)
		} else {
			err = unix.EEXIST
		}
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("%w: it appeared while the disk was restored", ErrTargetExists)
	}
	if err == nil {
		t.temporary = ""
		err = r.syncFolders(folder)
	}
	return errors.Join(err, parent.Close())
}

// syncFolders makes the names in the folder durable, and its own name, up to the
// target folder.
func (r *restore) syncFolders(folder string) error {
	for {
		f, err := r.root.Open(folder)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("syncing folder %s: %w", folder, err)
		}
		if folder == "." {
			return nil
		}
		folder = filepath.Dir(folder)
	}
}

// discard removes what was not published.
func (r *restore) discard() error {
	var errs []error
	for _, t := range r.targets {
		if t.file != nil {
			errs = append(errs, t.file.Close())
			t.file = nil
		}
		if t.temporary != "" {
			errs = append(errs, r.root.Remove(t.temporary))
			t.temporary = ""
		}
	}
	return errors.Join(errs...)
}
