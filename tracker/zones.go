package tracker

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// When the host loses power, neither the newest part of the change log nor the
// disk files are what they were: what was written last may be there or not,
// block by block, and what was shipped may have reverted. So before the first
// write to a zone of a disk, a record that the zone is hot is made durable. It
// cools when nobody has written to it for a while, the disk file has been
// synced since, and so has the change log. After a power cut the disk can
// differ from the newest recovery point only in hot zones and in regions that
// the change log has: those, and no others, are compared.
const (
	zoneBlocks = (64 << 20) / disk.BlockSize

	// coolInterval is how often zones are looked at. A zone cools when it was
	// quiet for one to two of them, so at the price of one fsync of the disk
	// file in each; the kernel has long written such a zone back by then.
	coolInterval = 30 * time.Second
)

type zone uint64

// zones are the hot zones of a disk. hot and active are read without a lock on
// every write; they change under mu.
type zones struct {
	blocks disk.Block // in a zone
	mu     sync.Mutex
	hot    bitmap // zones that have a durable record, numbered as blocks
	active bitmap // those written to since the last look
	// cut is the lowest size since nothing was hot, math.MaxInt64 if the size
	// was never lowered.
	cut atomic.Int64
	// quietCut is what cut was when quiet looked last.
	quietCut int64
}

func (z *zones) init(t *Tracker) {
	z.blocks = t.cfg.zoneBlocks
	z.cut.Store(math.MaxInt64)
}

func (z *zones) of(b disk.Block) zone { return zone(b / z.blocks) }

// warm tells whether all zones of the extent are hot and known to be in use.
func (z *zones) warm(x disk.Extent) bool {
	for n := z.of(x.Start); n <= z.of(x.End()-1); n++ {
		if !z.active.get(disk.Block(n)) || !z.hot.get(disk.Block(n)) {
			return false
		}
	}
	return true
}

// heat makes the zones of an extent hot, before they are written to. The gate
// is held.
func (d *tracked) heat(x disk.Extent) {
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	var cold []zone
	for n := d.zones.of(x.Start); n <= d.zones.of(x.End()-1); n++ {
		d.zones.active.set(disk.Block(n))
		if !d.zones.hot.get(disk.Block(n)) {
			cold = append(cold, n)
		}
	}
	if len(cold) == 0 {
		return
	}
	d.vm.t.logDurably(func(w *changelog.Writes) {
		for _, n := range cold {
			w.Hot(d.id, uint64(n), true)
		}
	})
	for _, n := range cold {
		d.zones.hot.set(disk.Block(n))
	}
}

// heatCut notes, durably, that the disk is going to be cut. The gate is held
// for writing.
func (d *tracked) heatCut(keep int64) {
	if keep >= d.zones.cut.Load() {
		return
	}
	d.zones.cut.Store(keep)
	d.vm.t.logDurably(func(w *changelog.Writes) { w.Cut(d.id, encodeCut(keep)) })
}

func encodeCut(keep int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(keep)) }

// logDurably is logTouch for what has to survive a power cut.
func (t *Tracker) logDurably(fill func(*changelog.Writes)) {
	t.logTouch(fill)
	if t.incomplete.Load() {
		return
	}
	if err := t.syncLog(); err != nil {
		t.logBroke(err)
	}
}

// cool looks for quiet zones, again and again.
func (t *Tracker) cool(ctx context.Context) {
	ticker := time.NewTicker(coolInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.coolOnce()
		}
	}
}

func (t *Tracker) coolOnce() {
	for _, v := range t.list() {
		for _, d := range v.disks {
			if d.file == nil || t.incomplete.Load() {
				continue
			}
			if err := d.cool(); err != nil {
				t.cfg.Logger.Warn("zones not cooled", "vm", v.name, "disk", d.path, "error", err)
			}
		}
	}
}

// cool takes the mark from zones that were quiet since it was called last.
func (d *tracked) cool() error {
	quiet, idle := d.quiet()
	if len(quiet) == 0 && !idle {
		return nil
	}
	// What was written to them, before quiet held the gate, becomes durable
	// now; and so does the log's knowledge of it.
	if err := d.vm.t.syncDisk(d.file); err != nil {
		return fmt.Errorf("sync disk: %w", err)
	}
	if err := d.vm.t.syncLog(); err != nil {
		return fmt.Errorf("sync change log: %w", err)
	}
	d.gate.Lock()
	defer d.gate.Unlock()
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	var cooled []zone
	for _, n := range quiet {
		if !d.zones.active.get(disk.Block(n)) { // else somebody wrote meanwhile
			cooled = append(cooled, n)
		}
	}
	idle = idle && len(cooled) == len(quiet) && d.zones.active.count() == 0 && d.zones.cut.Load() == d.zones.quietCut
	if len(cooled) == 0 && !idle {
		return nil
	}
	// With the gate closed, no zone becomes hot between the record's end and
	// that of its bit.
	err := d.vm.t.commit(func(w *changelog.Writes) {
		for _, n := range cooled {
			w.Hot(d.id, uint64(n), false)
		}
		if idle {
			w.Cut(d.id, nil)
		}
	})
	if err != nil {
		return err
	}
	for _, n := range cooled {
		d.zones.hot.unset(disk.Block(n))
	}
	if idle {
		d.zones.cut.Store(math.MaxInt64)
	}
	return nil
}

// quiet returns the hot zones that nobody wrote to since it was called last,
// and whether the disk was cut and has been quiet as a whole since. No write to
// those is under way when it returns.
func (d *tracked) quiet() (quiet []zone, idle bool) {
	d.gate.Lock()
	defer d.gate.Unlock()
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	for x := range d.zones.hot.each() {
		if d.zones.active.get(x) {
			continue
		}
		quiet = append(quiet, zone(x))
	}
	cut := d.zones.cut.Load()
	idle = cut != math.MaxInt64 && cut == d.zones.quietCut && d.zones.active.count() == 0
	d.zones.quietCut = cut
	for x := range d.zones.active.each() {
		d.zones.active.unset(x)
	}
	return quiet, idle
}
