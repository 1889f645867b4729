package handover

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	recordSize = 256
	maxNumber  = 1<<(64-SlotBits) - 1
	// MaxHandle is the most bytes that a file handle has.
	MaxHandle = 128
)

// Record is a node as the next filter finds it. A nil Record takes everything
// and keeps nothing: that of a filter that nobody follows.
type Record struct {
	id         uint64 // 0 in a free slot
	device     uint64
	inode      uint64
	lookups    uint64
	opens      uint64
	kind       uint32
	names      uint32
	backing    int32 // 0 if the kernel does not pass through
	handleType int32
	handleSize uint32
	_          uint32
	handle     [MaxHandle]byte
	_          [recordSize - 64 - MaxHandle]byte
}

var (
	_ [recordSize]byte = [unsafe.Sizeof(Record{})]byte{}
	_ [entrySize]byte  = [unsafe.Sizeof(Entry{})]byte{}
)

// Node is what a Record says.
type Node struct {
	ID            uint64
	Device, Inode uint64
	Kind          uint32 // the file type bits of its mode
	Lookups       uint64
	Opens         uint64
	Names         uint32
	Backing       int32 // the kernel's id of the backing file, or 0
	HandleType    int32
	Handle        []byte // empty if the keeper holds a descriptor instead
}

func (s *State) record(slot uint64) *Record {
	return (*Record)(unsafe.Pointer(&s.memory[recordsAt+slot*recordSize]))
}

// Publish puts a new node in its slot, until Clear.
func (s *State) Publish(n *Node) *Record {
	slot := n.ID & (Slots - 1)
	if number := n.ID >> SlotBits; number > s.header.number {
		atomic.StoreUint64(&s.header.number, number)
	}
	if slot >= s.header.fresh {
		atomic.StoreUint64(&s.header.fresh, slot+1)
	}
	r := s.record(slot)
	r.device, r.inode, r.kind, r.names, r.backing = n.Device, n.Inode, n.Kind, n.Names, n.Backing
	r.lookups, r.opens = n.Lookups, n.Opens
	r.handleType, r.handleSize = n.HandleType, uint32(copy(r.handle[:], n.Handle))
	atomic.StoreUint64(&r.id, n.ID)
	return r
}

// Clear takes a node that the kernel has forgotten out of the table.
func (r *Record) Clear() {
	if r != nil {
		atomic.StoreUint64(&r.id, 0)
	}
}

// SetLookups notes how many lookups the kernel will take back.
func (r *Record) SetLookups(n uint64) {
	if r != nil {
		atomic.StoreUint64(&r.lookups, n)
	}
}

// SetOpens notes how many times the file is open.
func (r *Record) SetOpens(n uint64) {
	if r != nil {
		atomic.StoreUint64(&r.opens, n)
	}
}

// SetBacking notes the kernel's id of the backing file; 0 is none.
func (r *Record) SetBacking(id int32) {
	if r != nil {
		atomic.StoreInt32(&r.backing, id)
	}
}

// AddNames notes what has become known of the inode's names.
func (r *Record) AddNames(names uint32) {
	if r != nil {
		atomic.OrUint32(&r.names, names)
	}
}

// Nodes calls with every node of the table but the root, which has none. It ends with the first record that
// cannot be, or the first error of found.
func (s *State) Nodes(found func(Node, *Record) error) error {
	for slot := uint64(2); slot < s.header.fresh; slot++ {
		r := s.record(slot)
		if r.id == 0 {
			continue
		}
		n, err := r.node(slot, s.header.number)
		if err != nil {
			return fmt.Errorf("handover: %w: slot %d: %w", ErrNotUnderstood, slot, err)
		}
		if err := found(n, r); err != nil {
			return err
		}
	}
	return nil
}

// node reads a record and distrusts it.
func (r *Record) node(slot, number uint64) (Node, error) {
	n := Node{
		ID: r.id, Device: r.device, Inode: r.inode, Kind: r.kind, Lookups: r.lookups, Opens: r.opens,
		Names: r.names, Backing: r.backing, HandleType: r.handleType,
	}
	switch {
	case n.ID&(Slots-1) != slot:
		return Node{}, fmt.Errorf("its id %#x is another slot's", n.ID)
	case n.ID>>SlotBits > number:
		return Node{}, fmt.Errorf("its id %#x was never given", n.ID)
	case !isKind(n.Kind):
		return Node{}, fmt.Errorf("%#o is no kind of file", n.Kind)
	case n.Lookups == 0:
		return Node{}, errors.New("nobody has looked it up")
	case n.Opens > 1<<62:
		return Node{}, fmt.Errorf("it is open %d times", n.Opens)
	case n.Backing < 0:
		return Node{}, fmt.Errorf("the kernel has no backing file %d", n.Backing)
	case r.handleSize > MaxHandle:
		return Node{}, fmt.Errorf("its file handle has %d bytes", r.handleSize)
	}
	n.Handle = bytes.Clone(r.handle[:r.handleSize])
	return n, nil
}

func isKind(kind uint32) bool {
	switch kind {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		return true
	}
	return false
}
