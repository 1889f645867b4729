package passes

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"lifeboat/disk"
)

// ID is the identity of a disk.
type ID [16]byte

// maxHandle is the most bytes that a disk's file handle has, its type included.
const maxHandle = 136

const entrySize = 256

// entry is a disk as the next process finds it.
type entry struct {
	used       uint32 // 1 if there is one
	handleSize uint32
	id         ID
	device     uint64
	inode      uint64
	epoch      uint64 // the open one
	alive      int64
	idle       uint32 // 1 if nobody needs before-images
	_          uint32
	handle     [maxHandle]byte
	_          [entrySize - 64 - maxHandle]byte
}

var _ [entrySize]byte = [unsafe.Sizeof(entry{})]byte{}

// Identity says which file is meant.
type Identity struct {
	ID            ID
	Device, Inode uint64
	Handle        string // as the tracker writes it down; empty if there is none
}

// Disk is a disk with its passes. A nil Disk takes everything and lets nothing
// pass: that of a tracker that nobody follows, or of which there are too many.
type Disk struct {
	of       *Passes
	slot     uint32
	entry    *entry
	identity Identity

	mu    sync.Mutex // is taken before that of the Passes
	pages map[place]*bits
}

func (p *Passes) entry(slot uint32) *entry {
	return (*entry)(unsafe.Pointer(&p.memory[disksAt+int(slot)*entrySize]))
}

// Disks returns all disks that are known.
func (p *Passes) Disks() []*Disk {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*Disk
	for _, d := range p.disks {
		if d != nil {
			all = append(all, d)
		}
	}
	return all
}

// Enter returns the disk as it is known, or makes it known; epoch is the open
// one. When there is no place for it, it returns nil, and the passes are not
// complete any more.
func (p *Passes) Enter(x Identity, epoch uint64) *Disk {
	if p == nil {
		return nil
	}
	for _, d := range p.Disks() {
		switch was := d.Identity(); {
		case was == x:
			d.Turn(epoch)
			return d
		case was.ID == x.ID, was.Device == x.Device && was.Inode == x.Inode:
			d.Remove()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for slot := range uint32(maxDisks) {
		if p.disks[slot] != nil || len(x.Handle) > maxHandle {
			continue
		}
		d := &Disk{of: p, slot: slot, entry: p.entry(slot), identity: x, pages: map[place]*bits{}}
		e := d.entry
		e.id, e.device, e.inode, e.epoch, e.alive, e.idle = x.ID, x.Device, x.Inode, epoch, 0, 0
		e.handleSize = uint32(copy(e.handle[:], x.Handle))
		atomic.StoreUint32(&e.used, 1)
		p.disks[slot] = d
		return d
	}
	p.SetComplete(false)
	return nil
}

// Remove makes a disk unknown. It takes nothing from then on.
func (d *Disk) Remove() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := range d.pages {
		d.drop(at)
	}
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	if d.of.disks[d.slot] == d {
		atomic.StoreUint32(&d.entry.used, 0)
		d.of.disks[d.slot] = nil
	}
	d.pages = nil
}

// Identity returns which file it is.
func (d *Disk) Identity() Identity { return d.identity }

// Turn begins an epoch: the passes of the one before are no more when it
// returns.
func (d *Disk) Turn(epoch uint64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil || d.entry.epoch == epoch {
		return
	}
	atomic.StoreUint64(&d.entry.epoch, epoch)
	for at := range d.pages {
		if at.kind == marks {
			d.drop(at)
		}
	}
}

// Mark gives passes for blocks of the open epoch: bit i of word w stands for
// block 64*w+i from at on; at is a multiple of 64, and all lie in one stretch of
// 128 MiB. A block of another epoch gets none.
func (d *Disk) Mark(epoch uint64, at disk.Block, words []uint64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil || d.entry.epoch != epoch {
		return
	}
	page := d.demand(place{marks, uint64(at / pageBits)})
	if page == nil {
		return
	}
	first := int(at % pageBits / 64)
	for i, w := range words {
		page[first+i] |= w
	}
}

// Heat notes that a zone is hot, after that is durable.
func (d *Disk) Heat(zone uint64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		return
	}
	if page := d.demand(place{hot, zone / pageBits}); page != nil {
		page.set(zone % pageBits)
	}
}

