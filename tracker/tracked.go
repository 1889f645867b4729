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
	BeginChange(offset, length int64)
	EndChange()
	BeginResize(keep int64)
	EndResize()
	NameRemoved()
}

// tracked is a protected disk.
//
// Locks, in the order in which they may be taken: the VM's mu, the gates of
// its disks in their order, a region's lock. The write path takes a gate for
// reading and, for the first touch of a block in an epoch, a region's lock.
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

	// gate is held for reading while the disk is being changed, for writing
	// at a rollover and while its size changes.
	gate    sync.RWMutex
	open    *epochLog // changed with the gate held for writing
	regions [64]sync.Mutex
	keep    int64 // between BeginResize and EndResize
	zones   zones

	// logs are the sealed epochs, oldest first, and then the open one; shots
	// are the before-images, oldest first, those of the open epoch last. Both
	// lists are replaced, never changed.
	logs  atomic.Pointer[[]*epochLog]
	shots atomic.Pointer[[]*images]

	removed atomic.Bool
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
	// Changed, like open, with the gate held for writing.
	shots *images
}

func newEpochLog(id changelog.ID, number uint64, floor int64) *epochLog {
	e := &epochLog{number: number, shots: newImages(id, number)}
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

// BeginChange implements Tracked.
func (d *tracked) BeginChange(offset, length int64) {
	d.gate.RLock()
	x := disk.ExtentOf(offset, min(length, MaxDiskSize-min(offset, MaxDiskSize)))
	if x.Count == 0 {
		return
	}
	if !d.zones.warm(x) {
		d.heat(x)
	}
	if d.open.marks.containsAll(x) {
		return
	}
	d.touch(x)
}

// EndChange implements Tracked.
func (d *tracked) EndChange() { d.gate.RUnlock() }

// touch marks blocks in the open epoch, of which some are not marked yet. The
// gate is held.
func (d *tracked) touch(x disk.Extent) {
	for r := regionOf(x.Start); r.first() < x.End(); r++ {
		d.touchRegion(r, within(r, x))
	}
}

func (d *tracked) touchRegion(r region, set changelog.Bits) {
	lock := &d.regions[uint64(r)%uint64(len(d.regions))]
	lock.Lock()
	defer lock.Unlock()
	open := d.open
	fresh := minus(set, open.marks.region(r))
	if fresh.Empty() {
		return
	}
	save := d.saveImages(r, intersect(fresh, d.needed(r)))
	saved := open.shots.saved.region(r)
	logged := open.logged.get(disk.Block(r))
	if !logged || !save.Empty() {
		d.vm.t.logTouch(func(w *changelog.Writes) {
			if !logged {
				w.RegionInDoubt(d.id, open.number, uint64(r))
			}
			if !save.Empty() {
				w.Images(d.id, open.number, uint64(r), union(saved, save))
			}
		})
		open.logged.set(disk.Block(r))
		open.shots.saved.add(r, save)
		open.shots.bytes.Add(int64(save.Count()) * disk.BlockSize)
	}
	open.marks.add(r, fresh)
}

// needed returns the blocks of a region that a sealed epoch still has to read
// and of which no before-image was saved in the open one.
func (d *tracked) needed(r region) (set changelog.Bits) {
	lost := d.vm.lostThrough.Load()
	for _, e := range *d.logs.Load() {
		if e != d.open && e.number > lost {
			set = union(set, e.changed(r))
		}
	}
	if set.Empty() {
		return set
	}
	return minus(set, d.open.shots.saved.region(r))
}

// saveImages copies blocks to the before-images and returns those that it
// saved: all, or none when the sealed epochs had to be given up instead.
func (d *tracked) saveImages(r region, set changelog.Bits) changelog.Bits {
	if set.Empty() {
		return set
	}
	t := d.vm.t
	err := t.roomForImages()
	for x := range runs(r, set) {
		if err != nil {
			break
		}
		err = d.open.shots.copyFrom(t.imageFolder, d.file, x)
	}
	if err != nil {
		d.vm.loseSealed(d, d.open.number-1, err)
		return changelog.Bits{}
	}
	if d.vm.imageBytes.Add(int64(set.Count())*disk.BlockSize) > d.vm.imageLimit.Load() {
		t.wakeUp()
	}
	return set
}

// BeginResize implements Tracked.
func (d *tracked) BeginResize(keep int64) {
	d.gate.Lock()
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
		d.touch(disk.ExtentOf(keep, 1))
	}
	if keep < d.open.floor.Load() {
		d.open.floor.Store(keep)
	}
	d.logFloor(keep)
}

// EndResize implements Tracked.
func (d *tracked) EndResize() {
	defer d.gate.Unlock()
	// What lies beyond keep now was moved there, or was not lost because the
	// resize failed: it counts as changed. What truncate added is a hole.
	d.markData(d.keep)
	d.logFloor(noResize)
}

// saveFrom marks, with before-images, every block from an offset on that a
// sealed epoch needs. The gate is held for writing.
func (d *tracked) saveFrom(offset int64) {
	start := disk.BlockAt(offset)
	rest := disk.Extent{Start: start, Count: uint64(disk.BlockAt(MaxDiskSize) - start)}
	for _, e := range *d.logs.Load() {
		if e == d.open {
			continue
		}
		for _, bits := range []*bitmap{&e.marks, &e.extra} {
			for r, set := range bits.regions() {
				if r >= regionOf(start) {
					d.touchRegion(r, intersect(set, within(r, rest)))
				}
			}
		}
	}
}

// markData marks everything from an offset on that is not a hole.
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
		d.touch(x)
		next = x.End()
	}
}

// NameRemoved implements Tracked.
func (d *tracked) NameRemoved() { d.vm.t.wakeUp() }
