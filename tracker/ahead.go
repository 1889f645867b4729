package tracker

import (
	"context"
	"sync/atomic"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// Whoever writes a disk from end to end touches each region for the first
// time. So the regions that come next are made ready while he writes: the
// before-images of their blocks are saved and they are logged, and his next
// write finds nothing left to do. It is a guess, and costs at most what is
// written ahead of him.
const (
	aheadRegions = 2
	regionBytes  = regionBlocks * disk.BlockSize
)

// course tells whether first touches of a disk go on where the last one ended.
type course struct {
	end   atomic.Uint64 // the block behind the newest first touch
	asked atomic.Uint64 // the last region that was asked for
}

// stretch is a run of regions to make ready.
type stretch struct {
	disk        *tracked
	first, last region
}

// foresee asks for the regions behind a first touch to be made ready if it
// began where the last one ended.
func (d *tracked) foresee(x disk.Extent) {
	if d.course.end.Swap(uint64(x.End())) != uint64(x.Start) {
		return
	}
	first := regionOf(x.End()-1) + 1
	last := first + aheadRegions - 1
	if d.course.asked.Swap(uint64(last)) == uint64(last) {
		return
	}
	select {
	case d.vm.t.stretches <- stretch{d, first, last}:
	default: // too many writers for guesses
	}
}

// lookAhead makes ready what is asked for.
func (t *Tracker) lookAhead(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-t.stretches:
			s.disk.makeReady(s.first, s.last)
		}
	}
}

// makeReady saves and logs regions as a first touch of all their blocks would,
// but marks none. It holds the VM's mu, so that no rollover happens meanwhile
// and the disk file stays open.
func (d *tracked) makeReady(first, last region) {
	d.vm.mu.Lock()
	defer d.vm.mu.Unlock()
	if d.vm.gone || !d.attached {
		return
	}
	// Where space is short, recovery points are given up: for a guest's write,
	// not for a guess.
	if d.vm.t.roomForImages() != nil || d.vm.imageBytes.Load()+aheadRegions*regionBytes > d.vm.imageLimit.Load() {
		return
	}
	for r := first; r <= last && r.first().Offset() < d.size.Load(); r++ {
		parts := shardsOf(r, r)
		turn := d.gate.enter(parts)
		if d.gate.settled(r, turn) {
			lock := &d.regions[r%shards]
			lock.Lock()
			open := d.sides[turn&1]
			d.readyRegion(open, r, minus(changelog.AllBits(), open.marks.region(r)))
			lock.Unlock()
		}
		d.gate.leave(parts, turn)
	}
}
