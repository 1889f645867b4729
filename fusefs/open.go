package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// use says who serves the I/O of an open file. All opens of an inode agree,
// since the kernel fails those that do not: the first one decides, and it holds
// until the last one is closed.
type use int

const (
	useFilter      use = iota // requests come here
	usePassthrough            // the kernel goes to the file below
)

// stamp tells two states of a file apart.
type stamp struct {
	size         int64
	mtime, ctime syscall.Timespec
}

func stampOf(fd int) (stamp, bool) {
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return stamp{}, false
	}
	return stamp{size: s.Size, mtime: s.Mtim, ctime: s.Ctim}, true
}

// Open opens a file. O_TRUNC does not come here: the kernel sends a change of
// size after it.
func (f *filter) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	return status(f.open(n, in.Unique, in.Flags&unix.O_ACCMODE, out))
}

// open opens the node for a request, which is counted once however often the
// kernel sends it.
func (f *filter) open(n *node, unique uint64, access uint32, out *fuse.OpenOut) error {
	n.opening.Lock()
	defer n.opening.Unlock()
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.gone {
		return syscall.ESTALE
	}
	descriptor := f.reader
	if access != unix.O_RDONLY {
		descriptor = f.writer
	}
	fd, err := descriptor(n)
	if err != nil {
		return err
	}
	keep := true
	if n.opens.Load() == 0 {
		n.use = f.decide(n, fd)
		// What the kernel has cached is good if nobody changed the file since
		// the mount's last user closed it.
		now, ok := stampOf(fd)
		keep = ok && now == n.left
	}
	if e, _ := f.journal.Begin(unique); !e.Finished() {
		n.record.SetOpens(uint64(n.opens.Add(1)))
		e.Finish()
	}
	f.keepOpened(n)
	switch {
	case n.use == usePassthrough:
		out.OpenFlags = fuse.FOPEN_PASSTHROUGH
		out.BackingID = n.backing
		f.counters.passthroughOpens.Add(1)
	case keep:
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	return nil
}

// decide chooses who serves a file from its first open on; opening and gate are
// held.
func (f *filter) decide(n *node, fd int) use {
	// The kernel writes to a passed-through file with this process's rights, so
	// nobody would clear suid and sgid bits.
	if !f.passthrough.Load() || n.disk != nil || n.setid.Load() || f.looksLikeDisk(n, fd) {
		return useFilter
	}
	if err := f.openBacking(n, fd); err != nil {
		return useFilter
	}
	return usePassthrough
}

// Release is called once for every Open and Create, some time after the close.
func (f *filter) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return
	}
	n.opening.Lock()
	defer n.opening.Unlock()
	e, _ := f.journal.Begin(in.Unique)
	if n.opens.Load() == 0 || e.Finished() {
		return
	}
	e.Finish()
	left := n.opens.Add(-1)
	n.record.SetOpens(uint64(left))
	if left > 0 {
		return
	}
	f.closeBacking(n)
	n.gate.RLock()
	defer n.gate.RUnlock()
	if fd := n.data.Load(); fd >= 0 {
		n.left, _ = stampOf(int(fd))
		f.idle.add(n)
	}
}

// Fsync makes a file durable: this is what a guest's flush becomes.
func (f *filter) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	fd, err := f.reader(n)
	if err != nil {
		return status(err)
	}
	const dataOnly = 1
	if in.FsyncFlags&dataOnly != 0 {
		return status(ignoringEINTR(func() error { return unix.Fdatasync(fd) }))
	}
	return status(ignoringEINTR(func() error { return unix.Fsync(fd) }))
}

// Flush has nothing to do when a descriptor is closed, and ENOSYS spares the
// kernel asking again.
func (f *filter) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }
