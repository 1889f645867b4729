package tracker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	t.cfg.FileSystem.Look()
	err = v.settle()
	if held := v.held(); held != "" {
		return Epoch{}, fmt.Errorf("roll over VM %s: %w: %s", v.name, ErrWalkRequired, held)
	}
	if err != nil {
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
	// Who opened a disk before the instant may have changed it unseen.
	if err := v.unsuspected(); err != nil {
		return Epoch{}, fmt.Errorf("roll over VM %s: %w", v.name, errors.Join(err, v.settle()))
	}
	return s.copy(), nil
}

// seal is the rollover itself. It ends the epoch for all disks at one instant,
// at which no guest waits but those whose writes make a disk longer; what is
// slow happens before and after. mu is held.
//
// The change log hears of it in two commits. The first begins the next epoch,
// so that its changes have where to go. The second, when the changes of the
// ended epoch are over, tells how the disks stood at the instant. A process
// that dies between them leaves an epoch that is not exact, and so is given up.
func (v *vm) seal() (*sealedEpoch, error) {
	if err := v.reserveEpochs(v.open + 1); err != nil {
		return nil, err
	}
	for _, d := range v.disks {
		d.resizing.Lock()
		defer d.resizing.Unlock()
	}
	if v.failure.Load() != nil || v.t.incomplete.Load() {
		return nil, ErrWalkRequired // found out since settle; the next attempt tells more
	}
	s := &sealedEpoch{Epoch: Epoch{Number: v.open, SealedAt: v.t.now(), Disks: make([]EpochDisk, len(v.disks))}}
	paths := make([]string, len(v.disks))
	for i, d := range v.disks {
		if err := d.stand(&s.Disks[i]); err != nil {
			return nil, err
		}
		paths[i] = s.Disks[i].Path
	}
	v.apart(paths)
	for i := range s.Disks {
		s.Disks[i].Path = paths[i]
	}
	if err := v.logSeal(s, v.open+1); err != nil {
		return nil, err
	}
	next := make([]*epochLog, len(v.disks))
	for i, d := range v.disks {
		next[i] = newEpochLog(d.id, v.open+1, s.Disks[i].Size)
		d.ready(next[i])
	}
	for _, d := range v.disks {
		d.pass.SetIdle(false)
	}
	v.endTurn(s)
	for i := range v.disks {
		// Nothing has cut it since, so this is its size at the instant.
		next[i].floor.Store(s.Disks[i].Size)
	}
	v.open++
	// The ended epoch is about to be exact, and then needs before-images of what
	// it marked: nothing may change that any more without asking.
	for _, d := range v.disks {
		d.pass.Turn(v.open)
	}
	v.sealed = append(v.sealed, s)
	if err := v.logSeal(s, v.open); err != nil {
		v.t.logBroke(err)
	}
	return s, nil
}

// missing is the error for a disk whose file was not found at the start.
func (d *tracked) missing() error {
	return fmt.Errorf("%w: the disk file %s is missing in the folder: put it back and mount again, or unprotect the VM", ErrInvalid, d.path)
}

// stand notes how a disk stands. resizing is held.
func (d *tracked) stand(e *EpochDisk) error {
	if d.file == nil {
		return d.missing()
	}
	if path, ok := d.vm.t.pathOf(d.file); ok {
		d.path = path
	}
	state, err := d.unresized()
	if err != nil {
		return fmt.Errorf("disk %s: %w", d.path, err)
	}
	if state.Size > MaxDiskSize {
		return fmt.Errorf("%w: disk %s has %d bytes, more than the %d that can be protected", ErrInvalid, d.path, state.Size, int64(MaxDiskSize))
	}
	*e = EpochDisk{ID: d.idText(), Path: d.path, Size: state.Size, Floor: min(state.Size, d.open().floor.Load())}
	return nil
}

// logSeal stores that an epoch is ended and the next one open. mu and the
// disks' resizing are held.
func (v *vm) logSeal(s *sealedEpoch, open uint64) error {
	was := v.open
	v.open = open
	record := v.record(false)
	v.open = was
	return v.t.commit(func(w *changelog.Writes) {
		w.Epoch(v.id, s.Number, mustJSON(s))
		w.VM(v.id, record)
		for i, d := range v.disks {
			w.Floor(d.id, open, mustJSON(floorRecord{Floor: s.Disks[i].Size, Resizing: noResize}))
		}
	})
}

// ready makes e the log of changes that begin in the next turn.
func (d *tracked) ready(e *epochLog) {
	logs := append(slices.Clone(*d.logs.Load()), e)
	shots := append(slices.Clone(*d.shots.Load()), e.shots.Load())
	d.logs.Store(&logs)
	d.shots.Store(&shots)
	d.sides[(d.gate.turn.Load()+1)&1] = e
}

// endTurn ends the turn, notes when that was and how long the disks were then,
// and waits until the changes of that turn are over.
func (v *vm) endTurn(s *sealedEpoch) {
	began := time.Now()
	for _, d := range v.disks {
		d.growing.Lock()
	}
	v.turn.Add(1)
	s.SealedAt = v.t.now()
	for i, d := range v.disks {
		if state, err := stateOf(d.file); err == nil {
			s.Disks[i].Size = state.Size
		} else {
			v.fail(d, fmt.Errorf("find its size at a rollover: %w", err))
		}
		d.growing.Unlock()
	}
	pause := time.Since(began)
	v.complete()
	for _, d := range v.disks {
		pause = max(pause, d.gate.longestWait())
	}
	v.t.cfg.RolloverPause(pause)
}

// grace returns when every change that had begun when it was called is over.
// mu is held.
func (v *vm) grace() {
	for _, d := range v.disks {
		d.resizing.Lock()
		defer d.resizing.Unlock()
	}
	for _, d := range v.disks {
		d.sides[(v.turn.Load()+1)&1] = d.open()
	}
	v.turn.Add(1)
	v.complete()
}

// complete waits until the changes of the turn that was ended are over.
func (v *vm) complete() {
	for _, d := range v.disks {
		d.gate.wake() // who waits for this turn's end
	}
	for _, d := range v.disks {
		d.gate.drain()
	}
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
			d.storeExact(w, d.log(s.Number))
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

// storeExact stores the bitmaps of an epoch in place of its regions in doubt,
// also of those that were made ready for changes that never came.
func (d *tracked) storeExact(w *changelog.Writes, e *epochLog) {
	for r := range e.both() {
		w.Region(d.id, e.number, uint64(r), e.changed(r))
	}
	for n := range e.logged.each() {
		r := region(n)
		if changed := e.changed(r); changed.Empty() {
			w.Region(d.id, e.number, uint64(r), changelog.Bits{})
		}
	}
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
