package tracker

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"lifeboat/tracker/changelog"
)

// Space that the tracker leaves to others on the file system that it shares
// with the disks. The change log needs a reserve for another reason: Badger
// writes through shared mappings, where a full file system is not an error but
// a signal that ends the process.
const (
	logReserve    = 64 << 20
	imageReserve  = 1 << 30
	reserveFactor = 20 // at most this part of the file system is kept free
)

var errNoSpace = errors.New("the file system of the disks is almost full: free some space")

// roomIn fails if less than reserve bytes are free where the folder lies.
func roomIn(folder *os.File, reserve uint64) error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(folder.Fd()), &s); err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	free, total := s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize)
	if free < min(reserve, total/reserveFactor) {
		return errNoSpace
	}
	return nil
}

func (t *Tracker) roomForImages() error { return t.room(imageReserve) }

// commit writes to the change log and fails if that is not possible.
func (t *Tracker) commit(fill func(*changelog.Writes)) error {
	t.postAll()
	if err := t.room(logReserve); err != nil {
		return err
	}
	return t.log.Commit(fill)
}

// bulk is commit for many records, without its atomicity.
func (t *Tracker) bulk(fill func(*changelog.Writes)) error {
	t.postAll()
	if err := t.room(logReserve); err != nil {
		return err
	}
	return t.log.Bulk(fill)
}

func (t *Tracker) dropLog(id changelog.ID, epoch uint64) error {
	t.postAll()
	if err := t.room(logReserve); err != nil {
		return err
	}
	return t.log.Drop(id, epoch)
}

func (t *Tracker) dropImageLog(id changelog.ID, epoch uint64) error {
	t.postAll()
	if err := t.room(logReserve); err != nil {
		return err
	}
	return t.log.DropImages(id, epoch)
}

// makeDurable makes all durable that change log and daybook have.
func (t *Tracker) makeDurable() error {
	t.postAll()
	return t.syncLog()
}

// logTouch writes to the change log on behalf of a guest's write, which goes
// on whatever happens. If the log cannot be written, memory alone knows of the
// change from now on; the liveness file says so to the next process, until the
// log has been repaired.
//
// Writes that call it at the same time share a commit.
func (t *Tracker) logTouch(fill func(*changelog.Writes)) {
	if t.incomplete.Load() {
		return
	}
	b, leads := t.touches.join(fill)
	if !leads {
		<-b.done
		return
	}
	t.touches.committing.Lock()
	defer t.touches.committing.Unlock()
	t.touches.close()
	if err := t.commit(b.fill); err != nil {
		t.logBroke(err)
	}
	close(b.done)
}

// touchGroup gathers what is to be committed together: while one batch is
// being committed, the next one fills.
type touchGroup struct {
	committing sync.Mutex
	mu         sync.Mutex
	filling    *touchBatch // nil if nobody waits for a commit
}

type touchBatch struct {
	fills []func(*changelog.Writes)
	done  chan struct{}
}

// join adds to the batch that is filling. The first who joins leads it.
func (g *touchGroup) join(fill func(*changelog.Writes)) (b *touchBatch, leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if leads = g.filling == nil; leads {
		g.filling = &touchBatch{done: make(chan struct{})}
	}
	b = g.filling
	b.fills = append(b.fills, fill)
	return b, leads
}

// close lets nobody join the batch any more.
func (g *touchGroup) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.filling = nil
}

func (b *touchBatch) fill(w *changelog.Writes) {
	for _, fill := range b.fills {
		fill(w)
	}
}

func (t *Tracker) logBroke(err error) {
	if t.incomplete.CompareAndSwap(false, true) {
		t.noteIncomplete(true)
		t.event(nil, nil, EventLogFailed, fmt.Sprintf(
			"the change log cannot be written; changes are kept in memory, and if the filter dies now, the disks have to be resynchronized: %v", err))
		t.wakeUp()
	}
}

// noteIncomplete tells the next process whether it can trust the change log.
func (t *Tracker) noteIncomplete(yes bool) {
	if err := t.live.setIncomplete(yes); err != nil {
		// It is in the file's pages all the same: only a power cut now would
		// make it unsaid.
		t.cfg.Logger.Error("liveness file not synced", "error", err)
	}
}

// repair writes everything that only memory knows into the change log, and
// returns whether the log is whole again.
func (t *Tracker) repair() bool {
	if !t.incomplete.Load() {
		return true
	}
	if t.room(2*logReserve) != nil {
		return false
	}
	// From here on changes are logged again, also those of regions that the
	// loop below has not reached: it writes every region with marks.
	t.incomplete.Store(false)
	for _, v := range t.list() {
		v.mu.Lock()
		var err error
		if !v.gone {
			err = v.relog()
		}
		v.mu.Unlock()
		if err != nil {
			t.incomplete.Store(true)
			t.cfg.Logger.Warn("change log not repaired", "vm", v.name, "error", err)
			return false
		}
	}
	t.cfg.Logger.Info("change log repaired")
	return true
}

// relog writes the log of a VM anew from memory. mu is held.
func (v *vm) relog() error {
	for _, s := range v.sealed {
		if !s.Exact {
			if err := v.flush(s); err != nil {
				return err
			}
		}
	}
	for _, d := range v.disks {
		// From here on, who finds the log in order writes to it; who did not
		// is past the locks when they have been held.
		d.passTouches()
		d.resizing.Lock()
		err := v.t.bulk(d.relog)
		d.resizing.Unlock()
		if err != nil {
			return err
		}
	}
	err := v.t.commit(func(w *changelog.Writes) {
		w.VM(v.id, v.record(false))
		if reason := v.doubt.Load(); reason != nil {
			w.Doubt(v.id, *reason)
		}
	})
	if err != nil {
		return err
	}
	return v.t.makeDurable()
}

// relog writes all that a disk's memory knows, sealed epochs apart. resizing
// is held.
func (d *tracked) relog(w *changelog.Writes) {
	open := d.open()
	w.Floor(d.id, open.number, mustJSON(floorRecord{Floor: open.floor.Load(), Resizing: noResize}))
	for r := range open.both() {
		w.RegionInDoubt(d.id, open.number, uint64(r))
	}
	for r := range open.logged.each() { // made ready, and not written to yet
		w.RegionInDoubt(d.id, open.number, uint64(r))
	}
	for _, shot := range *d.shots.Load() {
		for r, saved := range shot.saved.regions() {
			w.Images(d.id, shot.epoch, uint64(r), saved)
		}
	}
	if lost := d.vm.lostThrough.Load(); lost > 0 {
		w.Lost(d.vm.id, lost)
	}
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	for n := range d.zones.hot.each() {
		w.Hot(d.id, uint64(n), true)
	}
	if cut := d.zones.cut.Load(); cut != math.MaxInt64 {
		w.Cut(d.id, encodeCut(cut))
	}
}

// passTouches returns when every first touch that was under way is over.
func (d *tracked) passTouches() {
	for i := range d.regions {
		d.regions[i].Lock()
		d.regions[i].Unlock() //nolint:staticcheck // to have held it is all
	}
	d.zones.mu.Lock()
	d.zones.mu.Unlock() //nolint:staticcheck // likewise
}
