package tracker

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// load takes up where the last process ended.
func (t *Tracker) load(was ending) error {
	if err := t.loadEvents(); err != nil {
		return err
	}
	records := map[changelog.ID]vmRecord{}
	err := t.log.VMs(func(id changelog.ID, record []byte) error {
		r, err := decodeVM(record)
		records[id] = r
		return err
	})
	if err != nil {
		return err
	}
	for id, r := range records {
		v, changed, err := t.loadVM(id, r, was)
		if err != nil {
			return fmt.Errorf("take up VM %s: %w", r.Name, err)
		}
		t.vms[v.id] = v
		v.mu.Lock()
		if err := v.takeUp(was, changed); err != nil {
			v.distrust(fmt.Sprintf("its change log could not be taken up: %v", err))
		}
		v.mu.Unlock()
	}
	return t.sweepImages()
}

// loadVM reads a VM from the change log and opens its disks. changed tells,
// unless it is empty, why the disks are not what the log says.
func (t *Tracker) loadVM(id changelog.ID, r vmRecord, was ending) (v *vm, changed string, err error) {
	v = &vm{t: t, id: id, name: r.Name, open: r.Open, limit: r.Limit, walk: r.Walk, givenUp: r.GivenUp}
	v.imageLimit.Store(math.MaxInt64) // until mend has looked at the disks
	v.walking.Store(v.walk.Required)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if was.trusted() {
		if err := v.loadSealed(len(r.Disks)); err != nil {
			return v, "", err
		}
	} else {
		// The log may lack its newest part, and the container may know epochs
		// that it does not: begin with an epoch that never was.
		v.open = v.limit + 1
	}
	for _, dr := range r.Disks {
		d, why, err := t.loadDisk(v, dr, was)
		if err != nil {
			return v, "", fmt.Errorf("disk %s: %w", dr.Path, err)
		}
		v.disks = append(v.disks, d)
		if changed == "" {
			changed = why
		}
	}
	if doubt, err := t.log.Doubt(v.id); err != nil || changed == "" {
		return v, doubt, err
	}
	return v, changed, nil
}

// loadSealed reads what is known of the sealed epochs.
func (v *vm) loadSealed(disks int) error {
	err := v.t.log.Epochs(v.id, func(_ uint64, record []byte) error {
		s := new(sealedEpoch)
		if err := json.Unmarshal(record, s); err != nil {
			return fmt.Errorf("change log is damaged: epoch: %w", err)
		}
		if len(s.Disks) != disks || s.Number >= v.open {
			return fmt.Errorf("change log is damaged: epoch %d does not fit its VM", s.Number)
		}
		v.sealed = append(v.sealed, s)
		return nil
	})
	if err != nil {
		return err
	}
	lost, err := v.t.log.Lost(v.id)
	v.lostThrough.Store(lost)
	return err
}

// takeUp decides what the loaded logs are worth. mu is held.
func (v *vm) takeUp(was ending, changed string) error {
	reason := changed
	switch {
	case was.first:
		reason = "the record of how the filter ended is missing"
	case was.incomplete:
		reason = "the filter ended while its change log could not be written"
	}
	if !was.trusted() {
		if err := v.startOver(); err != nil {
			return err
		}
	}
	if !was.trusted() && reason == "" && v.walk.Required {
		reason = v.walk.Reason // what was walked before may have reverted
	}
	if reason != "" {
		if err := v.requireWalk(reason); err != nil {
			return err
		}
	}
	// One that cannot be read cannot be read as a part of the next one either:
	// nobody has saved the blocks that count as changed only in it.
	readable := true
	for i := 0; i < len(v.sealed); {
		if readable = readable && v.sealed[i].Exact && v.sealed[i].Number > v.lostThrough.Load(); readable {
			i++
			continue
		}
		if err := v.merge(i, "the filter ended before its change log was complete"); err != nil {
			return err
		}
	}
	v.retireImages()
	return nil
}

// distrust gives everything up that was loaded, so that the VM can run; settle
// makes a walk of it as soon as that can be stored. mu is held.
func (v *vm) distrust(reason string) {
	v.sealed = nil
	for _, d := range v.disks {
		d.begin(d.open())
	}
	v.failure.Store(&reason)
	v.t.noteIncomplete(true)
	v.t.event(v, nil, EventLogFailed, reason)
}

