package replica

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

// BlockMap says, for one disk at one recovery point, which segment holds each
// block. It is not changed once it is made. Its memory grows with the number of
// extents (24 bytes each), not with the size of the disk.
type BlockMap struct {
	// VM and Disk are the identities; Size is the disk's, in bytes.
	VM, Disk string
	Size     int64
	// Segments are those that blocks are in.
	Segments []segment.Ref
	extents  layer // without zeros
}

// BlockMap makes the block map of a disk at the newest point of the chain, which
// is newest first. It reads the index of every segment of the disk that the
// chain names.
func (r *Repository) BlockMap(ctx context.Context, chain []Point, diskID string) (*BlockMap, error) {
	d := chain[0].Disk(diskID)
	if d == nil {
		return nil, fmt.Errorf("the recovery point of epoch %d has no disk %s", chain[0].Epoch, diskID)
	}
	m := &BlockMap{VM: chain[0].VM, Disk: diskID, Size: d.Size}
	steps := History(chain, diskID)
	slices.Reverse(steps)
	var stack layers
	err := r.ReadSteps(ctx, m.VM, diskID, steps, func(s Step, x *segment.Index) error {
		if x == nil {
			stack.push(floorLayer(s.Floor))
			return nil
		}
		stack.push(layerOf(x, int32(len(m.Segments))))
		m.Segments = append(m.Segments, *s.Segment)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("making the block map of disk %s: %w", d.Path, err)
	}
	m.take(stack.merge())
	return m, nil
}

// take keeps the extents that have data within the disk.
func (m *BlockMap) take(l layer) {
	end := disk.Block(disk.BlockCount(m.Size))
	for _, e := range l {
		if e.Segment != zeros && e.Start < end {
			m.extents = append(m.extents, e.cut(e.Start, min(e.End(), end)))
		}
	}
}

// Extents yields, in disk order, the extents that have data. What lies between
// them is zero.
func (m *BlockMap) Extents() iter.Seq[Mapping] { return slices.Values(m.extents) }

// Blocks returns how many blocks have data.
func (m *BlockMap) Blocks() uint64 {
	var n uint64
	for _, e := range m.extents {
		n += e.Count
	}
	return n
}

// BySegment returns for each segment that is needed the extents in it, in the
// order in which they lie there. To read all of a disk, read it in this order:
// each frame is fetched once, however scattered its blocks are.
func (m *BlockMap) BySegment() [][]Mapping {
	sorted := slices.Clone(m.extents)
	slices.SortFunc(sorted, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.First, b.First))
	})
	var groups [][]Mapping
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && sorted[n].Segment == sorted[0].Segment {
			n++
		}
		groups = append(groups, sorted[:n:n])
		sorted = sorted[n:]
	}
	return groups
}

// find returns the number of the first extent that ends after the block.
func (m *BlockMap) find(block disk.Block) int {
	i, _ := slices.BinarySearchFunc(m.extents, block, func(e Mapping, b disk.Block) int {
		if e.End() <= b {
			return -1
		}
		return 1
	})
	return i
}
