package fusefs

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	// ErrAttached says that the file has a Disk already.
	ErrAttached = errors.New("the file has a disk attached already")
	// ErrOtherDevice says that the file lies on another file system that is
	// mounted inside of the folder.
	ErrOtherDevice = errors.New("the file lies on another file system than the folder: protect it through a mount of its own")
)

// Attach lets every change of the file go through d, from the moment it
// returns on: it waits for the changes in flight. It must not be called where d
// makes BeginChange wait for it.
//
// The error is a *BusyError if a process could change the file unseen: through
// kernel passthrough, or through a descriptor or a mapping of the file below
// the mount.
func (fs *FS) Attach(file FileID, d Disk) error {
	f := fs.filter
	if file.Device != f.device {
		return fmt.Errorf("fusefs: attach inode %d: %w", file.Inode, ErrOtherDevice)
	}
	f.attach.Lock()
	defer f.attach.Unlock()
	if f.nodes.disk(file, false) != nil && !f.early[file] {
		return fmt.Errorf("fusefs: attach inode %d: %w", file.Inode, ErrAttached)
	}
	holders, _, err := holdersBelow(file)
	if err != nil {
		return fmt.Errorf("fusefs: attach inode %d: %w", file.Inode, err)
	}
	if len(holders) > 0 {
		return &BusyError{What: fmt.Sprintf("inode %d is open in the folder below the mount", file.Inode), Holders: holders}
	}
	if f.setDisk(file, d) {
		delete(f.early, file)
		return nil
	}
	holders, err = f.usersAbove(file)
	return errors.Join(&BusyError{
		What:    fmt.Sprintf("inode %d is open with kernel passthrough", file.Inode),
		Holders: holders,
	}, err)
}

// Anticipate attaches an early disk, before the mount is served: one that stands
// for another until that is there, and whose place Attach then takes. It asks
// nothing of anybody: a filter that died had the file attached, and whoever has
// it open came through that one.
func (fs *FS) Anticipate(file FileID, d Disk) {
	f := fs.filter
	f.attach.Lock()
	defer f.attach.Unlock()
	if file.Device == f.device && f.setDisk(file, d) {
		f.early[file] = true
	}
}

// Detach ends what Attach began, and Watch. When it returns, neither the Disk
// nor the Witness is called any more.
func (fs *FS) Detach(file FileID) {
	f := fs.filter
	f.watch.forget(file)
	f.attach.Lock()
	defer f.attach.Unlock()
	f.setDisk(file, nil)
	delete(f.early, file)
}

// setDisk gives the inode, and the node it has or will have, a disk. It reports
// false and does nothing if the file is open with passthrough.
func (f *filter) setDisk(file FileID, d Disk) bool {
	for {
		nodes := f.nodes.of(file)
		lockAll(nodes)
		done, ok := f.setDiskLocked(file, d, nodes)
		unlockAll(nodes)
		if done {
			return ok
		}
	}
}

func (f *filter) setDiskLocked(file FileID, d Disk, nodes []*node) (done, ok bool) {
	for _, n := range nodes {
		if d != nil && n.use == usePassthrough {
			return true, false
		}
	}
	if !f.nodes.setDisk(file, d, len(nodes)) {
		return false, false // a node was made meanwhile
	}
	for _, n := range nodes {
		if !n.gone {
			n.disk = d
		}
	}
	return true, true
}

func lockAll(nodes []*node) {
	for _, n := range nodes {
		n.opening.Lock()
		n.gate.Lock()
	}
}

func unlockAll(nodes []*node) {
	for _, n := range nodes {
		n.gate.Unlock()
		n.opening.Unlock()
	}
}

// Identify returns the inode of a regular file by its path relative to the
// folder, without following symbolic links or leaving the folder.
func (fs *FS) Identify(path string) (FileID, error) {
	fd, err := unix.Openat2(fs.filter.root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return FileID{}, fmt.Errorf("fusefs: find %s in the folder: %w", path, err)
	}
	defer closeFD(fd)
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return FileID{}, fmt.Errorf("fusefs: find %s in the folder: %w", path, err)
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return FileID{}, fmt.Errorf("fusefs: %s is not a regular file", path)
	}
	return FileID{Device: s.Dev, Inode: s.Ino}, nil
}
