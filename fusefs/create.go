package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const permissions = 0o7777 // the bits of a mode that are no file type

// Mkdir makes a directory.
func (f *filter) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, name, in.Mode&permissions, out, func(dir int) error {
		return unix.Mkdirat(dir, name, in.Mode&permissions)
	})
}

// Mknod makes a file of any kind but a directory or a symbolic link.
func (f *filter) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, name, in.Mode&permissions, out, func(dir int) error {
		return unix.Mknodat(dir, name, in.Mode, int(in.Rdev))
	})
}

// Symlink makes a symbolic link.
func (f *filter) Symlink(_ <-chan struct{}, header *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(header, name, 0, out, func(dir int) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// make makes something that has a new inode, gives it to the caller, and
// answers like Lookup.
func (f *filter) make(header *fuse.InHeader, name string, mode uint32, out *fuse.EntryOut, call func(dir int) error) fuse.Status {
	if hidden(header.NodeId, name) {
		return fuse.EPERM
	}
	dir, err := f.acquire(header.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.gate.RUnlock()
	fd, err := f.pathOf(dir)
	if err != nil {
		return status(err)
	}
	if _, _, err := f.once(header, [2]place{{fd, name}}, made, func() error { return call(fd) }); err != nil {
		return status(err)
	}
	x, err := f.find(fd, name)
	if err != nil {
		return status(err)
	}
	if err := f.giveAway(x, fd, header, mode); err != nil {
		closeFD(x.fd)
		return status(f.undo(fd, name, x.stat.Mode&unix.S_IFMT == unix.S_IFDIR, err))
	}
	_, err = f.enter(x, name, out)
	return status(err)
}

// Link gives an inode another name. It also names what O_TMPFILE made.
func (f *filter) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if hidden(in.NodeId, name) {
		return fuse.EPERM
	}
	dir, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.gate.RUnlock()
	n, err := f.acquire(in.Oldnodeid)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	to, err := f.pathOf(dir)
	if err != nil {
		return status(err)
	}
	from, err := f.pathOf(n)
	if err != nil {
		return status(err)
	}
	_, _, err = f.once(&in.InHeader, [2]place{{to, name}}, made, func() error {
		return unix.Linkat(unix.AT_FDCWD, descriptorPath(from), to, name, unix.AT_SYMLINK_FOLLOW)
	})
	if err != nil {
		return status(err)
	}
	n.removed.Store(false)
	return status(f.lookup(dir, name, out))
}

// Create makes a regular file and opens it. If the name exists after all,
// somebody made it behind the mount's back between the kernel's lookup and now:
// ESTALE makes the kernel look again and open what it finds, with the checks
// of rights (and the tracking of O_TRUNC) that Create goes without.
func (f *filter) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if hidden(in.NodeId, name) {
		return fuse.EPERM
	}
	st := f.makeOpen(in, name, out, func(dir int) (int, error) {
		return unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, in.Mode&permissions)
	})
	if st == fuse.Status(syscall.EEXIST) && in.Flags&unix.O_EXCL == 0 {
		return fuse.Status(syscall.ESTALE)
	}
	return st
}

// Tmpfile makes a regular file without a name and opens it.
func (f *filter) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return f.makeOpen(in, "", out, func(dir int) (int, error) {
		flags := unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC | int(in.Flags&unix.O_EXCL)
		return unix.Open(descriptorPath(dir), flags, in.Mode&permissions)
	})
}

func (f *filter) makeOpen(in *fuse.CreateIn, name string, out *fuse.CreateOut, call func(dir int) (int, error)) fuse.Status {
	dir, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.gate.RUnlock()
	at, err := f.pathOf(dir)
	if err != nil {
		return status(err)
	}
	var fd int
	again, _, err := f.once(&in.InHeader, [2]place{{at, name}}, made, func() (err error) {
		fd, err = call(at)
		return err
	})
	if again { // the file is there, and nobody else has it
		fd, err = unix.Openat(at, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return status(err)
	}
	n, err := f.enterNew(in, name, fd, at, &out.EntryOut)
	if err != nil {
		closeFD(fd)
		if name == "" {
			return status(err)
		}
		return status(f.undo(at, name, false, err))
	}
	return status(f.open(n, in.Unique, unix.O_RDWR, &out.OpenOut))
}

// enterNew gives a file that fd has just made to its creator and to the kernel,
// with fd as its descriptor for data: it may be the only one that can be had,
// if the file's mode denies what its creator may do.
func (f *filter) enterNew(in *fuse.CreateIn, name string, fd, dir int, out *fuse.EntryOut) (*node, error) {
	path, err := reopen(fd, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	x, err := f.identify(path)
	if err != nil {
		closeFD(path)
		return nil, err
	}
	if err := f.giveAway(x, dir, &in.InHeader, in.Mode&permissions); err != nil {
		closeFD(path)
		return nil, err
	}
	n, err := f.enter(x, name, out)
	if err != nil {
		return nil, err
	}
	n.adoptData(fd)
	if name == "" {
		n.removed.Store(true)
	}
	f.idle.add(n)
	return n, nil
}

func (n *node) adoptData(fd int) {
	n.opener.Lock()
	defer n.opener.Unlock()
	if n.data.Load() >= 0 {
		closeFD(fd)
		return
	}
	n.writable.Store(true)
	n.data.Store(int32(fd))
}

// giveAway makes the caller the owner of what this process has just made for
// him, and looks at it again. A directory with the sgid bit keeps its group for
// what is made in it. Nobody else sees the inode yet: the kernel holds the
// directory.
func (f *filter) giveAway(x *found, dir int, header *fuse.InHeader, mode uint32) error {
	if !f.asRoot {
		return nil
	}
	var parent syscall.Stat_t
	if err := syscall.Fstat(dir, &parent); err != nil {
		return err
	}
	uid, gid := header.Uid, header.Gid
	if parent.Mode&unix.S_ISGID != 0 {
		gid = x.stat.Gid
	}
	if uid == x.stat.Uid && gid == x.stat.Gid {
		return nil
	}
	if err := unix.Fchownat(x.fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if mode&(unix.S_ISUID|unix.S_ISGID) != 0 && x.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := unix.Chmod(descriptorPath(x.fd), mode); err != nil {
			return err
		}
	}
	return syscall.Fstat(x.fd, &x.stat)
}

// undo removes what could not be given to the caller, and returns why.
func (f *filter) undo(dir int, name string, isDir bool, why error) error {
	flags := 0
	if isDir {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(dir, name, flags); err != nil {
		f.log.Error("a half-made file stays behind", "name", name, "error", err)
	}
	return why
}
