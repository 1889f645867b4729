package tracker

import (
	"context"
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

// First touches are written down twice: at once in the daybook, a mapped file,
// and a little later, many together, in the change log, to which they are
// posted. For a process that dies one is as good as the other, and neither is
// worth anything when the host dies, which is what hot zones are for. But a
// commit hands each write over to Badger's goroutines and back, and an entry is
// a copy of 80 bytes.
//
// Whatever else is written to the change log comes after all that was entered
// before, so the change log has the order of things.
//
// The file is a ring of entries behind a page that begins with
//
//	0  magic and version
//	8  how many entries were posted
const (
	daybookHeader = 4096
	daybookMagic  = 0x31594144464c // "LFDAY1"
	// Few, so that they lie on few pages: the first write to each, after the
	// kernel has written it back, waits for the journal of the file system.
	daybookCount = 1 << 10
	daybookSize  = daybookHeader + daybookCount*entrySize
	entrySize    = 80

	// postInterval is how long entries gather before they are posted.
	postInterval = 10 * time.Millisecond
)

// touchEntry is what a first touch enters. Fields are in the machine's byte
// order: the file outlives the process, but not the boot.
type touchEntry struct {
	number  atomic.Uint64 // one more than that of the entry; written last
	disk    changelog.ID
	epoch   uint64
	region  uint64
	inDoubt uint64         // 1 if the region is to be changed
	saved   changelog.Bits // all before-images of the region; none if there is nothing new
}

var _ [entrySize]byte = [unsafe.Sizeof(touchEntry{})]byte{}

// entries are some of a daybook, in their order.
type entries iter.Seq[*touchEntry]

// daybook is the mapped file.
type daybook struct {
	memory []byte
	ring   []touchEntry
	posted *atomic.Uint64
	given  atomic.Uint64 // numbers that were given to entries

	posting sync.Mutex // one posts at a time
	asked   atomic.Bool
	wake    chan struct{}
}

// openDaybook maps the file as the last process left it. understood is false if
// that one wrote it in a way that is not known here.
func openDaybook(folder *os.Root) (b *daybook, understood bool, err error) {
	f, err := folder.OpenFile("daybook", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open daybook: %w", err)
	}
	defer f.Close() //nolint:errcheck // the mapping stays, the descriptor is not needed
	info, err := f.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("open daybook: %w", err)
	}
	fresh := info.Size() == 0
	if info.Size() != daybookSize {
		// Written, not only allocated: so that no page of it ever needs space.
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(make([]byte, daybookSize), 0)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("make daybook: %w", err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, daybookSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, false, fmt.Errorf("map daybook: %w", err)
	}
	b = &daybook{memory: memory, wake: make(chan struct{}, 1)}
	b.ring = unsafe.Slice((*touchEntry)(unsafe.Pointer(&memory[daybookHeader])), daybookCount)
	b.posted = (*atomic.Uint64)(unsafe.Pointer(&memory[8]))
	return b, fresh || b.magic().Load() == daybookMagic, nil
}

func (b *daybook) magic() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&b.memory[0])) }

func (b *daybook) close() error { return unix.Munmap(b.memory) }

// left yields what a process that died has entered and not posted. What lacks
// its number was being written, on behalf of a change that was not made.
func (b *daybook) left(yield func(*touchEntry) bool) {
	from := b.posted.Load()
	for number := from; number < from+daybookCount; number++ {
		e := &b.ring[number%daybookCount]
		if e.number.Load() == number+1 && e.region < uint64(regionOf(disk.BlockAt(MaxDiskSize))) && !yield(e) {
			return
		}
	}
}

// begin empties the book. A death on the way leaves some of what was in it,
// which the next process posts once more.
func (b *daybook) begin() {
	for i := range b.ring {
		b.ring[i].number.Store(0)
	}
	b.posted.Store(0)
	b.magic().Store(daybookMagic)
}

// enter writes an entry, when there is room for it; post is for those that make
// room by it.
func (b *daybook) enter(x *touchEntry, post func(entries)) {
	number := b.given.Add(1) - 1
	for number >= b.posted.Load()+daybookCount {
		// Whoever posts may have made room and wait for this one by now, so he is
		// not waited for; nor is this one, here.
		if !b.posting.TryLock() {
			runtime.Gosched()
			continue
		}
		b.postBefore(number, post)
		b.posting.Unlock()
	}
	e := &b.ring[number%daybookCount]
	e.disk, e.epoch, e.region, e.inDoubt, e.saved = x.disk, x.epoch, x.region, x.inDoubt, x.saved
	e.number.Store(number + 1)
	if !b.asked.Load() && b.asked.CompareAndSwap(false, true) {
		b.wake <- struct{}{} // it has room: who is woken empties it first
	}
}

// postBefore posts all entries before end, and frees their places when that is
// done. posting is held.
func (b *daybook) postBefore(end uint64, post func(entries)) {
	for b.posted.Load() < end {
		from := b.posted.Load()
		to := min(end, from+daybookCount) // those beyond wait for room
		for number := from; number < to; number++ {
			for b.ring[number%daybookCount].number.Load() != number+1 {
				runtime.Gosched() // it is being written
			}
		}
		post(func(yield func(*touchEntry) bool) {
			for number := from; number < to; number++ {
				if !yield(&b.ring[number%daybookCount]) {
					return
				}
			}
		})
		b.posted.Store(to)
	}
}

// write writes to the change log what an entry says.
func (e *touchEntry) write(w *changelog.Writes) {
	if e.inDoubt != 0 {
		w.RegionInDoubt(e.disk, e.epoch, e.region)
	}
	if !e.saved.Empty() {
		w.Images(e.disk, e.epoch, e.region, e.saved)
	}
}

// openDaybook opens the daybook and posts what the last process had entered. It
// returns false if that may not be all.
func (t *Tracker) openDaybook(own *os.Root, was ending) (complete bool, err error) {
	b, understood, err := openDaybook(own)
	if err != nil {
		return false, err
	}
	t.daybook = b
	if was.clean || !was.sameBoot {
		understood = true // nothing was left, or what is there is worth nothing
	} else if understood {
		err = t.log.Bulk(func(w *changelog.Writes) {
			for e := range b.left {
				e.write(w)
			}
		})
		if err != nil {
			return false, fmt.Errorf("post the daybook: %w", err)
		}
	}
	if !understood {
		t.noteIncomplete(true) // or a death before that is dealt with would hide it
	}
	b.begin()
	return understood, nil
}

// enterTouch enters a first touch on behalf of a guest's write, which goes on
// whatever happens: see logTouch.
func (t *Tracker) enterTouch(e *touchEntry) {
	if !t.incomplete.Load() {
		t.daybook.enter(e, t.post)
	}
}

// postAll posts what was entered when it was called.
func (t *Tracker) postAll() {
	b := t.daybook
	b.posting.Lock()
	defer b.posting.Unlock()
	b.postBefore(b.given.Load(), t.post)
}

// post writes entries to the change log.
func (t *Tracker) post(all entries) {
	if t.incomplete.Load() {
		return // memory knows, and writes it when the log is repaired
	}
	err := t.room(logReserve)
	if err == nil {
		err = t.log.Bulk(func(w *changelog.Writes) {
			for e := range all {
				e.write(w)
			}
		})
	}
	if err != nil {
		t.logBroke(err)
	}
}

// postOften posts what there is, again and again.
func (t *Tracker) postOften(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.daybook.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(postInterval):
		}
		t.daybook.asked.Store(false)
		t.postAll()
	}
}
