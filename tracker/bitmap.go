package tracker

import (
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// A bitmap holds one bit for each block of a disk. It costs memory only where
// bits are set: 4 KiB for each 128 MiB of disk that has one.
//
// Reading is free of locks and may happen at any time. Bits of a region are
// set by one goroutine at a time (it holds the region's lock); pages and the
// directory are added under growth.
type bitmap struct {
	directory atomic.Pointer[[]atomic.Pointer[page]]
	growth    sync.Mutex
}

const (
	regionBlocks = changelog.RegionBlocks
	regionWords  = regionBlocks / 64
	pageWords    = 512
	pageBlocks   = pageWords * 64
	pageRegions  = pageBlocks / regionBlocks
)

type page [pageWords]atomic.Uint64

// region numbers a region of a disk: 256 blocks, 1 MiB.
type region uint64

func regionOf(b disk.Block) region { return region(b / regionBlocks) }

func (r region) first() disk.Block { return disk.Block(r) * regionBlocks }

// lookup returns the page of a block, nil if it holds no bit.
func (m *bitmap) lookup(b disk.Block) *page {
	dir := m.directory.Load()
	if dir == nil || uint64(b/pageBlocks) >= uint64(len(*dir)) {
		return nil
	}
	return (*dir)[b/pageBlocks].Load()
}

// demand returns the page of a block and makes it if need be.
func (m *bitmap) demand(b disk.Block) *page {
	if p := m.lookup(b); p != nil {
		return p
	}
	m.growth.Lock()
	defer m.growth.Unlock()
	if p := m.lookup(b); p != nil {
		return p
	}
	index := uint64(b / pageBlocks)
	dir := m.directory.Load()
	if dir == nil || index >= uint64(len(*dir)) {
		var old []atomic.Pointer[page]
		if dir != nil {
			old = *dir
		}
		bigger := make([]atomic.Pointer[page], max(index+1, uint64(2*len(old))))
		for i := range old {
			bigger[i].Store(old[i].Load())
		}
		dir = &bigger
		m.directory.Store(dir)
	}
	p := new(page)
	(*dir)[index].Store(p)
	return p
}

// get tells whether a block's bit is set.
func (m *bitmap) get(b disk.Block) bool {
	p := m.lookup(b)
	return p != nil && p[b%pageBlocks/64].Load()&(1<<(b%64)) != 0
}

// set sets one bit.
func (m *bitmap) set(b disk.Block) { m.demand(b)[b%pageBlocks/64].Or(1 << (b % 64)) }

// unset takes one bit away.
func (m *bitmap) unset(b disk.Block) {
	if p := m.lookup(b); p != nil {
		p[b%pageBlocks/64].And(^(uint64(1) << (b % 64)))
	}
}

// each yields the set bits in order.
func (m *bitmap) each() iter.Seq[disk.Block] {
	return func(yield func(disk.Block) bool) {
		for _, x := range m.extents() {
			for b := x.Start; b < x.End(); b++ {
				if !yield(b) {
					return
				}
			}
		}
	}
}

// containsAll tells whether every block of the extent is set. It does not
// allocate: it is the whole of tracking for a block written twice.
func (m *bitmap) containsAll(x disk.Extent) bool {
	for b, end := x.Start, x.End(); b < end; {
		p := m.lookup(b)
		if p == nil {
			return false
		}
		word, mask, next := wordAt(b, end)
		if p[word].Load()&mask != mask {
			return false
		}
		b = next
	}
	return true
}

// wordAt returns, for the blocks from b to end that share b's word: the word's
// place in its page, their mask, and the block after them.
func wordAt(b, end disk.Block) (word int, mask uint64, next disk.Block) {
	next = min(end, (b/64+1)*64)
	mask = ^uint64(0) >> (64 - uint(next-b)) << (b % 64)
	return int(b % pageBlocks / 64), mask, next
}

// region returns the bits of a region.
func (m *bitmap) region(r region) (bits changelog.Bits) {
	p := m.lookup(r.first())
	if p == nil {
		return bits
	}
	first := int(uint64(r)%pageRegions) * regionWords
	for i := range bits {
		bits[i] = p[first+i].Load()
	}
	return bits
}

// add sets bits of a region.
func (m *bitmap) add(r region, set changelog.Bits) {
	if set.Empty() {
		return
	}
	p := m.demand(r.first())
	first := int(uint64(r)%pageRegions) * regionWords
	for i, w := range set {
		if w != 0 {
			p[first+i].Or(w)
		}
	}
}

// addAll sets every bit that is set in other.
func (m *bitmap) addAll(other *bitmap) {
	for r, set := range other.regions() {
		m.add(r, set)
	}
}

// regions yields the regions that have bits, in order.
func (m *bitmap) regions() iter.Seq2[region, changelog.Bits] {
	return func(yield func(region, changelog.Bits) bool) {
		dir := m.directory.Load()
		if dir == nil {
			return
		}
		for i := range *dir {
			if (*dir)[i].Load() == nil {
				continue
			}
			for j := range pageRegions {
				r := region(i*pageRegions + j)
				set := m.region(r)
				if !set.Empty() && !yield(r, set) {
					return
				}
			}
		}
	}
}

// count returns how many bits are set.
func (m *bitmap) count() uint64 {
	n := uint64(0)
	for _, set := range m.regions() {
		n += uint64(set.Count())
	}
	return n
}

// runs yields the runs of set bits in a region's bitmap.
func runs(r region, set changelog.Bits) iter.Seq[disk.Extent] {
	return func(yield func(disk.Extent) bool) {
		for i := 0; i < regionBlocks; {
			w := set[i/64] >> (i % 64)
			if w == 0 {
				i = (i/64 + 1) * 64
				continue
			}
			i += bits.TrailingZeros64(w)
			start := i
			for i < regionBlocks {
				ones := bits.TrailingZeros64(^(set[i/64] >> (i % 64)))
				free := 64 - i%64
				i += min(ones, free)
				if ones < free {
					break
				}
			}
			if !yield(disk.Extent{Start: r.first() + disk.Block(start), Count: uint64(i - start)}) {
				return
			}
		}
	}
}

// extents returns all set bits as extents in order, those of adjacent regions
// joined.
func (m *bitmap) extents() Extents {
	var out Extents
	for r, set := range m.regions() {
		for x := range runs(r, set) {
			if n := len(out); n > 0 && out[n-1].End() == x.Start {
				out[n-1].Count += x.Count
				continue
			}
			out = append(out, x)
		}
	}
	return out
}

// within returns the bits of a region that lie in the extent.
func within(r region, x disk.Extent) (set changelog.Bits) {
	start := max(x.Start, r.first())
	end := min(x.End(), (r + 1).first())
	for b := start; b < end; {
		_, mask, next := wordAt(b, end)
		set[b%regionBlocks/64] |= mask
		b = next
	}
	return set
}

func union(a, b changelog.Bits) changelog.Bits {
	for i := range a {
		a[i] |= b[i]
	}
	return a
}

func minus(a, b changelog.Bits) changelog.Bits {
	for i := range a {
		a[i] &^= b[i]
	}
	return a
}

func intersect(a, b changelog.Bits) changelog.Bits {
	for i := range a {
		a[i] &= b[i]
	}
	return a
}
