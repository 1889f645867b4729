package fusefs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Direct says what becomes of a guest's O_DIRECT. Either way a guest's flush is
// an fsync of the disk file, and a write that has to be durable is so when it
// is answered; O_DIRECT by itself promises nothing of the kind.
type Direct string

const (
	// DirectBuffered answers O_DIRECT from the host's page cache.
	DirectBuffered Direct = "buffered"
	// DirectPass hands O_DIRECT on to the disk file, so that the host's memory
	// holds no second copy of what the guest caches. What the file system
	// below refuses (by its alignment, or at all) goes through the page cache.
	DirectPass Direct = "pass"
)

// Values of node.direct that are no descriptor.
const (
	directClosed  = -1
	directRefused = -2
)

// direct returns a descriptor that bypasses the page cache, if a request with
// these flags is to have one, or -1. The caller holds the gate.
func (f *filter) direct(n *node, flags uint32) int {
	if flags&unix.O_DIRECT == 0 || f.options.Direct != DirectPass {
		return -1
	}
	fd := n.direct.Load()
	if fd == directClosed {
		fd = f.openDirect(n)
	}
	return int(max(fd, -1))
}

func (f *filter) openDirect(n *node) int32 {
	n.opener.Lock()
	defer n.opener.Unlock()
	if fd := n.direct.Load(); fd != directClosed {
		return fd
	}
	opened := int32(directRefused)
	if path, err := f.openPath(n); err == nil {
		if fd, err := reopen(path, unix.O_RDWR|unix.O_DIRECT); err == nil {
			opened = int32(fd)
			f.idle.add(n)
		}
	}
	n.direct.Store(opened)
	return opened
}

// closeDirect closes the descriptor. gate is held for writing.
func (n *node) closeDirect() {
	if fd := n.direct.Swap(directClosed); fd >= 0 {
		closeFD(int(fd))
	}
}

// refusesDirect tells that the same I/O has to be done through the page cache.
func refusesDirect(err error) bool { return errors.Is(err, unix.EINVAL) }
