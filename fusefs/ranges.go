package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// movesData are the modes of fallocate that move what lies behind the
	// range.
	movesData = unix.FALLOC_FL_COLLAPSE_RANGE | unix.FALLOC_FL_INSERT_RANGE

	// A copy of a disk's data is cut short, since no rollover is complete until
	// it is done; the caller goes on from there.
	maxCopyToDisk = 8 << 20
	// Another copy is limited by the width of the answer alone.
	maxCopy = 1 << 30
)

// Fallocate allocates, punches, zeroes, collapses or inserts a range.
func (f *filter) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	offset, length := int64(in.Offset), int64(in.Length)
	call := func(fd int) error {
		return ignoringEINTR(func() error { return unix.Fallocate(fd, in.Mode, offset, length) })
	}
	if in.Mode&movesData != 0 {
		return status(f.resize(in.NodeId, func(n *node, fd int, before int64) error {
			if n.disk != nil {
				n.disk.BeginResize(min(before, offset))
				defer n.disk.EndResize()
			}
			if err := call(fd); err != nil {
				return err
			}
			n.changedBy(&in.InHeader, fd)
			return nil
		}))
	}
	return status(f.makingRoom(func() error { return f.clear(&in.InHeader, offset, length, call) }))
}

// clear calls change, which makes zeros of data in a range or allocates it.
func (f *filter) clear(header *fuse.InHeader, offset, length int64, change func(fd int) error) error {
	n, err := f.acquire(header.NodeId)
	if err != nil {
		return err
	}
	defer n.gate.RUnlock()
	fd, err := f.writer(n)
	if err != nil {
		return err
	}
	if n.disk != nil {
		defer n.disk.EndChange(n.disk.BeginClear(offset, length))
	}
	if err := change(fd); err != nil {
		return err
	}
	n.changedBy(header, fd)
	return nil
}

// changedBy clears suid and sgid bits for a caller who has changed the file
// otherwise than by a write or a truncation. For those the kernel tells whether
// he may leave them; here it leaves all to us, and only root may.
func (n *node) changedBy(header *fuse.InHeader, fd int) {
	if header.Uid != 0 {
		n.clearSetid(fd)
	}
}

// CopyFileRange copies inside the file system below, which may share the data
// instead.
func (f *filter) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	var copied int
	err := f.makingRoom(func() (err error) {
		copied, err = f.copyRange(in)
		return err
	})
	return uint32(max(copied, 0)), status(err)
}

func (f *filter) copyRange(in *fuse.CopyFileRangeIn) (int, error) {
	from, to, release, err := f.acquireTwo(in.NodeId, in.NodeIdOut)
	if err != nil {
		return 0, err
	}
	defer release()
	source, err := f.reader(from)
	if err != nil {
		return 0, err
	}
	dest, err := f.writer(to)
	if err != nil {
		return 0, err
	}
	offIn, offOut := int64(in.OffIn), int64(in.OffOut)
	length := int64(min(in.Len, maxCopy))
	if to.disk != nil {
		var s syscall.Stat_t
		if err := syscall.Fstat(source, &s); err != nil {
			return 0, err
		}
		length = min(length, maxCopyToDisk, s.Size-offIn)
		if length <= 0 {
			return 0, nil // nothing to copy from
		}
		defer to.disk.EndChange(to.disk.BeginChange(offOut, length))
	}
	copied, err := unix.CopyFileRange(source, &offIn, dest, &offOut, int(length), int(in.Flags))
	if copied > 0 {
		to.changedBy(&in.InHeader, dest)
	}
	return copied, err
}

// Lseek finds data and holes. The position that it moves is nobody's.
func (f *filter) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return fuse.EINVAL // the kernel does the others itself
	}
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	fd, err := f.reader(n)
	if err != nil {
		return status(err)
	}
	offset, err := unix.Seek(fd, int64(in.Offset), int(in.Whence))
	if err != nil {
		return status(err)
	}
	out.Offset = uint64(offset)
	return fuse.OK
}
