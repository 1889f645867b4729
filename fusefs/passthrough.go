package fusefs

import (
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Requests of /dev/fuse, from the kernel's fuse.h.
const (
	backingOpen  = 0x4010e501 // FUSE_DEV_IOC_BACKING_OPEN
	backingClose = 0x4004e502 // FUSE_DEV_IOC_BACKING_CLOSE
)

// openBacking tells the kernel which file to go to for the node; opening is
// held.
func (f *filter) openBacking(n *node, fd int) error {
	backing := fuse.BackingMap{Fd: int32(fd)}
	id, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fuseDevice.Load()), backingOpen, uintptr(unsafe.Pointer(&backing)))
	switch errno {
	case 0:
		n.backing = int32(id)
		n.record.SetBacking(n.backing)
		return nil
	case syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOTTY:
		if f.passthrough.Swap(false) {
			f.log.Warn("kernel passthrough is not to be had: all files are served by the filter", "error", errno)
		}
	default: // this file system or this file cannot
	}
	return errno
}

// closeBacking takes it back after the last close; opening is held.
func (f *filter) closeBacking(n *node) {
	if n.use != usePassthrough {
		return
	}
	n.use = useFilter
	n.record.SetBacking(0)
	id := n.backing
	device := f.fuseDevice.Load()
	if device < 0 {
		return // it went with the mount
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), backingClose, uintptr(unsafe.Pointer(&id))); errno != 0 {
		f.log.Warn("the kernel keeps a backing file", "backing", id, "error", errno)
	}
}
