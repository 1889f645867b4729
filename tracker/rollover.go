package tracker

import (
	"context"
	"fmt"
	"slices"

	"lifeboat/tracker/changelog"
)

// maxSealed bounds how many epochs wait to be shipped, and so the memory of
// their bitmaps.
const maxSealed = 16

// Rollover implements control.Backend.
func (t *Tracker) Rollover(_ context.Context, id string, walk uint64) (Epoch, error) {
	v, err := t.locked(id)
	if err != nil {
		return Epoch{}, err
	}
	defer v.mu.Unlock()
	if err := v.settle(); err != nil {
		return Epoch{}, fmt.Errorf("roll over VM %s: %w", v.name, err)
	}
	if v.walk.Required && walk != v.walk.Number {
		return Epoch{}, fmt.Errorf("roll over VM %s: %w: %s", v.name, ErrWalkRequired, v.walk.Reason)
	}
	if len(v.sealed) >= maxSealed {
		if err := v.merge(0, fmt.Sprintf("%d epochs wait to be shipped", len(v.sealed))); err != nil {
			return Epoch{}, fmt.Errorf("roll over VM %s: %w", v.name, err)
		}
	}
	s, err := v.seal()
	if err != nil {
		return Epoch{}, fmt.Errorf("roll over VM %s: %w", v.name, err)
	}
	if err := v.flush(s); err != nil {
		// The epoch is whole in memory and can be shipped; only a crash before
		// that would give its recovery point up.
		t.cfg.Logger.Warn("sealed epoch not flushed to the change log", "vm", v.name, "epoch", s.Number, "error", err)
	}
	return s.copy(), nil
}

// seal is the rollover itself: with the gates of all disks closed, one commit
// ends the epoch and begins the next. mu is held.
func (v *vm) seal() (*sealedEpoch, error) {
	if err := v.reserveEpochs(v.open + 1); err != nil {
		return nil, err
	}
	s := &sealedEpoch{Epoch: Epoch{Number: v.open, Disks: make([]EpochDisk, len(v.disks))}}
	next := make([]*epochLog, len(v.disks))
	for i, d := range v.disks {
		if d.file == nil {
			return nil, fmt.Errorf("%w: the disk file %s is missing in the folder: put it back and mount again, or unprotect the VM", ErrInvalid, d.path)
		}
		if path, ok := v.t.pathOf(d.file); ok {
			d.path = path
		}
		s.Disks[i] = EpochDisk{ID: d.idText(), Path: d.path}
		next[i] = newEpochLog(d.id, v.open+1, 0)
	}
	v.open++
	record := v.record(false)
	v.open--

	for _, d := range v.disks {
		d.gate.Lock()
	}
	err := v.swap(s, next, record)
	for _, d := range v.disks {
		d.gate.Unlock()
	}
	if err != nil {
		return nil, err
	}
	v.open++
	v.sealed = append(v.sealed, s)
	return s, nil
}

// swap puts the next epoch in the place of the open one. The gates are held
// for writing; if it fails, nothing has changed.
func (v *vm) swap(s *sealedEpoch, next []*epochLog, record []byte) error {
	if v.failure.Load() != nil || v.t.incomplete.Load() {
		return ErrWalkRequired // found out since settle; the next attempt tells more
	}
	s.SealedAt = v.t.now()
	for i, d := range v.disks {
		state, err := stateOf(d.file)
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.path, err)
		}
		if state.Size > MaxDiskSize {
			return fmt.Errorf("%w: disk %s has %d bytes, more than the %d that can be protected", ErrInvalid, d.path, state.Size, int64(MaxDiskSize))
		}
		s.Disks[i].Size = state.Size
		s.Disks[i].Floor = min(state.Size, d.open.floor.Load())
		next[i].floor.Store(state.Size)
	}
	err := v.t.commit(func(w *changelog.Writes) {
		w.Epoch(v.id, s.Number, mustJSON(s))
		w.VM(v.id, record)
		for i, d := range v.disks {
			w.Floor(d.id, next[i].number, mustJSON(floorRecord{Floor: next[i].floor.Load(), Resizing: noResize}))
		}
	})
	if err != nil {
		return err
	}
	for i, d := range v.disks {
		logs := append(slices.Clone(*d.logs.Load()), next[i])
		shots := append(slices.Clone(*d.shots.Load()), next[i].shots)
		d.logs.Store(&logs)
		d.shots.Store(&shots)
		d.open = next[i]
	}
	return nil
}

// flush stores the bitmaps of a sealed epoch in place of its regions in
// doubt. mu is held.
func (v *vm) flush(s *sealedEpoch) error {
	for i, d := range v.disks {
		e := d.log(s.Number)
		s.Disks[i].Blocks = e.extents(s.Disks[i].Size).Blocks()
	}
	err := v.t.bulk(func(w *changelog.Writes) {
		for _, d := range v.disks {
			e := d.log(s.Number)
			for r := range e.both() {
				w.Region(d.id, e.number, uint64(r), e.changed(r))
			}
		}
	})
	if err != nil {
		return err
	}
	exact := *s
	exact.Exact = true
	if err := v.t.commit(func(w *changelog.Writes) { w.Epoch(v.id, s.Number, mustJSON(exact)) }); err != nil {
		return err
	}
	s.Exact = true
	return nil
}

// both yields every region that has changed blocks; those that have marks and
// extra ones come twice.
func (e *epochLog) both() func(yield func(region) bool) {
	return func(yield func(region) bool) {
		for r := range e.marks.regions() {
			if !yield(r) {
				return
			}
		}
		for r := range e.extra.regions() {
			if !yield(r) {
				return
			}
		}
	}
}

// log returns the disk's log of an epoch that is sealed or open.
func (d *tracked) log(epoch uint64) *epochLog {
	for _, e := range *d.logs.Load() {
		if e.number == epoch {
			return e
		}
	}
	return nil
}

// reserveEpochs makes sure that an epoch's number is never used again, not
// even after a power cut. mu is held.
func (v *vm) reserveEpochs(epoch uint64) error {
	if epoch <= v.limit {
		return nil
	}
	was := v.limit
	v.limit = epoch + epochReserve
	err := v.t.commit(func(w *changelog.Writes) { w.VM(v.id, v.record(false)) })
	if err == nil {
		err = v.t.syncLog()
	}
	if err != nil {
		v.limit = was
	}
	return err
}
