package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// SetAttr changes attributes. The owner comes before the mode, since a change
// of owner clears suid and sgid bits.
func (f *filter) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if size, ok := in.GetSize(); ok {
		if err := f.setSize(in.NodeId, int64(size), in.Valid&fuse.FATTR_KILL_SUIDGID != 0); err != nil {
			return status(err)
		}
	}
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	fd, err := f.pathOf(n)
	if err != nil {
		return status(err)
	}
	if err := setOwner(fd, in); err != nil {
		return status(err)
	}
	if mode, ok := in.GetMode(); ok {
		if err := unix.Chmod(descriptorPath(fd), mode); err != nil {
			return status(err)
		}
	}
	if err := setTimes(fd, in); err != nil {
		return status(err)
	}
	return status(f.stat(n, out))
}

// setSize gives a file another size. It holds the gate alone, so that the size
// before is known for sure.
func (f *filter) setSize(id uint64, size int64, killSetid bool) error {
	return f.resize(id, func(n *node, fd int, before int64) error {
		if n.disk != nil {
			n.disk.BeginResize(min(before, size))
			defer n.disk.EndResize()
		}
		if err := ignoringEINTR(func() error { return unix.Ftruncate(fd, size) }); err != nil {
			return err
		}
		if killSetid {
			n.clearSetid(fd)
		}
		return nil
	})
}

// resize calls change with the node's gate held alone, a descriptor that can
// write, and the size that the file has.
func (f *filter) resize(id uint64, change func(n *node, fd int, before int64) error) error {
	n := f.nodes.get(id)
	if n == nil {
		return syscall.ESTALE
	}
	n.gate.Lock()
	defer n.gate.Unlock()
	if n.gone {
		return syscall.ESTALE
	}
	fd, err := f.writer(n)
	if err != nil {
		return err
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return err
	}
	return change(n, fd, s.Size)
}

func setOwner(fd int, in *fuse.SetAttrIn) error {
	uid, gid := -1, -1
	if id, ok := in.GetUID(); ok {
		uid = int(id)
	}
	if id, ok := in.GetGID(); ok {
		gid = int(id)
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

func setTimes(fd int, in *fuse.SetAttrIn) error {
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) == 0 {
		return nil
	}
	times := []unix.Timespec{
		timeToSet(in.Valid&fuse.FATTR_ATIME != 0, in.Valid&fuse.FATTR_ATIME_NOW != 0, in.Atime, in.Atimensec),
		timeToSet(in.Valid&fuse.FATTR_MTIME != 0, in.Valid&fuse.FATTR_MTIME_NOW != 0, in.Mtime, in.Mtimensec),
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, descriptorPath(fd), times, 0)
}

func timeToSet(set, now bool, seconds uint64, nanoseconds uint32) unix.Timespec {
	switch {
	case now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case set:
		return unix.Timespec{Sec: int64(seconds), Nsec: int64(nanoseconds)}
	default:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
}

// clearSetid takes the suid bit away, and the sgid bit if the group may
// execute, as the kernel does when an unprivileged process writes to a local
// file. File capabilities need no help: the file system below drops them on any
// write.
func (n *node) clearSetid(fd int) {
	if !n.setid.Load() {
		return
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return // the next write tries again
	}
	kill := uint32(unix.S_ISUID)
	if s.Mode&unix.S_IXGRP != 0 {
		kill |= unix.S_ISGID
	}
	if s.Mode&kill != 0 {
		if err := unix.Fchmod(fd, s.Mode&^kill&0o7777); err != nil {
			return
		}
	}
	n.setid.Store(s.Mode&^kill&(unix.S_ISUID|unix.S_ISGID) != 0)
}

// ignoringEINTR repeats a system call that a signal to this process broke off
// before it did anything.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // system calls return it bare
			return err
		}
	}
}
