package tracker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"lifeboat/tracker/changelog"
)

// maxDisks bounds the disks of one VM: what its rollover has to stop at once.
const maxDisks = 64

// Protect implements control.Backend.
func (t *Tracker) Protect(_ context.Context, spec Spec) (VM, error) {
	v, err := t.newVM(spec)
	if err != nil {
		return VM{}, fmt.Errorf("protect VM %s: %w", spec.Name, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := t.enroll(v); err != nil {
		return VM{}, fmt.Errorf("protect VM %s: %w", spec.Name, errors.Join(err, v.close()))
	}
	if err := v.begin(); err != nil {
		err = errors.Join(err, v.strike(), v.erase(), v.close())
		return VM{}, fmt.Errorf("protect VM %s: %w", spec.Name, err)
	}
	t.event(v, nil, EventProtected, fmt.Sprintf("VM %s with %d disks is tracked", v.name, len(v.disks)))
	return v.describe(), nil
}

// newVM opens the disks of a VM that is to be protected.
func (t *Tracker) newVM(spec Spec) (v *vm, err error) {
	id, err := parseID(spec.ID)
	if err != nil {
		return nil, err
	}
	if spec.Name == "" || len(spec.Disks) == 0 || len(spec.Disks) > maxDisks {
		return nil, fmt.Errorf("%w: a VM has a name and 1 to %d disks", ErrInvalid, maxDisks)
	}
	v = &vm{t: t, id: id, name: spec.Name, open: 1}
	v.imageLimit.Store(minImageLimit)
	v.walk = Walk{Number: uint64(t.now().UnixMilli()), Required: true, Reason: "initial replication", Since: t.now()}
	v.walking.Store(true)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	for _, ds := range spec.Disks {
		id, err := parseID(ds.ID)
		if err != nil {
			return nil, err
		}
		f, state, err := t.openDisk(ds.Path)
		if err != nil {
			return nil, err
		}
		d := v.newDisk(id, ds.Path, state.inode, handleOf(f))
		d.device, d.file = state.device, f
		d.size.Store(state.Size)
		d.begin(newEpochLog(id, v.open, state.Size))
		v.disks = append(v.disks, d)
		if state.Size > MaxDiskSize {
			return nil, fmt.Errorf("%w: disk %s has %d bytes, more than the %d that can be protected", ErrInvalid, ds.Path, state.Size, int64(MaxDiskSize))
		}
	}
	return v, nil
}

// enroll enters a VM, unless it or a disk of it is there already.
func (t *Tracker) enroll(v *vm) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vms[v.id] != nil {
		return fmt.Errorf("VM %s: %w", v.idText(), ErrExists)
	}
	inodes, ids := map[uint64]bool{}, map[changelog.ID]bool{}
	for _, other := range t.vms {
		if other.name == v.name {
			return fmt.Errorf("a VM named %s: %w", v.name, ErrExists)
		}
		for _, d := range other.disks {
			inodes[d.inode], ids[d.id] = true, true
		}
	}
	for _, d := range v.disks {
		if inodes[d.inode] || ids[d.id] {
			return fmt.Errorf("disk %s: %w", d.path, ErrExists)
		}
		inodes[d.inode], ids[d.id] = true, true
	}
	t.vms[v.id] = v
	return nil
}

// begin stores a new VM and attaches its disks. mu is held.
func (v *vm) begin() error {
	// Whoever finds the VM in the change log has to find its disks there.
	for _, d := range v.disks {
		d.enter()
	}
	if err := v.reserveEpochs(v.open); err != nil {
		return err
	}
	err := v.t.commit(func(w *changelog.Writes) {
		for _, d := range v.disks {
			w.Floor(d.id, v.open, mustJSON(floorRecord{Floor: d.open().floor.Load(), Resizing: noResize}))
		}
	})
	if err != nil {
		return err
	}
	for _, d := range v.disks {
		if err := v.attach(d); err != nil {
			return err
		}
	}
	return v.syncDisks()
}

// strike makes sure that no process to come finds the VM in the change log. Until
// then its disks have to be tracked: who finds it goes by that. mu is held.
func (v *vm) strike() error {
	err := v.t.log.Commit(func(w *changelog.Writes) {
		w.VM(v.id, nil)
		for _, s := range v.sealed {
			w.Epoch(v.id, s.Number, nil)
		}
		w.Forget(v.id)
		w.Doubt(v.id, "")
	})
	if err == nil {
		err = v.t.syncLog()
	}
	if err != nil {
		return err
	}
	for _, d := range v.disks {
		d.pass.Remove()
	}
	return nil
}

// erase takes a VM out of the tracker and deletes what is kept of it. mu is
// held.
func (v *vm) erase() error {
	v.gone = true
	for _, d := range v.disks {
		if d.file != nil {
			v.t.cfg.FileSystem.Detach(d.device, d.inode)
		}
	}
	v.t.mu.Lock()
	delete(v.t.vms, v.id)
	v.t.mu.Unlock()
	v.t.postAll() // what its last changes entered is deleted, too
	var errs []error
	for _, d := range v.disks {
		errs = append(errs, v.t.log.DropDisk(d.id))
		for _, shot := range *d.shots.Load() {
			errs = append(errs, shot.remove(v.t.imageFolder))
		}
	}
	return errors.Join(errs...)
}

// Unprotect implements control.Backend.
func (t *Tracker) Unprotect(_ context.Context, id string) error {
	v, err := t.locked(id)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	if err := v.strike(); err != nil {
		return fmt.Errorf("unprotect VM %s: %w", v.name, err)
	}
	v.retire.Lock() // nobody reads its sealed epochs
	err = errors.Join(v.erase(), v.close())
	v.retire.Unlock()
	t.event(v, nil, EventUnprotected, fmt.Sprintf("VM %s is not tracked any more", v.name))
	if err != nil {
		return fmt.Errorf("unprotect VM %s: %w", v.name, err)
	}
	return nil
}

func decodeVM(record []byte) (r vmRecord, err error) {
	if err := json.Unmarshal(record, &r); err != nil {
		return r, fmt.Errorf("change log is damaged: VM: %w", err)
	}
	if r.Open == 0 || len(r.Disks) == 0 || len(r.Disks) > maxDisks {
		return r, errors.New("change log is damaged: a VM's record lacks epoch or disks")
	}
	return r, nil
}
