package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"lifeboat/fusefs/handover"
)

// place is a name in a directory, by a descriptor of that; the zero value is
// none.
type place struct {
	dir  int
	name string
}

// identities are what the names of a request stand for.
type identities = [2]handover.Identity

var noInode handover.Identity

// once executes a request that changes names, unless a filter that died had
// executed it and only not answered: then it is again, and what follows from it
// has to be seen to as if it had just been done.
//
// What was done can be seen: the kernel lets nobody else change the directories
// of a request before it is answered, so the names stand for what they stood
// for before, or for what the request makes of them; executed tells which. A
// request that failed has changed nothing, so it is simply done.
func (f *filter) once(header *fuse.InHeader, names [2]place, executed func(was, is identities) bool, do func() error) (again bool, was identities, err error) {
	if f.journal == nil {
		return false, was, do()
	}
	is := identities{f.standsFor(names[0]), f.standsFor(names[1])}
	entry, begun := f.journal.Begin(header.Unique)
	if begun {
		if was = entry.Before(); executed(was, is) {
			return true, was, nil
		}
	}
	entry.Intend(is)
	return false, is, do()
}

// standsFor tells what a name stands for, as far as that can be found out.
func (f *filter) standsFor(p place) handover.Identity {
	if p.name == "" {
		return noInode
	}
	x, err := f.find(p.dir, p.name)
	if err != nil {
		return noInode
	}
	closeFD(x.fd)
	return handover.Identity{Device: x.key.file.Device, Inode: x.key.file.Inode, Key: x.key.handle}
}

// made tells that the first name came to be.
func made(was, is identities) bool { return was[0] == noInode && is[0] != noInode }

// removed tells that the first name went.
func removed(was, is identities) bool { return was[0] != noInode && is[0] != was[0] }

// renamed tells that the second name stands for what the first one did, whether
// that went, was exchanged, or left a whiteout.
func renamed(was, is identities) bool {
	return was[0] != noInode && is[1] == was[0] && is[0] != was[0]
}

// nameRemovedBefore follows up on an inode that lost a name to a filter that
// died: that one may not have come to it.
func (f *filter) nameRemovedBefore(x handover.Identity) {
	key := nodeKey{file: FileID{Device: x.Device, Inode: x.Inode}, handle: x.Key}
	n := f.nodes.known(key)
	if n == nil {
		if disk := f.nodes.disk(key.file, false); disk != nil {
			disk.NameRemoved()
		}
		return
	}
	n.gate.RLock()
	disk := n.disk
	n.gate.RUnlock()
	if disk != nil {
		disk.NameRemoved()
	}
}
