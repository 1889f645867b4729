package fusefs

import (
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// node is an inode that the kernel knows by id.
//
// Locks are taken in this order: opening, gate, opener. The gates of several
// nodes are taken directories first, then files, each in the order of their
// ids; nobody waits for the gate of a directory for writing while it is in
// use.
type node struct {
	id     uint64
	key    nodeKey
	handle unix.FileHandle
	kind   uint32 // the file type bits of its mode
	record *handover.Record

	lookups uint64 // what the kernel will forget; guarded by the table's lock

	// gate, held for reading, keeps descriptors and disk as they are. It is
	// held for writing to change them and by what changes the file's size.
	gate sync.RWMutex
	disk Disk // nil if the file is not protected
	gone bool // forgotten: nothing may be opened any more

	opener   sync.Mutex   // serialises opening the three descriptors
	kept     bool         // the keeper holds a descriptor, too; guarded by opener
	path     atomic.Int32 // O_PATH or better, -1 if not open
	data     atomic.Int32 // for I/O, -1 if not open
	direct   atomic.Int32 // for I/O past the page cache, or directClosed, or directRefused
	writable atomic.Bool  // data may be written to
	held     atomic.Bool  // path is the only way to the inode
	recent   atomic.Bool  // used since the idle list last looked

	// removed tells that the last name of the inode is gone.
	removed atomic.Bool
	// losing tells that the inode loses a name, or has lost one: the keeper has
	// to hold it for who has it open, and for who opens it.
	losing atomic.Bool
	// setid tells that the mode may have suid or sgid bits, which a write of an
	// unprivileged process has to clear.
	setid atomic.Bool
	names atomic.Uint32 // nameDisk, nameExcluded: of any name it was seen by

	opening sync.Mutex   // guards what follows
	opens   atomic.Int64 // changed under opening only
	use     use
	backing int32 // the kernel's id of the backing file, if use is usePassthrough
	left    stamp // how the file was when it was last closed
}

func newNode(x *found) *node {
	n := &node{key: x.key, handle: x.handle, kind: x.stat.Mode & unix.S_IFMT}
	n.path.Store(-1)
	n.data.Store(-1)
	n.direct.Store(directClosed)
	return n
}

// acquire returns the node with this id, its gate held for reading.
func (f *filter) acquire(id uint64) (*node, error) {
	n := f.nodes.get(id)
	if n == nil {
		return nil, syscall.ESTALE
	}
	n.gate.RLock()
	if n.gone {
		n.gate.RUnlock()
		return nil, syscall.ESTALE
	}
	return n, nil
}

// acquireTwo does so for two nodes of the same kind, which may be one.
// release lets go of both.
func (f *filter) acquireTwo(a, b uint64) (first, second *node, release func(), err error) {
	if a == b {
		n, err := f.acquire(a)
		if err != nil {
			return nil, nil, nil, err
		}
		return n, n, n.gate.RUnlock, nil
	}
	low, err := f.acquire(min(a, b))
	if err != nil {
		return nil, nil, nil, err
	}
	high, err := f.acquire(max(a, b))
	if err != nil {
		low.gate.RUnlock()
		return nil, nil, nil, err
	}
	release = func() {
		high.gate.RUnlock()
		low.gate.RUnlock()
	}
	if a < b {
		return low, high, release, nil
	}
	return high, low, release, nil
}

// pathOf returns a descriptor of the node's inode, good as long as the caller
// holds the gate.
func (f *filter) pathOf(n *node) (int, error) {
	if fd := n.path.Load(); fd >= 0 {
		n.touch()
		return int(fd), nil
	}
	n.opener.Lock()
	defer n.opener.Unlock()
	return f.openPath(n)
}

// openPath wants opener held.
func (f *filter) openPath(n *node) (int, error) {
	if fd := n.path.Load(); fd >= 0 {
		return int(fd), nil
	}
	if n.key.handle == "" {
		return -1, syscall.ESTALE
	}
	fd, err := unix.OpenByHandleAt(f.root, n.handle, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return -1, err
	}
	n.path.Store(int32(fd))
	f.idle.add(n)
	return fd, nil
}

// reader returns a descriptor to read the file with, good as long as the
// caller holds the gate.
func (f *filter) reader(n *node) (int, error) {
	if fd := n.data.Load(); fd >= 0 {
		return int(fd), nil
	}
	return f.openData(n, unix.O_RDONLY)
}

// writer returns a descriptor to change the file with, good as long as the
// caller holds the gate.
func (f *filter) writer(n *node) (int, error) {
	if fd := n.data.Load(); fd >= 0 && n.writable.Load() {
		return int(fd), nil
	}
	return f.openData(n, unix.O_WRONLY)
}

// openData opens the file read-write, or else only as needed: the right to
// either may be lacking, and the file system may be read-only.
func (f *filter) openData(n *node, need int) (int, error) {
	n.opener.Lock()
	defer n.opener.Unlock()
	if fd := n.data.Load(); fd >= 0 {
		if need == unix.O_RDONLY || n.writable.Load() {
			return int(fd), nil
		}
		return f.upgradeData(n, int(fd))
	}
	path, err := f.openPath(n)
	if err != nil {
		return -1, err
	}
	fd, err := reopen(path, unix.O_RDWR)
	n.writable.Store(err == nil)
	if err != nil {
		if fd, err = reopen(path, need); err != nil {
			return -1, err
		}
		n.writable.Store(need != unix.O_RDONLY)
	}
	n.data.Store(int32(fd))
	f.idle.add(n)
	return fd, nil
}

// upgradeData puts a descriptor that can write in the place of one that cannot.
// Others may be using the number right now, so it stays and its meaning
// changes at once.
func (f *filter) upgradeData(n *node, old int) (int, error) {
	fd, err := reopen(old, unix.O_RDWR)
	if err != nil {
		return -1, err
	}
	defer closeFD(fd)
	if err := unix.Dup3(fd, old, unix.O_CLOEXEC); err != nil {
		return -1, err
	}
	n.writable.Store(true)
	return old, nil
}

// reopen opens the inode of fd anew.
func reopen(fd, flags int) (int, error) {
	return unix.Open(descriptorPath(fd), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
}

// touch notes a use, for the idle list. It writes only if there is something
// to write, so that readers do not fight for the cache line.
func (n *node) touch() {
	if !n.recent.Load() {
		n.recent.Store(true)
	}
}

// adopt takes a descriptor of the node's inode over and holds it for as long
// as the node lives, if hold is set; or keeps it for the next use; or closes it
// if there is one already.
func (f *filter) adopt(n *node, fd int, hold bool) {
	n.opener.Lock()
	defer n.opener.Unlock()
	if hold {
		n.held.Store(true)
		f.keepLosing(n, fd)
	}
	if n.path.Load() >= 0 {
		closeFD(fd)
		return
	}
	n.path.Store(int32(fd))
	if !hold {
		f.idle.add(n)
	}
}

// drop closes the node's descriptors for good. The kernel has forgotten it.
func (n *node) drop() {
	n.gate.Lock()
	defer n.gate.Unlock()
	n.gone = true
	n.disk = nil
	closeFD(int(n.data.Swap(-1)))
	n.closeDirect()
	closeFD(int(n.path.Swap(-1)))
}
