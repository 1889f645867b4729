package tracker

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// MaxDiskSize is the largest disk that is tracked, in bytes: what VHDX allows.
const MaxDiskSize = 64 << 40

// Tracked is what the file system tells of the changes of a disk: see
// fusefs.Disk, which says when each method is to be called.
type Tracked interface {
	BeginChange(offset, length int64) (change uint64)
	BeginClear(offset, length int64) (change uint64)
	EndChange(change uint64)
	BeginResize(keep int64)
	EndResize()
	NameRemoved()
}

// tracked is a protected disk.
//
// Locks, in the order in which they may be taken: the VM's mu, resizing of its
// disks in their order, growing likewise, a disk's gate, a region's lock or
// that of the zones. The write path takes none of them but the gate, which
// keeps nobody out; for the first touch of a block in an epoch, a region's
// lock; and when the disk grows by the write, growing for reading.
type tracked struct {
	id     changelog.ID
	vm     *vm
	device uint64
	inode  uint64
	handle []byte   // the file handle, as the kernel gives it; nil where there is none
	path   string   // as last seen, relative to the folder
	file   *os.File // nil when the disk file was not found at start
	// attached tells that its changes are seen. The VM's mu guards it.
	attached bool

	gate gate
	// sides are the open epoch's log for changes of the present turn, and the
	// log for those of the turn before: another one if a rollover ended it.
	sides   [2]*epochLog
	regions [shards]sync.Mutex
	zones   zones
	course  course

	// resizing is held while the size changes other than by a write, and by
	// who ends a turn. keep is for the time between BeginResize and EndResize.
	resizing sync.Mutex
	keep     int64
	// growing is held for reading while a write makes the disk longer, for
	// writing at the instant of a rollover: the size is that of the instant.
	growing sync.RWMutex
	// size is the disk's, or less: a write that ends above it takes growing.
	size atomic.Int64

	// logs are the sealed epochs, oldest first, and then the open one; shots
	// are the before-images, oldest first, those of the open epoch last. Both
	// lists are replaced, never changed.
	logs  atomic.Pointer[[]*epochLog]
	shots atomic.Pointer[[]*images]

	removed atomic.Bool
	// holder says who has the disk file open for writing other than through
	// the mount, so that changes are not seen; nil if nobody has.
	holder atomic.Pointer[string]
}

// epochLog is one disk's change log of one epoch.
type epochLog struct {
	number uint64
	// marks are the blocks that this process saw change; each has a
	// before-image if a sealed epoch needed one.
	marks bitmap
	// extra are blocks that count as changed too: marks of a process that
	// died, region by region, and those of epochs merged into this one.
	extra bitmap
	// logged are the regions that have a record in the change log, by number.
	logged bitmap
	// floor is the lowest size of the disk in the epoch, in bytes, while it is
	// open; EpochDisk has it afterwards.
	floor atomic.Int64
	// shots are the before-images that were saved while the epoch was open.
	shots atomic.Pointer[images]
}

// begin makes e the log of the open epoch, and the only one.
func (d *tracked) begin(e *epochLog) {
	d.sides = [2]*epochLog{e, e}
	d.logs.Store(&[]*epochLog{e})
	d.shots.Store(&[]*images{e.shots.Load()})
}

func newEpochLog(id changelog.ID, number uint64, floor int64) *epochLog {
	e := &epochLog{number: number}
	e.shots.Store(newImages(id, number))
	e.floor.Store(floor)
	return e
}

func newImages(id changelog.ID, epoch uint64) *images {
	return &images{epoch: epoch, name: imagesName(id, epoch)}
}

// changed returns the blocks of a region that count as changed.
func (e *epochLog) changed(r region) changelog.Bits {
	return union(e.marks.region(r), e.extra.region(r))
}

// extents returns all blocks that count as changed, below size.
func (e *epochLog) extents(size int64) Extents {
	all := &e.marks
	if e.extra.directory.Load() != nil {
		all = new(bitmap)
		all.addAll(&e.marks)
		all.addAll(&e.extra)
	}
	return clip(all.extents(), size)
}

