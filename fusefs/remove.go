package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// Unlink removes a name.
func (f *filter) Unlink(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return f.remove(header, name, 0)
}

// Rmdir removes a directory.
func (f *filter) Rmdir(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return f.remove(header, name, unix.AT_REMOVEDIR)
}

func (f *filter) remove(header *fuse.InHeader, name string, flags int) fuse.Status {
	if hidden(header.NodeId, name) {
		return fuse.ENOENT
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
	var victim *found
	again, was, err := f.once(header, [2]place{{fd, name}}, removed, func() error {
		if victim, err = f.find(fd, name); err != nil {
			return err
		}
		f.keepVictim(victim)
		return unix.Unlinkat(fd, name, flags)
	})
	f.followRemoval(victim, again, was[0], err)
	return status(err)
}

// Rename moves a name, or with RENAME_EXCHANGE two. Protection goes with the
// inode; only the disk whose name another file takes is told.
func (f *filter) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if hidden(in.NodeId, oldName) {
		return fuse.ENOENT
	}
	if hidden(in.Newdir, newName) {
		return fuse.EPERM
	}
	from, to, release, err := f.acquireTwo(in.NodeId, in.Newdir)
	if err != nil {
		return status(err)
	}
	defer release()
	fromFD, err := f.pathOf(from)
	if err != nil {
		return status(err)
	}
	toFD, err := f.pathOf(to)
	if err != nil {
		return status(err)
	}
	var victim *found
	again, was, err := f.once(&in.InHeader, [2]place{{fromFD, oldName}, {toFD, newName}}, renamed, func() error {
		if victim, err = f.overwritten(fromFD, oldName, toFD, newName, in.Flags); err != nil {
			return err
		}
		f.keepVictim(victim)
		return unix.Renameat2(fromFD, oldName, toFD, newName, uint(in.Flags))
	})
	f.followRemoval(victim, again && in.Flags&unix.RENAME_EXCHANGE == 0, was[1], err)
	if err != nil {
		return status(err)
	}
	f.nowNamed(toFD, newName)
	if in.Flags&unix.RENAME_EXCHANGE != 0 {
		f.nowNamed(fromFD, oldName)
	}
	return fuse.OK
}

// followRemoval follows up on a request that took a name from victim, or, if
// again is set, from what before tells of, or failed.
func (f *filter) followRemoval(victim *found, again bool, before handover.Identity, err error) {
	switch {
	case victim != nil && err != nil:
		closeFD(victim.fd)
	case victim != nil:
		f.nameRemoved(victim)
	case again && before != noInode:
		f.nameRemovedBefore(before)
	}
}

// overwritten returns the inode that loses its name to a rename, or nil.
func (f *filter) overwritten(from int, oldName string, to int, newName string, flags uint32) (*found, error) {
	if flags&(unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE) != 0 {
		return nil, nil
	}
	victim, err := f.find(to, newName)
	if err == unix.ENOENT { //nolint:errorlint // system calls return it bare
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s unix.Stat_t
	err = unix.Fstatat(from, oldName, &s, unix.AT_SYMLINK_NOFOLLOW)
	same := err == nil && s.Dev == victim.stat.Dev && s.Ino == victim.stat.Ino
	if err != nil || same { // renaming a link over another one of the same inode does nothing
		closeFD(victim.fd)
		return nil, err
	}
	return victim, nil
}

// nameRemoved follows up on an inode that has lost a name, and takes its
// descriptor over. An inode without names stays in use through what the kernel
// has open, so its node holds on to it.
func (f *filter) nameRemoved(x *found) {
	var s syscall.Stat_t
	last := syscall.Fstat(x.fd, &s) == nil && (s.Nlink == 0 || s.Mode&unix.S_IFMT == unix.S_IFDIR)
	var disk Disk
	n := f.nodes.known(x.key)
	if n != nil {
		n.gate.RLock()
		if n.gone {
			n.gate.RUnlock()
			n = nil
		}
	}
	if n != nil {
		disk = n.disk
		if last {
			n.removed.Store(true)
			f.adopt(n, x.fd, true)
		}
		n.gate.RUnlock()
	} else {
		disk = f.nodes.disk(x.key.file, last)
	}
	if n == nil || !last {
		closeFD(x.fd)
	}
	if disk != nil {
		disk.NameRemoved()
	}
}

// nowNamed notes the name that an inode has got.
func (f *filter) nowNamed(dir int, name string) {
	x, err := f.find(dir, name)
	if err != nil {
		return // it has been moved on
	}
	defer closeFD(x.fd)
	if n := f.nodes.known(x.key); n != nil {
		f.named(n, name)
	}
}
