package tracker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
)

// fileState is what tells whether a disk file was changed by somebody else.
type fileState struct {
	Size    int64  `json:"size"`
	Mtime   int64  `json:"mtime"` // Unix nanoseconds, as Ctime
	Ctime   int64  `json:"ctime"`
	Links   uint64 `json:"links"`
	device  uint64
	inode   uint64
	regular bool
}

func stateOf(f *os.File) (fileState, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return fileState{}, fmt.Errorf("stat: %w", err)
	}
	return fileState{
		Size: s.Size, Mtime: s.Mtim.Nano(), Ctime: s.Ctim.Nano(), Links: uint64(s.Nlink), //nolint:unconvert // narrower on other machines
		device: uint64(s.Dev), inode: s.Ino, regular: s.Mode&unix.S_IFMT == unix.S_IFREG, //nolint:unconvert // likewise
	}, nil
}

// openDisk opens a disk file by its path in the folder below. It follows no
// symbolic link, leaves neither the folder nor its file system, and does not
// enter the tracker's own folder.
func (t *Tracker) openDisk(path string) (*os.File, fileState, error) {
	clean := filepath.Clean(path)
	if !filepath.IsLocal(path) || clean == FolderName || strings.HasPrefix(clean, FolderName+"/") {
		return nil, fileState{}, fmt.Errorf("%w: %q is no path of a disk in the folder", ErrInvalid, path)
	}
	fd, err := unix.Openat2(int(t.cfg.Folder.Fd()), clean, &unix.OpenHow{
		Flags:   unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fileState{}, fmt.Errorf("disk %s: %w", path, os.ErrNotExist)
	case errors.Is(err, unix.EISDIR):
		return nil, fileState{}, fmt.Errorf("%w: %s is a directory, not a disk", ErrInvalid, path)
	case errors.Is(err, unix.ELOOP):
		return nil, fileState{}, fmt.Errorf("%w: %s is or leads through a symbolic link: name the disk file itself", ErrInvalid, path)
	case errors.Is(err, unix.EXDEV):
		return nil, fileState{}, fmt.Errorf("%w: %s lies on another file system than the folder: mount that one too", ErrInvalid, path)
	case err != nil:
		return nil, fileState{}, fmt.Errorf("open disk %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), clean)
	s, err := stateOf(f)
	if err == nil && !s.regular {
		err = fmt.Errorf("%w: %s is not a regular file", ErrInvalid, path)
	}
	if err != nil {
		return nil, fileState{}, errors.Join(err, f.Close())
	}
	return f, s, nil
}

// handleOf returns the file's handle: its identity that no other file gets,
// not even one that reuses its inode number. nil where the file system has none.
func handleOf(f *os.File) []byte {
	h, _, err := unix.NameToHandleAt(int(f.Fd()), "", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(h.Type())), h.Bytes()...)
}

// openHandle opens the file of a handle, wherever its name went.
func openHandle(folder *os.File, handle []byte, flags int) (*os.File, error) {
	if len(handle) < 4 {
		return nil, os.ErrNotExist
	}
	h := unix.NewFileHandle(int32(binary.LittleEndian.Uint32(handle)), handle[4:])
	fd, err := unix.OpenByHandleAt(int(folder.Fd()), h, flags|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open by handle: %w", err)
	}
	return os.NewFile(uintptr(fd), "disk"), nil
}

// pathOf returns the present path of an open file, relative to the folder;
// false if it has none there.
func (t *Tracker) pathOf(f *os.File) (string, bool) {
	link := func(f *os.File) (string, error) { return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())) }
	base, err := link(t.cfg.Folder)
	if err != nil {
		return "", false
	}
	path, err := link(f)
	if err != nil || strings.HasSuffix(path, " (deleted)") {
		return "", false
	}
	rel, err := filepath.Rel(base, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return rel, true
}

// allocated returns the next run of blocks at or after from that hold data;
// its Count is 0 at the end.
func allocated(f *os.File, from disk.Block) (disk.Extent, error) {
	start, err := unix.Seek(int(f.Fd()), from.Offset(), unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return disk.Extent{Start: from}, nil
	}
	if err != nil {
		return disk.Extent{}, fmt.Errorf("seek data at %d: %w", from.Offset(), err)
	}
	end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return disk.Extent{}, fmt.Errorf("seek hole at %d: %w", start, err)
	}
	x := disk.ExtentOf(start, end-start)
	if x.Start < from { // data begins in the middle of the block before
		x.Count -= uint64(from - x.Start)
		x.Start = from
	}
	return x, nil
}