// clip cuts off what lies beyond a disk's size.
func clip(x Extents, size int64) Extents {
	end := disk.Block(disk.BlockCount(size))
	for n := len(x); n > 0 && x[n-1].End() > end; n = len(x) {
		if x[n-1].Start < end {
			x[n-1].Count = uint64(end - x[n-1].Start)
			break
		}
		x = x[:n-1]
	}
	return x
}

// A change under way, as BeginChange tells EndChange of it: the parts of the
// disk in the low half, and these.
const (
	changeOdd   = 1 << 32 // its turn is odd
	changeGrows = 1 << 33 // it holds growing
)

// BeginChange implements Tracked.
func (d *tracked) BeginChange(offset, length int64) (change uint64) {
	for {
		change, turn, x := d.beginChange(offset, length)
		if x.Count == 0 {
			return change
		}
		if d.zones.warm(x) {
			if !d.sides[turn&1].marks.containsAll(x) {
				d.touch(turn, x)
				d.foresee(x)
			}
			return change
		}
		// To make a zone hot waits for the disk: not with a change under way,
		// for which a rollover would wait.
		d.EndChange(change)
		d.heat(x)
	}
}

// beginChange begins a change and returns its turn and the blocks that it may
// touch, of which none is marked yet.
func (d *tracked) beginChange(offset, length int64) (change, turn uint64, x disk.Extent) {
	end := offset + min(length, MaxDiskSize-min(offset, MaxDiskSize))
	x = disk.ExtentOf(offset, end-offset)
	for {
		change = 0
		if end > d.size.Load() {
			d.growing.RLock()
			change = changeGrows
		}
		if x.Count == 0 {
			return change, 0, x
		}
		parts := shardsOf(regionOf(x.Start), regionOf(x.End()-1))
		turn = d.gate.enter(parts)
		change |= uint64(parts) | turn&1*changeOdd
		if change&changeGrows != 0 || end <= d.size.Load() {
			return change, turn, x
		}
		d.EndChange(change) // it was cut while this waited for the gate
	}
}

// EndChange implements Tracked.
func (d *tracked) EndChange(change uint64) {
	d.gate.leave(shardSet(change), change/changeOdd)
	if change&changeGrows != 0 {
		if s, err := stateOf(d.file); err == nil {
			d.size.Store(s.Size)
		}
		d.growing.RUnlock()
	}
}

// measure notes the disk's size, when changes were not seen for a while.
func (d *tracked) measure() {
	d.growing.Lock()
	defer d.growing.Unlock()
	if s, err := stateOf(d.file); err == nil {
		d.size.Store(s.Size)
	}
}

// open returns the log of the open epoch. The caller holds the VM's mu or
// resizing: no rollover happens meanwhile.
func (d *tracked) open() *epochLog { return d.sides[d.gate.turn.Load()&1] }

// touch marks blocks of which some are not marked yet in the epoch of a turn.
// The caller's change is under way in it, or the gate is closed.
func (d *tracked) touch(turn uint64, x disk.Extent) {
	for r := regionOf(x.Start); r.first() < x.End(); r++ {
		d.touchRegion(turn, r, within(r, x))
	}
}

func (d *tracked) touchRegion(turn uint64, r region, set changelog.Bits) {
	// A change of the epoch before may still be going on here. Its blocks have
	// to be marked and changed before they are saved for that epoch.
	d.gate.settle(r, turn)
	lock := &d.regions[r%shards]
	lock.Lock()
	defer lock.Unlock()
	open := d.sides[turn&1]
	fresh := minus(set, open.marks.region(r))
	if fresh.Empty() {
		return
	}
	d.readyRegion(open, r, fresh)
	open.marks.add(r, fresh)
}

// readyRegion saves those of a region's blocks that a sealed epoch needs, and
// logs that the region is going to be changed. The region is locked.
func (d *tracked) readyRegion(open *epochLog, r region, fresh changelog.Bits) {
	shots := open.shots.Load()
	save := d.saveImages(open, shots, r, intersect(fresh, d.needed(open, shots, r)))
	saved := shots.saved.region(r)
	logged := open.logged.get(disk.Block(r))
	if logged && save.Empty() {
		return
	}
	e := touchEntry{disk: d.id, epoch: open.number, region: uint64(r)}
	if !logged {
		e.inDoubt = 1
	}
	if !save.Empty() {
		e.saved = union(saved, save)
	}
	d.vm.t.enterTouch(&e)
	open.logged.set(disk.Block(r))
	shots.saved.add(r, save)
	shots.bytes.Add(int64(save.Count()) * disk.BlockSize)
}

