package fusefs

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"lifeboat/fusefs/handover"
)

// A node id is a slot of the table in its low bits and, above, the number that
// the table gave to the node, so that a slot's next user has another id. The
// root has number 0 in slot 1, which makes the id that FUSE gives it.
const (
	slotBits  = handover.SlotBits
	slotMask  = 1<<slotBits - 1
	chunkBits = 12
	chunkSize = 1 << chunkBits
)

var errTooManyNodes = errors.New("fusefs: the kernel holds more inodes than the table has slots")

// table holds the nodes that the kernel knows, and the disks.
// Looking an id up takes no lock.
type table struct {
	chunks [1 << (slotBits - chunkBits)]atomic.Pointer[chunk]
	shared *handover.State // where the next filter finds the nodes; nil if none will come

	mu     sync.Mutex // guards what follows and the nodes' lookups
	byKey  map[nodeKey]*node
	disks  map[FileID]Disk
	free   []uint64 // slots
	fresh  uint64   // slots from here on were never used
	number uint64   // of the node made last
}

type chunk [chunkSize]atomic.Pointer[node]

func newTable(root *node, shared *handover.State) *table {
	t := &table{
		shared: shared,
		byKey:  make(map[nodeKey]*node),
		disks:  make(map[FileID]Disk),
		fresh:  fuse.FUSE_ROOT_ID + 1,
	}
	root.id = fuse.FUSE_ROOT_ID
	root.lookups = 1
	t.byKey[root.key] = root
	t.slot(root.id).Store(root)
	return t
}

// get returns the node with this id, or nil.
func (t *table) get(id uint64) *node {
	slot := id & slotMask
	c := t.chunks[slot>>chunkBits].Load()
	if c == nil {
		return nil
	}
	n := c[slot&(chunkSize-1)].Load()
	if n == nil || n.id != id {
		return nil
	}
	return n
}

// slot returns the place of a node, for writing; mu is held.
func (t *table) slot(id uint64) *atomic.Pointer[node] {
	slot := id & slotMask
	p := &t.chunks[slot>>chunkBits]
	c := p.Load()
	if c == nil {
		c = new(chunk)
		p.Store(c)
	}
	return &c[slot&(chunkSize-1)]
}

// enter counts a lookup of the inode and returns its node, made if there is
// none. The count is raised before the kernel learns of the id; if the answer
// is lost, a node leaks, which harms nobody.
func (t *table) enter(x *found) (n *node, made bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byKey[x.key]; n != nil {
		n.lookups++
		n.record.SetLookups(n.lookups)
		return n, false, nil
	}
	slot := t.fresh
	if k := len(t.free); k > 0 {
		slot = t.free[k-1]
		t.free = t.free[:k-1]
	} else if slot > slotMask {
		return nil, false, errTooManyNodes
	} else {
		t.fresh++
	}
	t.number++
	n = newNode(x)
	n.id = t.number<<slotBits | slot
	n.lookups = 1
	n.disk = t.disks[x.key.file]
	if t.shared != nil {
		n.record = t.shared.Publish(n.shared())
	}
	t.byKey[x.key] = n
	t.slot(n.id).Store(n)
	return n, true, nil
}

// known returns the inode's node if there is one, without counting.
func (t *table) known(key nodeKey) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[key]
}

// forget takes count lookups back and returns the node if that were all. The
// disk of an inode without names goes with its node: the inode number may be
// another file's from now on.
func (t *table) forget(id, count uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.get(id)
	if n == nil || id == fuse.FUSE_ROOT_ID {
		return nil
	}
	if n.lookups > count {
		n.lookups -= count
		n.record.SetLookups(n.lookups)
		return nil
	}
	n.lookups = 0
	delete(t.byKey, n.key)
	if n.removed.Load() {
		delete(t.disks, n.key.file)
	}
	t.slot(id).Store(nil)
	n.record.Clear()
	t.free = append(t.free, id&slotMask)
	return n
}

// all returns the nodes known now.
func (t *table) all() []*node {
	t.mu.Lock()
	defer t.mu.Unlock()
	nodes := make([]*node, 0, len(t.byKey))
	for _, n := range t.byKey {
		nodes = append(nodes, n)
	}
	return nodes
}

// size returns how many nodes the kernel knows.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byKey)
}

// disk returns the disk attached to an inode that has no node, and lets go of
// it if the inode is gone.
func (t *table) disk(file FileID, gone bool) Disk {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.disks[file]
	if gone {
		delete(t.disks, file)
	}
	return d
}

// of returns the nodes of an inode number: one, or none, or also some of
// inodes that had the number before.
func (t *table) of(file FileID) []*node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ofLocked(file)
}

func (t *table) ofLocked(file FileID) []*node {
	var nodes []*node
	for key, n := range t.byKey {
		if key.file == file {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// setDisk notes an inode's disk, or nil for none, for nodes to come; it does
// not if there are other than count nodes of the inode now.
func (t *table) setDisk(file FileID, d Disk, count int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ofLocked(file)) != count {
		return false
	}
	if d == nil {
		delete(t.disks, file)
	} else {
		t.disks[file] = d
	}
	return true
}
