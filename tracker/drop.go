package tracker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"lifeboat/tracker/changelog"
)

// Acknowledge implements control.Backend.
func (t *Tracker) Acknowledge(_ context.Context, id string, epoch, walk uint64) error {
	v, err := t.locked(id)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	if epoch >= v.open {
		return fmt.Errorf("%w: acknowledge epoch %d of VM %s, of which epoch %d is open", ErrInvalid, epoch, v.name, v.open)
	}
	n := 0
	for n < len(v.sealed) && v.sealed[n].Number <= epoch {
		n++
	}
	was := v.walk
	if walk != 0 && walk == v.walk.Number {
		v.walk = Walk{Number: walk}
	}
	if n == 0 && v.walk == was {
		return nil
	}
	if err := v.dropSealed(n); err != nil {
		v.walk = was
		return fmt.Errorf("acknowledge epoch %d of VM %s: %w", epoch, v.name, err)
	}
	v.walking.Store(v.walk.Required)
	if v.walk == was {
		return nil
	}
	// Forgotten in a power cut, it would mean another walk.
	return t.syncLog()
}

// RequireWalk implements control.Backend.
func (t *Tracker) RequireWalk(_ context.Context, id, reason string) error {
	v, err := t.locked(id)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	return v.requireWalk(reason)
}

// requireWalk drops the sealed epochs: the walk finds what they hold. mu is
// held.
func (v *vm) requireWalk(reason string) error {
	if err := v.syncDisks(); err != nil {
		return fmt.Errorf("require a walk of VM %s: %w", v.name, err)
	}
	was := v.walk
	now := v.t.now()
	// Numbers follow the clock, so that none comes twice even when a power
	// cut took the record of the last one.
	v.walking.Store(true)
	v.walk = Walk{Number: max(was.Number+1, uint64(now.UnixMilli())), Required: true, Reason: reason, Since: now}
	if err := v.dropSealed(len(v.sealed)); err != nil {
		v.walk = was
		v.walking.Store(was.Required)
		return fmt.Errorf("require a walk of VM %s: %w", v.name, err)
	}
	if err := v.resolve(); err != nil {
		return fmt.Errorf("require a walk of VM %s: %w", v.name, err)
	}
	v.t.event(v, nil, EventWalkRequired, reason)
	// What made it necessary may not be found a second time.
	return v.t.syncLog()
}

// syncDisks makes durable what was written while nobody saw it. The walk will
// ship it, and no hot zone would tell that a power cut took it back.
func (v *vm) syncDisks() error {
	for _, d := range v.disks {
		if d.file == nil {
			continue
		}
		if err := d.sync(); err != nil {
			return err
		}
	}
	return nil
}

// dropSealed takes the n oldest sealed epochs away and stores the VM's record.
// mu is held.
func (v *vm) dropSealed(n int) error {
	gone := v.sealed[:n]
	err := v.t.commit(func(w *changelog.Writes) {
		for _, s := range gone {
			w.Epoch(v.id, s.Number, nil)
		}
		w.VM(v.id, v.record(false))
	})
	if err != nil {
		return err
	}
	v.sealed = slices.Clone(v.sealed[n:])
	v.noteIdle()
	v.retireLogs()
	v.retireImages()
	return nil
}

// noteIdle tells the next process that nobody needs before-images, if it is so.
// mu is held.
func (v *vm) noteIdle() {
	for _, d := range v.disks {
		d.pass.SetIdle(len(v.sealed) == 0)
	}
}