// Cool notes that a zone is not, before anything else does.
func (d *Disk) Cool(zone uint64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if page := d.pages[place{hot, zone / pageBits}]; page != nil {
		page.unset(zone % pageBits)
	}
}

// SetIdle notes whether no sealed epoch waits, so that nobody needs
// before-images: before one is sealed that it is not so, and that it is after
// the last one was dropped.
func (d *Disk) SetIdle(yes bool) {
	if d == nil {
		return
	}
	value := uint32(0)
	if yes {
		value = 1
	}
	atomic.StoreUint32(&d.entry.idle, value)
}

// Pass tells whether an extent may be changed without asking the tracker. All
// its zones have to be hot; and every block has a pass, or nobody needs
// before-images: then it is remembered which regions are touched.
func (d *Disk) Pass(x disk.Extent) bool {
	if d == nil || x.Count == 0 || x.End() > maxBlocks {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	zone := d.of.head.zone
	if !d.all(hot, uint64(x.Start)/zone, uint64(x.End()-1)/zone) {
		return false
	}
	return d.all(marks, uint64(x.Start), uint64(x.End()-1)) ||
		atomic.LoadUint32(&d.entry.idle) == 1 && d.touch(uint64(x.Start)/RegionBlocks, uint64(x.End()-1)/RegionBlocks)
}

// all tells whether all bits from first to last are set. mu is held.
func (d *Disk) all(kind uint32, first, last uint64) bool {
	for n := first; n <= last; n++ {
		if page := d.pages[place{kind, n / pageBits}]; page == nil || !page.get(n%pageBits) {
			return false
		}
	}
	return true
}

// touch remembers regions that change. mu is held.
func (d *Disk) touch(first, last uint64) bool {
	for n := first; n <= last; n++ {
		page := d.demand(place{touched, n / pageBits})
		if page == nil {
			return false
		}
		page.set(n % pageBits)
	}
	return true
}

// Touched returns the regions that were touched, and not forgotten since.
func (d *Disk) Touched() []uint64 {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []uint64
	for at, page := range d.pages {
		for n := range uint64(pageBits) {
			if at.kind == touched && page.get(n) {
				all = append(all, at.index*pageBits+n)
			}
		}
	}
	return all
}

// Forget forgets what was touched: the change log has it.
func (d *Disk) Forget() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := range d.pages {
		if at.kind == touched {
			d.drop(at)
		}
	}
}

// Lived notes when a change went on that the tracker was not asked for.
func (d *Disk) Lived(unixNano int64) { atomic.StoreInt64(&d.entry.alive, unixNano) }

// Alive returns what Lived noted last, 0 if nothing.
func (d *Disk) Alive() int64 {
	if d == nil {
		return 0
	}
	return atomic.LoadInt64(&d.entry.alive)
}

func (p *Passes) takeDisks() error {
	ids, files := map[ID]bool{}, map[[2]uint64]bool{}
	for slot := range uint32(maxDisks) {
		e := p.entry(slot)
		file := [2]uint64{e.device, e.inode}
		switch {
		case e.used == 0:
			continue
		case e.used != 1 || e.handleSize > maxHandle || e.epoch == 0 || e.idle > 1:
			return fmt.Errorf("disk %d cannot be", slot)
		case ids[e.id] || files[file]:
			return errors.New("a disk is there twice")
		}
		ids[e.id], files[file] = true, true
		p.disks[slot] = &Disk{
			of: p, slot: slot, entry: e, pages: map[place]*bits{},
			identity: Identity{ID: e.id, Device: e.device, Inode: e.inode, Handle: string(e.handle[:e.handleSize])},
		}
	}
	return nil
}
