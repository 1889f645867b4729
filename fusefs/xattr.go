package fusefs

import (
	"bytes"
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
		err := unix.Setxattr(path, name, value[:in.Size], int(in.Flags))
		if err == unix.EEXIST && handover.Resent(in.Unique) && hasXAttr(path, name, value[:in.Size]) {
			return nil // done by a filter that died before it answered
		}
		return err
	}))
}

// RemoveXAttr removes an extended attribute.
func (f *filter) RemoveXAttr(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return status(f.withPath(header.NodeId, func(path string) error {
		err := unix.Removexattr(path, name)
		if err == unix.ENODATA && handover.Resent(header.Unique) {
			return nil // done by a filter that died before it answered
		}
		return err
	}))
}

// hasXAttr tells whether an attribute has a value.
func hasXAttr(path, name string, value []byte) bool {
	is := make([]byte, len(value)+1)
	size, err := unix.Getxattr(path, name, is)
	return err == nil && bytes.Equal(is[:size], value)
}

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
