package fusefs

import (
	"math/bits"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// hidden tells whether a name is the state folder's, which the mount does not
// have: it is not found, not listed, and cannot be made.
func hidden(dir uint64, name string) bool {
	return dir == fuse.FUSE_ROOT_ID && name == StateFolder
}

// Lookup finds a name.
func (f *filter) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if hidden(header.NodeId, name) {
		return fuse.ENOENT
	}
	dir, err := f.acquire(header.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.gate.RUnlock()
	return status(f.lookup(dir, name, out))
}

// lookup wants the directory's gate held.
func (f *filter) lookup(dir *node, name string, out *fuse.EntryOut) error {
	fd, err := f.pathOf(dir)
	if err != nil {
		return err
	}
	x, err := f.find(fd, name)
	if err != nil {
		return err
	}
	_, err = f.enter(x, name, out)
	return err
}

// enter gives the kernel an inode's node, and takes the descriptor of x over.
func (f *filter) enter(x *found, name string, out *fuse.EntryOut) (*node, error) {
	n, made, err := f.nodes.enter(x)
	if err != nil {
		closeFD(x.fd)
		f.log.Error("an inode cannot be served", "error", err)
		return nil, syscall.ENFILE
	}
	if made && f.protect != nil && n.kind == unix.S_IFREG {
		f.protectNew(n)
	}
	f.named(n, name)
	f.adopt(n, x.fd, x.key.handle == "" || x.stat.Nlink == 0)
	out.NodeId = n.id
	out.Generation = 1 // ids are never used twice
	out.SetEntryTimeout(timeout)
	out.SetAttrTimeout(timeout)
	f.attributes(n, &x.stat, &out.Attr)
	return n, nil
}

func (f *filter) protectNew(n *node) {
	n.gate.Lock()
	defer n.gate.Unlock()
	if n.disk == nil {
		n.disk = f.protect(n.key.file)
	}
}

// attributes fills in what the kernel is told of an inode, and remembers what
// the write path wants to know.
func (f *filter) attributes(n *node, s *syscall.Stat_t, out *fuse.Attr) {
	out.FromStat(s)
	out.Ino = f.inode(s.Dev, s.Ino)
	n.setid.Store(s.Mode&(unix.S_ISUID|unix.S_ISGID) != 0)
}

// inode is the inode number that the mount shows. Files of other file systems
// that are mounted inside of the folder get another one, or two files could
// look like links of one.
func (f *filter) inode(device, inode uint64) uint64 {
	if device == f.device {
		return inode
	}
	return inode ^ bits.RotateLeft64(device+1, 40)
}

// GetAttr tells an inode's attributes.
func (f *filter) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	return status(f.stat(n, out))
}

// stat wants the gate held.
func (f *filter) stat(n *node, out *fuse.AttrOut) error {
	fd := int(n.data.Load())
	if fd < 0 {
		var err error
		if fd, err = f.pathOf(n); err != nil {
			return err
		}
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return err
	}
	f.attributes(n, &s, &out.Attr)
	out.SetTimeout(timeout)
	return nil
}

// StatFs tells about the file system below.
func (f *filter) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	fd, err := f.pathOf(n)
	if err != nil {
		return status(err)
	}
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &s); err != nil {
		return status(err)
	}
	out.FromStatfsT(&s)
	return fuse.OK
}

// Readlink reads a symbolic link.
func (f *filter) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	n, err := f.acquire(header.NodeId)
	if err != nil {
		return nil, status(err)
	}
	defer n.gate.RUnlock()
	fd, err := f.pathOf(n)
	if err != nil {
		return nil, status(err)
	}
	target := make([]byte, unix.PathMax)
	k, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return nil, status(err)
	}
	return target[:k], fuse.OK
}
