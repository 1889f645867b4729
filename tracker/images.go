package tracker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// images are the before-images of one disk that were saved while one epoch was
// open: blocks as they were when that epoch began. They lie in a sparse file
// at the blocks' own offsets; what is saved is told by saved alone, since a
// hole in the file may as well be a saved block of zeros.
//
// A block is copied first, then logged as saved, then its bit is set, and only
// then is the disk changed. So a reader that finds the disk changed finds the
// bit set.
type images struct {
	epoch uint64
	name  string
	saved bitmap
	// bytes is the size of all saved blocks.
	bytes atomic.Int64

	opening sync.Mutex
	file    *os.File // made when the first block is saved
}

func imagesName(id changelog.ID, epoch uint64) string {
	return fmt.Sprintf("%x-%016x.img", id, epoch)
}

// open returns the file, and makes it at the first call.
func (im *images) open(folder *os.Root) (*os.File, error) {
	im.opening.Lock()
	defer im.opening.Unlock()
	if im.file == nil {
		f, err := folder.OpenFile(im.name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("create before-image file: %w", err)
		}
		im.file = f
	}
	return im.file, nil
}

// copyFrom copies an extent of the disk file into the file, in the kernel.
func (im *images) copyFrom(folder *os.Root, from *os.File, x disk.Extent) error {
	to, err := im.open(folder)
	if err != nil {
		return err
	}
	offset, left := x.Start.Offset(), int64(x.Count)*disk.BlockSize
	for left > 0 {
		in, out := offset, offset
		n, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, int(left), 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			return copyBytes(to, from, offset, left)
		case err != nil:
			return fmt.Errorf("copy before-image: %w", err)
		case n == 0:
			return nil // the disk ends here: the rest of the block is zeros, as is a hole
		default:
			offset += int64(n)
			left -= int64(n)
		}
	}
	return nil
}

// copyBytes is for file systems that do not copy in the kernel.
func copyBytes(to, from *os.File, offset, length int64) error {
	_, err := io.Copy(io.NewOffsetWriter(to, offset), io.NewSectionReader(from, offset, length))
	if err != nil {
		return fmt.Errorf("copy before-image: %w", err)
	}
	return nil
}

// read reads saved blocks; what the file lacks is zero.
func (im *images) read(folder *os.Root, p []byte, offset int64) error {
	f, err := im.open(folder)
	if err != nil {
		return err
	}
	return readFull(f, p, offset)
}

// remove deletes the file and gives up its descriptor.
func (im *images) remove(folder *os.Root) error {
	im.opening.Lock()
	defer im.opening.Unlock()
	var closing error
	if im.file != nil {
		closing = im.file.Close()
		im.file = nil
	}
	err := folder.Remove(im.name)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(closing, err)
}

func (im *images) close() error {
	im.opening.Lock()
	defer im.opening.Unlock()
	if im.file == nil {
		return nil
	}
	f := im.file
	im.file = nil
	return f.Close()
}

// readFull fills p from the file; bytes beyond its end are zero.
func readFull(f *os.File, p []byte, offset int64) error {
	n, err := f.ReadAt(p, offset)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	if err != nil {
		return fmt.Errorf("read at %d: %w", offset, err)
	}
	return nil
}
