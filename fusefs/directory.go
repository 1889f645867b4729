package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// direntBuffer is how much of a directory is read at once.
const direntBuffer = 32 << 10

// OpenDir has nothing to open: reading a directory starts from its node and
// the cookie each time.
func (f *filter) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	if f.nodes.get(in.NodeId) == nil {
		return fuse.Status(syscall.ESTALE)
	}
	return fuse.OK
}

// ReleaseDir has nothing to close.
func (f *filter) ReleaseDir(*fuse.ReleaseIn) {}

// FsyncDir makes the names in a directory durable.
func (f *filter) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer n.gate.RUnlock()
	fd, err := f.openDirectory(n)
	if err != nil {
		return status(err)
	}
	defer closeFD(fd)
	return status(ignoringEINTR(func() error { return unix.Fsync(fd) }))
}

func (f *filter) openDirectory(n *node) (int, error) {
	path, err := f.pathOf(n)
	if err != nil {
		return -1, err
	}
	return unix.Openat(path, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// ReadDir lists names.
func (f *filter) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(_ *node, _ int, e *fuse.DirEntry) bool {
		return out.AddDirEntry(*e)
	})
}

// ReadDirPlus lists names and looks them up.
func (f *filter) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(dir *node, fd int, e *fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(*e)
		if entry == nil {
			return false
		}
		if e.Name == "." || e.Name == ".." {
			return true // these are not counted as looked up
		}
		x, err := f.find(fd, e.Name)
		if err != nil {
			return true // gone meanwhile, or not to be had: the kernel looks it up itself
		}
		if _, err := f.enter(x, e.Name, entry); err == nil {
			out.FixMode(x.stat.Mode)
		}
		return true
	})
}

// list calls add for each entry from the cookie on until it has no room. Each
// call reads with a descriptor of its own: ext4 returns nothing, once, on one
// that was at the end and is set back to the start.
func (f *filter) list(in *fuse.ReadIn, add func(dir *node, fd int, e *fuse.DirEntry) bool) fuse.Status {
	dir, err := f.acquire(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer dir.gate.RUnlock()
	fd, err := f.openDirectory(dir)
	if err != nil {
		return status(err)
	}
	defer closeFD(fd)
	if in.Offset != 0 {
		if _, err := unix.Seek(fd, int64(in.Offset), unix.SEEK_SET); err != nil {
			return status(err)
		}
	}
	buf := make([]byte, direntBuffer)
	for listed := false; ; listed = true {
		k, err := unix.Getdents(fd, buf)
		if k == 0 || listed && err != nil {
			return fuse.OK // an error comes again after what was listed
		}
		if err != nil {
			return status(err)
		}
		for rest := buf[:k]; len(rest) > 0; {
			var e fuse.DirEntry
			rest = rest[e.Parse(rest):]
			if hidden(dir.id, e.Name) {
				continue
			}
			e.Ino = f.inode(dir.key.file.Device, e.Ino)
			if dir.id == fuse.FUSE_ROOT_ID && e.Name == ".." {
				e.Ino = dir.key.file.Inode // what lies above is not the mount's to tell
			}
			if !add(dir, fd, &e) {
				return fuse.OK
			}
		}
	}
}
