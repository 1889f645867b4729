package tracker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/tracker/changelog"
)

const (
	beatInterval = 100 * time.Millisecond
	mendInterval = time.Second
	// minImageLimit is what the before-images of a VM may take in any case.
	minImageLimit = 64 << 20
)

// beat notes that the process is alive.
func (t *Tracker) beat(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.live.alive(t.cfg.Now())
		}
	}
}

// wakeUp makes mend look at once; it never blocks.
func (t *Tracker) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// mend does what the write path leaves to others: it gives up recovery points
// whose before-images failed or take space that others need, repairs the change
// log, and notices removed disks.
func (t *Tracker) mend(ctx context.Context) {
	ticker := time.NewTicker(mendInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-t.wake:
		}
		t.mendOnce()
	}
}

func (t *Tracker) mendOnce() {
	t.mending.Lock()
	defer t.mending.Unlock()
	if t.room(logReserve) != nil {
		// Somebody whose writes do not come this way may need it, too.
		t.giveImagesBack()
	}
	whole := t.repair()
	for _, v := range t.list() {
		v.mu.Lock()
		err := v.mend()
		v.mu.Unlock()
		if err != nil {
			whole = false
			t.cfg.Logger.Debug("VM not settled", "vm", v.name, "error", err)
		}
	}
	if whole && !t.incomplete.Load() && !t.failing() {
		t.noteIncomplete(false)
		if t.incomplete.Load() || t.failing() { // a write found something meanwhile
			t.noteIncomplete(true)
		}
	}
	t.saveEvents()
}

func (v *vm) mend() error {
	if v.gone {
		return nil
	}
	v.lookForRemoved()
	if err := v.settle(); err != nil {
		return err
	}
	return v.relieve()
}

func (t *Tracker) failing() bool {
	for _, v := range t.list() {
		if v.failure.Load() != nil {
			return true
		}
	}
	return false
}

// settle turns what the write path noted into the state that it means. mu is
// held. While it fails, the VM makes no recovery points.
func (v *vm) settle() error {
	if v.t.incomplete.Load() {
		v.t.wakeUp()
		return fmt.Errorf("the change log cannot be written: %w", errNoSpace)
	}
	for _, d := range v.disks {
		if d.attached || d.file == nil {
			continue
		}
		if err := v.attach(d); err != nil {
			return err
		}
		d.measure()
		d.holder.Store(nil)
		v.suspect(d, EventUntracked, fmt.Sprintf("changes of disk %s were not seen for a while", d.path))
	}
	for _, why := range []*atomic.Pointer[string]{&v.failure, &v.doubt} {
		if reason := why.Load(); reason != nil {
			if err := v.requireWalk(*reason); err != nil {
				return err
			}
			why.CompareAndSwap(reason, nil)
		}
	}
	// What is merged into an epoch has to be readable in it, and since one was
	// lost, none of its blocks has been saved: so those after it are lost, too.
	if n := len(v.sealed); n > 0 && v.sealed[0].Number <= v.lostThrough.Load() {
		v.loseSealed(v.disks[0], v.sealed[n-1].Number, errors.New("an epoch before them was given up"))
	}
	for len(v.sealed) > 0 && v.sealed[0].Number <= v.lostThrough.Load() {
		if err := v.merge(0, "its before-images could not be saved"); err != nil {
			return err
		}
	}
	return nil
}

// relieve merges epochs while the before-images exceed their bound. mu is
// held.
func (v *vm) relieve() error {
	total := int64(0)
	for _, d := range v.disks {
		if d.file != nil {
			if s, err := stateOf(d.file); err == nil {
				total += s.Size
			}
		}
	}
	limit := max(int64(float64(total)*v.t.cfg.ImageShare), minImageLimit)
	v.imageLimit.Store(limit)
	for v.imageBytes.Load() > limit && len(v.sealed) > 0 {
		if err := v.merge(0, fmt.Sprintf("before-images take %d bytes, more than the bound of %d", v.imageBytes.Load(), limit)); err != nil {
			return err
		}
	}
	return nil
}

// lookForRemoved notices disks whose last name is gone. mu is held.
func (v *vm) lookForRemoved() {
	for _, d := range v.disks {
		if d.file == nil || d.removed.Load() {
			continue
		}
		if s, err := stateOf(d.file); err == nil && s.Links == 0 {
			d.removed.Store(true)
			v.t.event(v, d, EventDiskRemoved, fmt.Sprintf(
				"disk %s was deleted or replaced: what has its name now is not protected; unprotect the VM and protect it again", d.path))
		}
	}
}

// eventBook keeps the newest events.
type eventBook struct {
	mu      sync.Mutex
	last    uint64
	kept    []Event
	unsaved int // how many of kept, at its end, are not in the change log
}

const keptEvents = 500

// event tells of something. It may be called on the write path: it takes no
// lock but the book's own, and writes nothing.
func (t *Tracker) event(v *vm, d *tracked, code, text string) {
	e := Event{Time: t.now(), Code: code, Text: text}
	if v != nil {
		e.VM = v.idText()
	}
	if d != nil {
		e.Disk = d.idText()
	}
	b := &t.events
	b.mu.Lock()
	b.last++
	e.Sequence = b.last
	b.kept = append(b.kept, e)
	b.unsaved++
	b.mu.Unlock()
	t.cfg.Logger.Warn("tracker event", "code", code, "vm", e.VM, "disk", e.Disk, "text", text)
}

// saveEvents writes new events to the change log and forgets old ones.
func (t *Tracker) saveEvents() {
	b := &t.events
	b.mu.Lock()
	excess := max(len(b.kept)-keptEvents, 0)
	fresh := b.kept[len(b.kept)-b.unsaved:]
	gone := b.kept[:excess]
	b.mu.Unlock()
	if len(fresh) == 0 {
		return
	}
	err := t.bulk(func(w *changelog.Writes) {
		for _, e := range fresh {
			w.Event(e.Sequence, mustJSON(e))
		}
		for _, e := range gone {
			w.Event(e.Sequence, nil)
		}
	})
	if err != nil {
		return // they stay in memory, and the next round tries again
	}
	b.mu.Lock()
	b.unsaved -= len(fresh)
	b.kept = append([]Event(nil), b.kept[excess:]...)
	b.mu.Unlock()
}

func (t *Tracker) loadEvents() error {
	return t.log.Events(func(sequence uint64, record []byte) error {
		var e Event
		if err := json.Unmarshal(record, &e); err != nil {
			return fmt.Errorf("event %d: %w", sequence, err)
		}
		t.events.kept = append(t.events.kept, e)
		t.events.last = sequence
		return nil
	})
}

// Events implements control.Backend.
func (t *Tracker) Events(_ context.Context, after uint64) ([]Event, error) {
	t.events.mu.Lock()
	defer t.events.mu.Unlock()
	var out []Event
	for _, e := range t.events.kept {
		if e.Sequence > after {
			out = append(out, e)
		}
	}
	return out, nil
}
