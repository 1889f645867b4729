package tracker

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"lifeboat/disk"
)

// VMs implements control.Backend.
func (t *Tracker) VMs(_ context.Context) ([]VM, error) {
	var out []VM
	for _, v := range t.list() {
		v.mu.Lock()
		out = append(out, v.describe())
		v.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b VM) int {
		return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID)
	})
	return out, nil
}

// VM implements control.Backend.
func (t *Tracker) VM(_ context.Context, id string) (VM, error) {
	v, err := t.locked(id)
	if err != nil {
		return VM{}, err
	}
	defer v.mu.Unlock()
	return v.describe(), nil
}

// Changed implements control.Backend.
func (t *Tracker) Changed(_ context.Context, id string, epoch uint64, diskID string) (Extents, error) {
	v, err := t.locked(id)
	if err != nil {
		return nil, err
	}
	defer v.mu.Unlock()
	at, err := v.sealedAt(epoch)
	if err != nil {
		return nil, err
	}
	for i, d := range v.disks {
		if d.idText() == diskID {
			return d.log(epoch).extents(v.sealed[at].Disks[i].Size), nil
		}
	}
	return nil, fmt.Errorf("disk %s of VM %s: %w", diskID, v.name, ErrNotFound)
}

// ReadSealed implements control.Backend.
func (t *Tracker) ReadSealed(_ context.Context, id string, epoch uint64, diskID string, p []byte, offset int64) error {
	v, err := t.vm(id)
	if err != nil {
		return err
	}
	d, err := v.disk(diskID)
	if err != nil {
		return err
	}
	if offset < 0 || offset%disk.BlockSize != 0 || len(p)%disk.BlockSize != 0 || offset+int64(len(p)) > MaxDiskSize {
		return fmt.Errorf("%w: read of %d bytes at %d: not whole blocks of a disk", ErrInvalid, len(p), offset)
	}
	size, err := v.sealedSize(epoch, d)
	if err != nil {
		return err
	}

	// From here on no epoch is taken away. Rollovers go on, and the write
	// path too.
	v.retire.RLock()
	defer v.retire.RUnlock()
	e := d.log(epoch)
	if e == nil || e == (*d.logs.Load())[len(*d.logs.Load())-1] {
		return fmt.Errorf("epoch %d of VM %s: %w", epoch, v.name, ErrEpochGone)
	}
	x := disk.ExtentOf(offset, int64(len(p)))
	if !e.contains(x) {
		return fmt.Errorf("%w: blocks %d to %d were not all changed in epoch %d", ErrInvalid, x.Start, x.End(), epoch)
	}
	if err := readFull(d.file, p, offset); err != nil {
		return fmt.Errorf("disk %s: %w", d.path, err)
	}
	if err := d.overlay(epoch, x, p); err != nil {
		return fmt.Errorf("before-images of disk %s: %w", d.path, err)
	}
	if epoch <= v.lostThrough.Load() {
		return fmt.Errorf("epoch %d of VM %s lacks before-images: %w", epoch, v.name, ErrEpochGone)
	}
	if err := v.unsuspected(); err != nil {
		return fmt.Errorf("epoch %d of VM %s: %w: %w", epoch, v.name, ErrEpochGone, err)
	}
	if beyond := offset + int64(len(p)) - size; beyond > 0 {
		clear(p[max(0, int64(len(p))-beyond):])
	}
	return nil
}

func (v *vm) sealedSize(epoch uint64, d *tracked) (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone {
		return 0, fmt.Errorf("VM %s: %w", v.name, ErrNotFound)
	}
	at, err := v.sealedAt(epoch)
	if err != nil {
		return 0, err
	}
	return v.sealed[at].Disks[slices.Index(v.disks, d)].Size, nil
}

// contains tells whether all blocks of the extent count as changed.
func (e *epochLog) contains(x disk.Extent) bool {
	for r := regionOf(x.Start); r.first() < x.End(); r++ {
		asked := within(r, x)
		if left := minus(asked, e.changed(r)); !left.Empty() {
			return false
		}
	}
	return true
}

// overlay puts the before-images in the place of blocks that were read from
// the disk and that were overwritten after the epoch. p was read before: a
// block that the disk showed changed has its image's bit set by now. The first
// image after the epoch is the one.
func (d *tracked) overlay(epoch uint64, x disk.Extent, p []byte) error {
	shots := *d.shots.Load()
	for r := regionOf(x.Start); r.first() < x.End(); r++ {
		left := within(r, x)
		for _, shot := range shots {
			if shot.epoch <= epoch {
				continue
			}
			found := intersect(left, shot.saved.region(r))
			for run := range runs(r, found) {
				at := run.Start.Offset() - x.Start.Offset()
				if err := shot.read(d.vm.t.imageFolder, p[at:at+int64(run.Count)*disk.BlockSize], run.Start.Offset()); err != nil {
					return err
				}
			}
			left = minus(left, found)
		}
	}
	return nil
}

// ReadDisk implements control.Backend.
func (t *Tracker) ReadDisk(_ context.Context, id, diskID string, p []byte, offset int64) error {
	f, err := t.diskFile(id, diskID)
	if err != nil {
		return err
	}
	if offset < 0 {
		return fmt.Errorf("%w: read at %d", ErrInvalid, offset)
	}
	return readFull(f, p, offset)
}

// Allocated implements control.Backend.
func (t *Tracker) Allocated(_ context.Context, id, diskID string, from disk.Block) (disk.Extent, error) {
	f, err := t.diskFile(id, diskID)
	if err != nil {
		return disk.Extent{}, err
	}
	if from > disk.BlockAt(MaxDiskSize) {
		return disk.Extent{Start: from}, nil
	}
	return allocated(f, from)
}

func (t *Tracker) diskFile(id, diskID string) (*os.File, error) {
	v, err := t.vm(id)
	if err != nil {
		return nil, err
	}
	d, err := v.disk(diskID)
	if err != nil {
		return nil, err
	}
	if d.file == nil {
		return nil, d.missing()
	}
	return d.file, nil
}
