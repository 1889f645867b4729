package fusefs

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// nodeKey tells inodes apart for as long as a node is known. handle holds the
// type and the bytes of the inode's file handle, which change when the inode
// number is used again; it is empty where the node holds a descriptor, which
// keeps the number from being used again.
type nodeKey struct {
	file   FileID
	handle string
}

// found is an inode of the folder below, held by a descriptor.
type found struct {
	fd     int // O_PATH, or any other kind
	stat   syscall.Stat_t
	key    nodeKey
	handle unix.FileHandle // the zero value if key.handle is empty
}

// find opens a name of a directory without following it.
func (f *filter) find(dir int, name string) (*found, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	x, err := f.identify(fd)
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	return x, nil
}

// identify tells which inode a descriptor holds. It does not take fd over when
// it fails.
func (f *filter) identify(fd int) (*found, error) {
	x := &found{fd: fd}
	if err := syscall.Fstat(fd, &x.stat); err != nil {
		return nil, err
	}
	x.key.file = FileID{Device: x.stat.Dev, Inode: x.stat.Ino}
	if !f.handles || x.stat.Dev != f.device {
		return x, nil
	}
	h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return x, nil // this inode has no handle: the node holds a descriptor
	}
	x.handle = h
	x.key.handle = handleKey(h)
	return x, nil
}

// canOpenHandles tells whether this process may open inodes of the folder's
// file system by their handle: it takes the file system's support and
// CAP_DAC_READ_SEARCH.
func canOpenHandles(root int) bool {
	h, _, err := unix.NameToHandleAt(root, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return false
	}
	fd, err := unix.OpenByHandleAt(root, h, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return false
	}
	closeFD(fd)
	return true
}

// descriptorPath names the inode that fd holds, for the system calls that want
// a path. It never leads through a mount.
func descriptorPath(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd)
}

// closeFD closes a descriptor whose written data, if any, is not at stake:
// Linux frees the descriptor whatever close returns, and durability is fsync's
// business.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
