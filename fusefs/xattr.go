package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// GetXAttr reads an extended attribute; for an empty dest it tells the size.
func (f *filter) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	var size int
	err := f.withPath(header.NodeId, func(path string) (err error) {
		size, err = unix.Getxattr(path, name, dest)
		return err
	})
	return uint32(max(size, 0)), status(err)
}

// ListXAttr lists the names of extended attributes.
func (f *filter) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	var size int
	err := f.withPath(header.NodeId, func(path string) (err error) {
		size, err = unix.Listxattr(path, dest)
		return err
	})
	return uint32(max(size, 0)), status(err)
}

// SetXAttr sets an extended attribute.
func (f *filter) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if int(in.Size) > len(value) {
		return fuse.Status(syscall.EINVAL)
	}
	return status(f.withPath(in.NodeId, func(path string) error {
		begun, had := false, false
		if in.Flags&unix.XATTR_CREATE != 0 {
			begun, had = f.hadXAttr(in.Unique, path, name)
		}
		err := unix.Setxattr(path, name, value[:in.Size], int(in.Flags))
		if err == unix.EEXIST && begun && !had {
			return nil // done by a filter that died before it answered
		}
		return err
	}))
}

// RemoveXAttr removes an extended attribute.
func (f *filter) RemoveXAttr(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return status(f.withPath(header.NodeId, func(path string) error {
		begun, had := f.hadXAttr(header.Unique, path, name)
		err := unix.Removexattr(path, name)
		if err == unix.ENODATA && begun && had {
			return nil // done by a filter that died before it answered
		}
		return err
	}))
}

// hadXAttr notes whether an inode has an attribute, before a request gives or
// takes it, and tells whether a filter that died had begun the request, and
// what that one had noted.
func (f *filter) hadXAttr(unique uint64, path, name string) (begun, had bool) {
	if f.journal == nil {
		return false, false
	}
	is := identities{1: thereIs} // the note itself
	if _, err := unix.Getxattr(path, name, nil); err == nil {
		is[0] = thereIs
	}
	entry, _ := f.journal.Begin(unique)
	if was := entry.Before(); was[1] == thereIs {
		return true, was[0] == thereIs
	}
	entry.Intend(is)
	return false, is[0] == thereIs
}

// thereIs stands in the journal for something that has no identity.
var thereIs = handover.Identity{Inode: 1}

// withPath calls with a path that names the inode itself, links included.
func (f *filter) withPath(id uint64, call func(path string) error) error {
	n, err := f.acquire(id)
	if err != nil {
		return err
	}
	defer n.gate.RUnlock()
	fd, err := f.pathOf(n)
	if err != nil {
		return err
	}
	return call(descriptorPath(fd))
}
