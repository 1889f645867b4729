package tracker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

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

// aheadZones is how many zones beyond a cold one are made hot with it, when the
// one before it is hot: whoever writes a disk from end to end then waits for
// one record in so many zones.
const aheadZones = 4

// Whoever writes all over a disk would wait for a record in each of its zones.
// So for every heatsPerDoubling times that zones had to be made hot since they
// were looked at last, twice as many neighbours are made hot with one.
const (
	heatsPerDoubling = 4
	maxNeighbours    = 16
)

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
	// resizes counts the resizes that began; mu guards it.
	resizes uint64
	// seen is what resizes was at the last look.
	seen uint64
	// heats counts how often zones were made hot since the last look.
	heats int
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

// heat makes the zones of an extent hot, before they are written to. The
// caller's change is under way, or it looks afterwards whether they still are.
func (d *tracked) heat(x disk.Extent) {
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	first, last := d.zones.of(x.Start), d.zones.of(x.End()-1)
	var cold []zone
	for n := first; n <= last; n++ {
		d.zones.active.set(disk.Block(n))
		if !d.zones.hot.get(disk.Block(n)) {
			cold = append(cold, n)
		}
	}
	if len(cold) == 0 {
		return
	}
	from, to := d.zones.neighbours(first, last)
	if first > 0 && d.zones.hot.get(disk.Block(first-1)) {
		to = max(to, last+aheadZones)
	}
	end := d.zones.of(disk.Block(disk.BlockCount(d.size.Load())))
	for n := from; n <= min(to, end); n++ {
		if (n < first || n > last) && !d.zones.hot.get(disk.Block(n)) {
			cold = append(cold, n)
		}
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

// neighbours returns the zones that are made hot with those of a write, and
// counts that there was one. mu is held.
func (z *zones) neighbours(first, last zone) (from, to zone) {
	n := zone(min(1<<min(z.heats/heatsPerDoubling, 8), maxNeighbours))
	z.heats++
	return first &^ (n - 1), last | (n - 1)
}

// heatCut notes, durably, that the disk is going to be cut. resizing is held.
func (d *tracked) heatCut(keep int64) {
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	d.zones.resizes++
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
		if t.incomplete.Load() {
			return
		}
		if err := v.cool(); err != nil {
			t.cfg.Logger.Warn("zones not cooled", "vm", v.name, "error", err)
		}
	}
}

// quietZones are what can cool of a disk.
type quietZones struct {
	zones []zone
	// idle tells that the disk was cut, but has been quiet as a whole since.
	idle bool
}

// cool takes the mark from zones that were quiet since it was called last.
func (v *vm) cool() error {
	quiet := make([]quietZones, len(v.disks))
	for i, d := range v.disks {
		quiet[i] = d.zones.quiet()
	}
	if !slices.ContainsFunc(quiet, quietZones.any) {
		return nil
	}
	// Changes that began before the zones were looked at may be under way.
	v.mu.Lock()
	v.grace()
	v.mu.Unlock()
	// Those, and all before them, become durable now; and so does what the log
	// knows of them.
	for i, d := range v.disks {
		if d.file == nil || !quiet[i].any() {
			continue
		}
		if err := d.sync(); err != nil {
			v.fail(d, fmt.Errorf("what was written to it may be lost: %w", err))
			return err
		}
	}
	if err := v.t.makeDurable(); err != nil {
		return fmt.Errorf("sync change log: %w", err)
	}
	for i, d := range v.disks {
		if d.file == nil || !quiet[i].any() {
			continue
		}
		if err := d.cooled(quiet[i]); err != nil {
			return err
		}
	}
	return nil
}

// sync makes the disk file durable. If that fails, the kernel has given up
// writing what it could not, and tells nobody twice: it keeps it in memory for a
// while, where it reads as if it were there, and then shows what was there
// before. That had better be seen at once, by whoever compares the disk.
func (d *tracked) sync() error {
	err := d.vm.t.syncDisk(d.file)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("sync disk %s: %w", d.path, err)
	if forget := unix.Fadvise(int(d.file.Fd()), 0, 0, unix.FADV_DONTNEED); forget != nil {
		return errors.Join(err, fmt.Errorf("drop its page cache: %w", forget))
	}
	return err
}

func (q quietZones) any() bool { return q.idle || len(q.zones) > 0 }

// quiet returns what nobody wrote to since it was called last.
func (z *zones) quiet() (q quietZones) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for n := range z.hot.each() {
		if !z.active.get(n) {
			q.zones = append(q.zones, zone(n))
		}
	}
	q.idle = z.cut.Load() != math.MaxInt64 && z.resizes == z.seen && z.active.count() == 0
	z.seen = z.resizes
	z.heats = 0
	for n := range z.active.each() {
		z.active.unset(n)
	}
	return q
}

// cooled takes the marks away of what is durable and still quiet. No zone
// becomes hot, and no resize begins, between the record's end and the mark's.
func (d *tracked) cooled(q quietZones) error {
	z := &d.zones
	z.mu.Lock()
	defer z.mu.Unlock()
	cold := slices.DeleteFunc(q.zones, func(n zone) bool { return z.active.get(disk.Block(n)) })
	idle := q.idle && len(cold) == len(q.zones) && z.resizes == z.seen && z.active.count() == 0
	if len(cold) == 0 && !idle {
		return nil
	}
	err := d.vm.t.commit(func(w *changelog.Writes) {
		for _, n := range cold {
			w.Hot(d.id, uint64(n), false)
		}
		if idle {
			w.Cut(d.id, nil)
		}
	})
	if err != nil {
		return err
	}
	for _, n := range cold {
		z.hot.unset(disk.Block(n))
	}
	if idle {
		z.cut.Store(math.MaxInt64)
	}
	return nil
}