// loadDisk finds a disk's file and reads its logs.
func (t *Tracker) loadDisk(v *vm, r diskRecord, was ending) (d *tracked, changed string, err error) {
	id, err := parseID(r.ID)
	if err != nil {
		return nil, "", err
	}
	d = v.newDisk(id, r.Path, r.Inode, r.Handle)
	file, state, err := t.findDisk(r)
	if err != nil {
		changed = fmt.Sprintf("disk %s was not found: %v", r.Path, err)
		t.event(v, d, EventDiskRemoved, changed)
		d.removed.Store(true)
	} else {
		d.file, d.device = file, state.device
		d.size.Store(state.Size)
		changed = d.changedBehind(r, state, was)
	}
	load := d.loadLogs
	if !was.trusted() {
		load = d.survey
	}
	if err := errors.Join(d.loadZones(), load(state.Size)); err != nil {
		if d.file != nil {
			err = errors.Join(err, d.file.Close())
		}
		return nil, "", err
	}
	return d, changed, nil
}

// loadLogs reads the logs of the VM's sealed epochs and of its open one, and
// the before-images.
func (d *tracked) loadLogs(size int64) error {
	var logs []*epochLog
	for _, s := range d.vm.sealed {
		e, err := d.loadLog(s.Number)
		if err != nil {
			return err
		}
		logs = append(logs, e)
	}
	open, err := d.loadLog(d.vm.open)
	if err != nil {
		return err
	}
	d.begin(open)
	logs = append(logs, open)
	d.logs.Store(&logs)
	if err := d.loadImages(); err != nil {
		return err
	}
	if err := d.loadFloor(size); err != nil {
		return err
	}
	known := func(epoch uint64) bool { return d.log(epoch) != nil }
	stale, err := d.vm.t.log.StaleEpochs(d.id, known)
	if err != nil {
		return err
	}
	for _, epoch := range stale {
		if err := d.vm.t.log.Drop(d.id, epoch); err != nil {
			return err
		}
	}
	return nil
}

// loadLog reads one epoch's log. All its blocks are extra ones: this process
// saw none of them change and saved no before-image for them.
func (d *tracked) loadLog(epoch uint64) (*epochLog, error) {
	e := newEpochLog(d.id, epoch, 0)
	err := d.vm.t.log.Regions(d.id, epoch, func(r uint64, blocks changelog.Bits, exact bool) {
		e.extra.add(region(r), blocks)
		if !exact { // else the next change in it has to be logged again
			e.logged.set(disk.Block(r))
		}
	})
	return e, err
}

// loadImages reads which before-images there are.
func (d *tracked) loadImages() error {
	shots := []*images{}
	err := d.vm.t.log.ImageEpochs(d.id, func(epoch, r uint64, blocks changelog.Bits) {
		if n := len(shots); n == 0 || shots[n-1].epoch != epoch {
			shots = append(shots, newImages(d.id, epoch))
		}
		shot := shots[len(shots)-1]
		shot.saved.add(region(r), blocks)
		bytes := int64(blocks.Count()) * disk.BlockSize
		shot.bytes.Add(bytes)
		d.vm.imageBytes.Add(bytes)
	})
	if err != nil {
		return err
	}
	open := d.open()
	if n := len(shots); n > 0 && shots[n-1].epoch == open.number {
		open.shots.Store(shots[n-1])
	} else {
		shots = append(shots, open.shots.Load())
	}
	d.shots.Store(&shots)
	return nil
}

// loadFloor reads the open epoch's floor, and finishes what a resize left.
func (d *tracked) loadFloor(size int64) error {
	open := d.open()
	record, err := d.vm.t.log.Floor(d.id, open.number)
	if err != nil {
		return err
	}
	var f floorRecord
	if record == nil {
		return fmt.Errorf("change log is damaged: epoch %d has no floor", open.number)
	}
	if err := json.Unmarshal(record, &f); err != nil {
		return fmt.Errorf("change log is damaged: floor: %w", err)
	}
	open.floor.Store(min(f.Floor, size))
	if f.Resizing == noResize || d.file == nil {
		return nil
	}
	d.markData(f.Resizing)
	d.logFloor(noResize)
	return nil
}

// sweepImages deletes files of before-images that nothing refers to.
func (t *Tracker) sweepImages() error {
	known := map[string]bool{}
	for _, v := range t.vms {
		for _, d := range v.disks {
			for _, shot := range *d.shots.Load() {
				known[shot.name] = true
			}
		}
	}
	names, err := namesIn(t.imageFolder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !known[name] {
			if err := t.imageFolder.Remove(name); err != nil {
				return fmt.Errorf("sweep before-images: %w", err)
			}
		}
	}
	return nil
}

// namesIn lists the folder of before-images.
func namesIn(folder *os.Root) ([]string, error) {
	dir, err := folder.Open(".")
	if err != nil {
		return nil, fmt.Errorf("list before-images: %w", err)
	}
	defer dir.Close() //nolint:errcheck // only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list before-images: %w", err)
	}
	return names, nil
}
