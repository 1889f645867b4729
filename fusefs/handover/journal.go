package handover

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	// JournalSize is how many entries the journal has: more than there can be
	// requests under way that need one.
	JournalSize = 256
	entrySize   = 512
	maxKey      = 4 + MaxHandle
	// resent is the bit by which the kernel tells that it sends a request again.
	resent = 1 << 63
)

// Identity is what a name stands for; the zero value is nothing.
type Identity struct {
	Device, Inode uint64
	Key           string // the type and the bytes of the file handle, if any
}

// Entry is a request that must not be executed twice, from before it is
// executed until it is answered. A nil Entry takes everything and keeps nothing.
type Entry struct {
	unique uint64 // 0 if there is none
	done   uint32
	_      uint32
	names  [2]identity
	_      [entrySize - 16 - 2*identitySize]byte
}

const identitySize = 16 + 4 + maxKey

type identity struct {
	device, inode uint64
	size          uint32
	key           [maxKey]byte
}

// Journal gives entries to requests. A nil Journal has none to give.
type Journal struct {
	mu      sync.Mutex
	entries []*Entry          // those that no filter before left come first
	next    int               // of them
	busy    map[uint64]*Entry // what was begun and not answered
	left    map[uint64]*Entry // what filters before did not answer
}

// Resent tells whether the kernel sends a request again.
func Resent(unique uint64) bool { return unique&resent != 0 }

// Journal takes the journal over. A nil State has none.
func (s *State) Journal() *Journal {
	if s == nil {
		return nil
	}
	j := &Journal{busy: make(map[uint64]*Entry), left: make(map[uint64]*Entry)}
	var left []*Entry
	for i := range JournalSize {
		e := (*Entry)(unsafe.Pointer(&s.memory[journalAt+i*entrySize]))
		if e.unique == 0 {
			j.entries = append(j.entries, e)
		} else {
			left = append(left, e)
			j.left[e.unique] = e
		}
	}
	j.entries = append(j.entries, left...)
	return j
}

// Begin returns the entry of a request, which is one's own if again is false:
// then Intend says what was there before. If again is true, a filter that died
// has begun the request, and the entry is as that one left it.
//
// What the kernel sends again comes before all that is new, so entries that
// were left are not needed any more when all others have been used.
func (j *Journal) Begin(unique uint64) (e *Entry, again bool) {
	if j == nil {
		return nil, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	name := unique &^ resent
	if e := j.busy[name]; e != nil {
		return e, false
	}
	if e := j.left[name]; e != nil && Resent(unique) {
		j.busy[name] = e
		return e, true
	}
	for range j.entries {
		e = j.entries[j.next]
		j.next = (j.next + 1) % len(j.entries)
		if e.unique != 0 && j.busy[e.unique] == e {
			continue
		}
		delete(j.left, e.unique)
		atomic.StoreUint64(&e.unique, 0)
		atomic.StoreUint32(&e.done, 0)
		j.busy[name] = e
		e.names = [2]identity{}
		atomic.StoreUint64(&e.unique, name)
		return e, false
	}
	return nil, false // more requests at a time than the journal was made for
}

// Answered ends a request: the kernel has the answer.
func (j *Journal) Answered(unique uint64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	name := unique &^ resent
	if e := j.busy[name]; e != nil {
		atomic.StoreUint64(&e.unique, 0)
		delete(j.busy, name)
		delete(j.left, name)
	}
}

// Intend notes what two names stand for before the request is executed.
func (e *Entry) Intend(names [2]Identity) {
	if e == nil {
		return
	}
	unique := e.unique
	atomic.StoreUint64(&e.unique, 0) // until it is written, it is not there
	for i, n := range names {
		to := &e.names[i]
		to.device, to.inode = n.Device, n.Inode
		to.size = uint32(copy(to.key[:], n.Key))
	}
	atomic.StoreUint64(&e.unique, unique)
}

// Before returns what was intended.
func (e *Entry) Before() (names [2]Identity) {
	if e == nil {
		return names
	}
	for i := range e.names {
		from := &e.names[i]
		size := min(from.size, maxKey) // whatever wrote it
		names[i] = Identity{Device: from.device, Inode: from.inode, Key: string(from.key[:size])}
	}
	return names
}

// Finish notes that the request has been executed, as far as that cannot be
// seen from names.
func (e *Entry) Finish() {
	if e != nil {
		atomic.StoreUint32(&e.done, 1)
	}
}

// Finished tells whether it was.
func (e *Entry) Finished() bool { return e != nil && atomic.LoadUint32(&e.done) != 0 }