// merge gives the recovery point of a sealed epoch up: its blocks count as
// changed in the next epoch. mu is held.
func (v *vm) merge(i int, reason string) error {
	gone := v.sealed[i]
	var next *sealedEpoch
	if i+1 < len(v.sealed) {
		next = v.sealed[i+1]
	}
	for j, d := range v.disks {
		from := d.log(gone.Number)
		into := d.open()
		if next != nil {
			into = d.log(next.Number)
		}
		if err := v.mergeDisk(d, from, into, gone.Disks[j].Floor, next == nil); err != nil {
			return err
		}
		if next != nil {
			next.Disks[j].Floor = min(next.Disks[j].Floor, gone.Disks[j].Floor)
			next.Disks[j].Blocks = into.extents(next.Disks[j].Size).Blocks()
		}
	}
	v.givenUp++
	err := v.t.commit(func(w *changelog.Writes) {
		w.Epoch(v.id, gone.Number, nil)
		if next != nil {
			w.Epoch(v.id, next.Number, mustJSON(next))
		}
		w.VM(v.id, v.record(false))
	})
	if err != nil {
		v.givenUp--
		return err
	}
	v.sealed = slices.Delete(slices.Clone(v.sealed), i, i+1)
	v.noteIdle()
	v.retireLogs()
	v.retireImages()
	v.t.event(v, nil, EventMerged, fmt.Sprintf("the recovery point of epoch %d was given up, its changes come with the next: %s", gone.Number, reason))
	return nil
}

// mergeDisk adds one log to the next one, first in the change log: a crash
// between leaves blocks marked twice, which does no harm.
func (v *vm) mergeDisk(d *tracked, from, into *epochLog, floor int64, open bool) error {
	err := v.t.bulk(func(w *changelog.Writes) {
		for r := range from.both() {
			if open {
				w.RegionInDoubt(d.id, into.number, uint64(r))
			} else {
				w.Region(d.id, into.number, uint64(r), union(from.changed(r), into.changed(r)))
			}
		}
	})
	if err != nil {
		return err
	}
	into.extra.addAll(&from.marks)
	into.extra.addAll(&from.extra)
	if open {
		d.resizing.Lock()
		into.floor.Store(min(into.floor.Load(), floor))
		d.logFloor(noResize)
		d.resizing.Unlock()
	}
	return nil
}

// retireLogs takes the logs of epochs that are no longer sealed away. mu is
// held.
func (v *vm) retireLogs() {
	keep := func(number uint64) bool {
		return number == v.open || slices.ContainsFunc(v.sealed, func(s *sealedEpoch) bool { return s.Number == number })
	}
	for _, d := range v.disks {
		var kept, gone []*epochLog
		for _, e := range *d.logs.Load() {
			if keep(e.number) {
				kept = append(kept, e)
			} else {
				gone = append(gone, e)
			}
		}
		if len(gone) == 0 {
			continue
		}
		v.retire.Lock()
		d.logs.Store(&kept)
		v.retire.Unlock()
		for _, e := range gone {
			// What stays in the log of an epoch that has no record is swept
			// at the next start.
			if err := v.t.dropLog(d.id, e.number); err != nil {
				v.t.cfg.Logger.Warn("dropped epoch left in the change log", "vm", v.name, "disk", d.path, "epoch", e.number, "error", err)
			}
		}
	}
}

// retireImages takes away the before-images that no sealed epoch needs: those
// saved while an epoch was open serve the epochs sealed before it. mu is held.
func (v *vm) retireImages() {
	oldest := uint64(math.MaxUint64)
	if len(v.sealed) > 0 {
		oldest = v.sealed[0].Number
	}
	for _, d := range v.disks {
		var kept, gone []*images
		for _, shot := range *d.shots.Load() {
			if shot.epoch > oldest || shot.epoch == v.open && (oldest != math.MaxUint64 || shot.bytes.Load() == 0) {
				kept = append(kept, shot)
			} else {
				gone = append(gone, shot)
			}
		}
		if len(gone) == 0 {
			continue
		}
		if open := d.open(); open.shots.Load() == gone[len(gone)-1] {
			open.shots.Store(newImages(d.id, open.number))
			kept = append(kept, open.shots.Load())
			d.passTouches() // one may be saving into the old ones
		}
		v.retire.Lock()
		d.shots.Store(&kept)
		v.retire.Unlock()
		for _, shot := range gone {
			v.imageBytes.Add(-shot.bytes.Load())
			err := errors.Join(v.t.dropImageLog(d.id, shot.epoch), shot.remove(v.t.imageFolder))
			if err != nil {
				v.t.cfg.Logger.Warn("before-images left behind", "vm", v.name, "disk", d.path, "epoch", shot.epoch, "error", err)
			}
		}
	}
}
