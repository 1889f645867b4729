package tracker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// First touches are written down twice: at once in the notes, a mapped file,
// and a little later, many together, in the change log. For a process that dies
// one is as good as the other, and neither is worth anything when the host
// dies, which is what hot zones are for. But a commit hands each write over to
// Badger's goroutines and back, and a note is a copy of 80 bytes.
//
// Whatever else is written to the change log comes after all that was noted
// before, so the change log has the order of things.
//
// The file is a ring of notes behind a page that begins with
//
//	0  magic and version
//	8  how many notes the change log has
const (
	notesHeader = 4096
	notesMagic  = 0x31544f4e42464c // "LFBNOT1"
	notesCount  = 1 << 14
	notesSize   = notesHeader + notesCount*noteSize
	noteSize    = 80

	// takeInterval is how long notes gather before they are taken over.
	takeInterval = 10 * time.Millisecond
)

// note is what a first touch writes down. Fields are in the machine's byte
// order: the file outlives the process, but not the boot.
type note struct {
	number  atomic.Uint64 // one more than that of the note; written last
	disk    changelog.ID
	epoch   uint64
	region  uint64
	inDoubt uint64         // 1 if the region is to be changed
	saved   changelog.Bits // all before-images of the region; none if there is nothing new
}

var _ [noteSize]byte = [unsafe.Sizeof(note{})]byte{}

// noteBook is the mapped file.
type noteBook struct {
	memory []byte
	ring   []note
	taken  *atomic.Uint64 // by the change log
	given  atomic.Uint64  // numbers that were given to notes

	taking sync.Mutex // one takes notes at a time
	asked  atomic.Bool
	wake   chan struct{}
}

// openNotes maps the file as the last process left it. understood is false if
// that one wrote it in a way that is not known here.
func openNotes(folder *os.Root) (b *noteBook, understood bool, err error) {
	f, err := folder.OpenFile("notes", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open notes: %w", err)
	}
	defer f.Close() //nolint:errcheck // the mapping stays, the descriptor is not needed
	info, err := f.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("open notes: %w", err)
	}
	fresh := info.Size() == 0
	if info.Size() != notesSize {
		// Written, not only allocated: so that no page of it ever needs space.
		err = errors.Join(f.Truncate(0), writeAll(f, make([]byte, notesSize)))
	}
	if err != nil {
		return nil, false, fmt.Errorf("make notes: %w", err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, notesSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, false, fmt.Errorf("map notes: %w", err)
	}
	b = &noteBook{memory: memory, wake: make(chan struct{}, 1)}
	b.ring = unsafe.Slice((*note)(unsafe.Pointer(&memory[notesHeader])), notesCount)
	b.taken = (*atomic.Uint64)(unsafe.Pointer(&memory[8]))
	return b, fresh || b.magic().Load() == notesMagic, nil
}

func writeAll(f *os.File, p []byte) error {
	_, err := f.WriteAt(p, 0)
	return err
}

func (b *noteBook) magic() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&b.memory[0])) }

func (b *noteBook) close() error { return unix.Munmap(b.memory) }

// notes are some, in their order.
type notes iter.Seq[*note]

// left yields, in order, what a process that died has noted and not taken over.
// What lacks its number was being written, on behalf of a change that was not
// made.
func (b *noteBook) left(yield func(*note) bool) {
	from := b.taken.Load()
	for number := from; number < from+notesCount; number++ {
		n := &b.ring[number%notesCount]
		if n.number.Load() == number+1 && n.region < uint64(regionOf(disk.BlockAt(MaxDiskSize))) && !yield(n) {
			return
		}
	}
}

// begin empties the book. A death on the way leaves some of what was in it,
// which the next process takes over once more.
func (b *noteBook) begin() {
	for i := range b.ring {
		b.ring[i].number.Store(0)
	}
	b.taken.Store(0)
	b.magic().Store(notesMagic)
}

// add writes a note, when there is room for it; pass is for those that have to
// be taken before.
func (b *noteBook) add(x *note, pass func(notes)) {
	number := b.given.Add(1) - 1
	for number >= b.taken.Load()+notesCount {
		// Whoever takes notes may have made room and wait for this one by now, so
		// he is not waited for; nor is this one, here.
		if !b.taking.TryLock() {
			runtime.Gosched()
			continue
		}
		b.take(number, pass)
		b.taking.Unlock()
	}
	n := &b.ring[number%notesCount]
	n.disk, n.epoch, n.region, n.inDoubt, n.saved = x.disk, x.epoch, x.region, x.inDoubt, x.saved
	n.number.Store(number + 1)
	if !b.asked.Load() && b.asked.CompareAndSwap(false, true) {
		b.wake <- struct{}{} // it has room: who takes notes empties it first
	}
}

// take passes on all notes before end, and frees their places when that is done.
// taking is held.
func (b *noteBook) take(end uint64, pass func(notes)) {
	for b.taken.Load() < end {
		from := b.taken.Load()
		to := min(end, from+notesCount) // those beyond wait for room
		for number := from; number < to; number++ {
			for b.ring[number%notesCount].number.Load() != number+1 {
				runtime.Gosched() // it is being written
			}
		}
		pass(func(yield func(*note) bool) {
			for number := from; number < to; number++ {
				if !yield(&b.ring[number%notesCount]) {
					return
				}
			}
		})
		b.taken.Store(to)
	}
}

// log writes what a note says.
func (n *note) log(w *changelog.Writes) {
	if n.inDoubt != 0 {
		w.RegionInDoubt(n.disk, n.epoch, n.region)
	}
	if !n.saved.Empty() {
		w.Images(n.disk, n.epoch, n.region, n.saved)
	}
}

// openNotes opens the notes and has the change log take over what the last
// process had noted. It returns false if that may be incomplete.
func (t *Tracker) openNotes(own *os.Root, was ending) (complete bool, err error) {
	b, understood, err := openNotes(own)
	if err != nil {
		return false, err
	}
	t.notes = b
	if was.clean || !was.sameBoot {
		// Nothing was left, or what is there is worth nothing.
		understood = true
	} else if understood {
		err = t.log.Bulk(func(w *changelog.Writes) {
			for n := range b.left {
				n.log(w)
			}
		})
		if err != nil {
			return false, fmt.Errorf("take over notes: %w", err)
		}
	}
	if !understood {
		t.noteIncomplete(true) // or who dies before that is dealt with would have hidden it
	}
	b.begin()
	return understood, nil
}

// noteTouch notes a first touch on behalf of a guest's write, which goes on
// whatever happens: see logTouch.
func (t *Tracker) noteTouch(n *note) {
	if !t.incomplete.Load() {
		t.notes.add(n, t.passNotes)
	}
}

// takeNotes has the change log hold what was noted when it was called.
func (t *Tracker) takeNotes() {
	t.notes.taking.Lock()
	defer t.notes.taking.Unlock()
	t.notes.take(t.notes.given.Load(), t.passNotes)
}

// passNotes writes notes to the change log.
func (t *Tracker) passNotes(all notes) {
	if t.incomplete.Load() {
		return // memory knows, and writes it when the log is repaired
	}
	err := t.room(logReserve)
	if err == nil {
		err = t.log.Bulk(func(w *changelog.Writes) {
			for n := range all {
				n.log(w)
			}
		})
	}
	if err != nil {
		t.logBroke(err)
	}
}

// takeNotesOften does so when there are some.
func (t *Tracker) takeNotesOften(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.notes.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(takeInterval):
		}
		t.notes.asked.Store(false)
		t.takeNotes()
	}
}
