package passes

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
)

const (
	pageSize   = 4096
	pageBits   = 8 * pageSize
	headerSize = 32
	// maxBlocks is how many blocks the largest disk has: 64 TiB.
	maxBlocks = (64 << 40) / disk.BlockSize
)

// What the bits of a page stand for.
const (
	marks   = 1 + iota // blocks that were marked in the page's epoch
	hot                // zones
	touched            // regions that changed, of which the change log does not know yet
)

// RegionBlocks is how many blocks a region has.
const RegionBlocks = 256

// bits is a page.
type bits [pageSize / 8]uint64

func (b *bits) get(n uint64) bool { return b[n/64]&(1<<(n%64)) != 0 }
func (b *bits) set(n uint64)      { b[n/64] |= 1 << (n % 64) }
func (b *bits) unset(n uint64)    { b[n/64] &^= 1 << (n % 64) }

// place says which bits of a disk a page holds: those from index*pageBits on.
type place struct {
	kind  uint32
	index uint64
}

// header says what a page is.
type header struct {
	owner uint32 // 1 + the disk's slot; 0 if it is free
	kind  uint32
	index uint64
	epoch uint64 // of marks
	_     uint64
}

var _ [headerSize]byte = [unsafe.Sizeof(header{})]byte{}

func (p *Passes) header(n uint32) *header {
	return (*header)(unsafe.Pointer(&p.memory[headersAt+int(n)*headerSize]))
}

func (p *Passes) page(n uint32) *bits {
	return (*bits)(unsafe.Pointer(&p.memory[pagesAt+int(n)*pageSize]))
}

// number is the inverse of page.
func (p *Passes) number(page *bits) uint32 {
	first := unsafe.Pointer(&p.memory[pagesAt])
	return uint32((uintptr(unsafe.Pointer(page)) - uintptr(first)) / pageSize)
}

// demand returns a page of the disk, and makes it if need be; nil if all are in
// use. mu is held.
func (d *Disk) demand(at place) *bits {
	if page := d.pages[at]; page != nil {
		return page
	}
	p := d.of
	p.mu.Lock()
	defer p.mu.Unlock()
	var n uint32
	switch last := len(p.free) - 1; {
	case last >= 0:
		n = p.free[last]
		p.free = p.free[:last]
		p.low = min(p.low, last)
	case p.head.fresh < maxPages:
		n = p.head.fresh
		atomic.StoreUint32(&p.head.fresh, n+1)
	default:
		return nil
	}
	page, h := p.page(n), p.header(n)
	if p.dirty[n] {
		clear(page[:])
	}
	p.dirty[n] = true
	h.kind, h.index, h.epoch = at.kind, at.index, d.entry.epoch
	atomic.StoreUint32(&h.owner, d.slot+1)
	d.pages[at] = page
	return page
}

// drop frees a page. mu is held.
func (d *Disk) drop(at place) {
	p, n := d.of, d.of.number(d.pages[at])
	delete(d.pages, at)
	p.mu.Lock()
	defer p.mu.Unlock()
	atomic.StoreUint32(&p.header(n).owner, 0)
	p.free = append(p.free, n)
}

// Trim gives the memory of those pages back that nobody has used since it was
// called last.
func (p *Passes) Trim() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rested := p.free[:p.low]
	p.low = len(p.free)
	for _, n := range rested {
		if !p.dirty[n] {
			continue
		}
		at := pagesAt + int(n)*pageSize
		if err := unix.Madvise(p.memory[at:at+pageSize], unix.MADV_REMOVE); err != nil {
			return fmt.Errorf("give memory of passes back: %w", err)
		}
		p.dirty[n] = false
	}
	return nil
}

// pagesOf returns how many pages of a kind a disk may have.
func (p *Passes) pagesOf(kind uint32) uint64 {
	per := map[uint32]uint64{marks: 1, hot: p.head.zone, touched: RegionBlocks}[kind]
	if per == 0 {
		return 0
	}
	return (maxBlocks/per + pageBits - 1) / pageBits
}

// takePages checks every page. Those of an epoch that is over are free.
func (p *Passes) takePages() error {
	for n := range uint32(maxPages) {
		h := p.header(n)
		owner := h.owner
		if owner == 0 {
			if n < p.head.fresh {
				p.free, p.dirty[n] = append(p.free, n), true
			}
			continue
		}
		p.dirty[n] = true
		if n >= p.head.fresh || owner > maxDisks || p.disks[owner-1] == nil {
			return fmt.Errorf("page %d is nobody's", n)
		}
		d, at := p.disks[owner-1], place{h.kind, h.index}
		switch {
		case h.index >= p.pagesOf(h.kind):
			return fmt.Errorf("page %d is of no kind", n)
		case h.kind == marks && h.epoch > d.entry.epoch:
			return fmt.Errorf("page %d is of an epoch to come", n)
		case h.kind == marks && h.epoch < d.entry.epoch:
			atomic.StoreUint32(&h.owner, 0)
			p.free = append(p.free, n)
			continue
		case d.pages[at] != nil:
			return errors.New("a page is there twice")
		}
		d.pages[at] = p.page(n)
	}
	p.low = len(p.free)
	return nil
}
