package tracker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// loadZones reads which zones of a disk are hot. They cool as others do.
func (d *tracked) loadZones() error {
	err := d.vm.t.log.HotZones(d.id, func(n uint64) {
		if n < uint64(d.zones.of(disk.BlockAt(MaxDiskSize))) {
			d.zones.hot.set(disk.Block(n))
		}
	})
	if err != nil {
		return err
	}
	record, err := d.vm.t.log.Cut(d.id)
	if err != nil || record == nil {
		return err
	}
	if len(record) != 8 {
		return fmt.Errorf("change log is damaged: the size of a cut has %d bytes", len(record))
	}
	d.zones.cut.Store(int64(binary.BigEndian.Uint64(record)))
	return nil
}

// survey collects, after a power cut, all blocks in which the disk can differ
// from the newest recovery point, and makes them the open epoch's: those of hot
// zones, those of every logged region, and whatever lies beyond the lowest size
// that the disk may have had.
func (d *tracked) survey(size int64) error {
	open := newEpochLog(d.id, d.vm.open, size)
	d.begin(open)
	if d.file == nil {
		return nil
	}
	extra := &open.extra
	blocks := disk.BlockCount(size)
	for n := range d.zones.hot.each() {
		x := disk.Extent{Start: n * d.zones.blocks, Count: uint64(d.zones.blocks)}
		for r := regionOf(x.Start); r.first() < min(x.End(), disk.Block(blocks)); r++ {
			extra.add(r, within(r, x))
		}
	}
	err := d.vm.t.log.AllRegions(d.id, func(r uint64, set changelog.Bits) {
		if region(r).first() < disk.Block(blocks) {
			extra.add(region(r), set)
		}
	})
	if err != nil {
		return err
	}
	floor := min(size, d.zones.cut.Load())
	err = d.vm.t.log.AllFloors(d.id, func(record []byte) error {
		var f floorRecord
		if err := json.Unmarshal(record, &f); err != nil {
			return fmt.Errorf("change log is damaged: floor: %w", err)
		}
		floor = min(floor, f.Floor)
		if f.Resizing != noResize {
			floor = min(floor, f.Resizing)
		}
		return nil
	})
	if err != nil {
		return err
	}
	floor = max(floor, 0)
	open.floor.Store(floor)
	return d.addData(extra, floor)
}

// addData adds everything from an offset on that is not a hole.
func (d *tracked) addData(to *bitmap, offset int64) error {
	for next := disk.BlockAt(offset); ; {
		x, err := allocated(d.file, next)
		if err != nil || x.Count == 0 {
			return err
		}
		for r := regionOf(x.Start); r.first() < x.End(); r++ {
			to.add(r, within(r, x))
		}
		next = x.End()
	}
}

// startOver stores what survey found as the log of an epoch that never was,
// and deletes the logs of all others. A death on the way leaves the old logs,
// or both: the next start surveys again. mu is held.
func (v *vm) startOver() error {
	err := v.t.bulk(func(w *changelog.Writes) {
		for _, d := range v.disks {
			w.Floor(d.id, v.open, mustJSON(floorRecord{Floor: d.open().floor.Load(), Resizing: noResize}))
			for r, set := range d.open().extra.regions() {
				w.Region(d.id, v.open, uint64(r), set)
			}
		}
	})
	if err != nil {
		return err
	}
	if err := v.t.syncLog(); err != nil {
		return err
	}
	v.limit = 0 // the reserve of a boot is used up with it
	if err := v.reserveEpochs(v.open); err != nil {
		return err
	}
	var stale []uint64
	err = v.t.log.Epochs(v.id, func(epoch uint64, _ []byte) error {
		stale = append(stale, epoch)
		return nil
	})
	if err != nil {
		return err
	}
	err = v.t.commit(func(w *changelog.Writes) {
		for _, epoch := range stale {
			w.Epoch(v.id, epoch, nil)
		}
		w.Forget(v.id)
	})
	if err != nil {
		return err
	}
	examine := uint64(0)
	for _, d := range v.disks {
		examine += d.open().extra.count()
		if err := v.t.log.DropAllImages(d.id); err != nil {
			return err
		}
		old, err := v.t.log.StaleEpochs(d.id, func(epoch uint64) bool { return epoch == v.open })
		if err != nil {
			return err
		}
		for _, epoch := range old {
			if err := v.t.log.Drop(d.id, epoch); err != nil {
				return err
			}
		}
	}
	v.t.event(v, nil, EventPowerLost, fmt.Sprintf(
		"the host stopped without a clean stop of the filter: recovery points not yet shipped are given up, and %d bytes in hot zones and logged regions are compared with the replica",
		min(examine, math.MaxInt64/disk.BlockSize)*disk.BlockSize))
	return nil
}