// needed returns the blocks of a region that an epoch before open still has to
// read and of which no before-image was saved in open.
func (d *tracked) needed(open *epochLog, shots *images, r region) (set changelog.Bits) {
	lost := d.vm.lostThrough.Load()
	for _, e := range *d.logs.Load() {
		if e.number < open.number && e.number > lost {
			set = union(set, e.changed(r))
		}
	}
	if set.Empty() {
		return set
	}
	return minus(set, shots.saved.region(r))
}

// saveImages copies blocks to the before-images and returns those that it
// saved: all, or none when the sealed epochs had to be given up instead.
func (d *tracked) saveImages(open *epochLog, shots *images, r region, set changelog.Bits) changelog.Bits {
	if set.Empty() {
		return set
	}
	t := d.vm.t
	err := t.roomForImages()
	for x := range runs(r, set) {
		if err != nil {
			break
		}
		err = shots.copyFrom(t.imageFolder, d.file, x)
	}
	if err != nil {
		d.vm.loseSealed(d, open.number-1, err)
		return changelog.Bits{}
	}
	if d.vm.imageBytes.Add(int64(set.Count())*disk.BlockSize) > d.vm.imageLimit.Load() {
		t.wakeUp()
	}
	return set
}

// BeginResize implements Tracked.
func (d *tracked) BeginResize(keep int64) {
	d.resizing.Lock()
	d.gate.close()
	keep = min(keep, MaxDiskSize)
	d.keep = keep
	d.heatCut(keep)
	d.saveFrom(keep)
	if d.vm.walking.Load() {
		// The walk may have shipped what is cut off now, and the floor does
		// not undo that: the zeros have to be shipped too.
		d.markData(keep)
	}
	if keep%disk.BlockSize != 0 {
		d.touch(d.gate.turn.Load(), disk.ExtentOf(keep, 1))
	}
	if open := d.open(); keep < open.floor.Load() {
		open.floor.Store(keep)
	}
	d.logFloor(keep)
}

// EndResize implements Tracked.
func (d *tracked) EndResize() {
	defer d.resizing.Unlock()
	defer d.gate.open()
	// What lies beyond keep now was moved there, or was not lost because the
	// resize failed: it counts as changed. What truncate added is a hole.
	d.markData(d.keep)
	d.logFloor(noResize)
	if s, err := stateOf(d.file); err == nil {
		d.size.Store(s.Size)
	}
}

// saveFrom marks, with before-images, every block from an offset on that a
// sealed epoch needs. The gate is closed.
func (d *tracked) saveFrom(offset int64) {
	turn, open := d.gate.turn.Load(), d.open()
	start := disk.BlockAt(offset)
	rest := disk.Extent{Start: start, Count: uint64(disk.BlockAt(MaxDiskSize) - start)}
	for _, e := range *d.logs.Load() {
		if e == open {
			continue
		}
		for _, bits := range []*bitmap{&e.marks, &e.extra} {
			for r, set := range bits.regions() {
				if r >= regionOf(start) {
					d.touchRegion(turn, r, intersect(set, within(r, rest)))
				}
			}
		}
	}
}

// markData marks everything from an offset on that is not a hole. The gate is
// closed, or the disk not attached yet.
func (d *tracked) markData(offset int64) {
	next := disk.BlockAt(offset)
	for {
		x, err := allocated(d.file, next)
		if err != nil {
			d.vm.fail(d, fmt.Errorf("look for data after a resize: %w", err))
			return
		}
		if x.Count == 0 {
			return
		}
		d.touch(d.gate.turn.Load(), x)
		next = x.End()
	}
}

// NameRemoved implements Tracked.
func (d *tracked) NameRemoved() { d.vm.t.wakeUp() }
