package replica

import (
	"lifeboat/disk"
	"lifeboat/replica/segment"
)

// zeros is the Mapping.Segment of blocks that are zero.
const zeros = -1

// endOfDisk is a block that no disk reaches.
const endOfDisk disk.Block = 1 << 51

// Mapping says where a run of blocks of a disk lies.
type Mapping struct {
	disk.Extent
	// Segment numbers the segment of the BlockMap.
	Segment int32
	// First is the ordinal of the first block among the segment's data blocks.
	First uint32
}

// cut returns the part of the mapping from start up to end, which lie within.
func (m Mapping) cut(start, end disk.Block) Mapping {
	if m.Segment != zeros {
		m.First += uint32(start - m.Start)
	}
	m.Start, m.Count = start, uint64(end-start)
	return m
}

// follows tells whether next continues m in the disk and in the segment.
func (m Mapping) follows(next Mapping) bool {
	return m.End() == next.Start && m.Segment == next.Segment &&
		(m.Segment == zeros || uint64(m.First)+m.Count == uint64(next.First))
}

// layer is a list of mappings that ascend and do not overlap. What it does not
// speak of, it leaves as it is.
type layer []Mapping

// append adds a mapping at the end, joined to the last one where it follows it.
func (l layer) append(m Mapping) layer {
	if m.Count == 0 {
		return l
	}
	if last := len(l) - 1; last >= 0 && l[last].follows(m) {
		l[last].Count += m.Count
		return l
	}
	return append(l, m)
}

// layerOf returns what a segment says.
func layerOf(x *segment.Index, number int32) layer {
	l := make(layer, len(x.Runs))
	for i, r := range x.Runs {
		l[i] = Mapping{Extent: r.Extent, Segment: number, First: r.First}
		if !r.Data {
			l[i].Segment, l[i].First = zeros, 0
		}
	}
	return l
}

// floorLayer returns what a floor of so many bytes says.
func floorLayer(floor int64) layer {
	start := disk.Block(disk.BlockCount(floor))
	return layer{{Extent: disk.Extent{Start: start, Count: uint64(endOfDisk - start)}, Segment: zeros}}
}

// overlay lays newer over older.
func overlay(newer, older layer) layer {
	if len(newer) == 0 {
		return older
	}
	out := make(layer, 0, len(newer)+len(older))
	at := disk.Block(0) // all before it is decided
	next := 0
	// takeOlder appends what older says from at on, up to end.
	takeOlder := func(end disk.Block) {
		for ; next < len(older) && older[next].Start < end; next++ {
			o := older[next]
			if start := max(o.Start, at); start < min(o.End(), end) {
				out = out.append(o.cut(start, min(o.End(), end)))
			}
			if o.End() > end {
				break // its rest may show beyond
			}
		}
	}
	for _, n := range newer {
		takeOlder(n.Start)
		out = out.append(n)
		at = n.End()
	}
	takeOlder(endOfDisk)
	return out
}

// layers collects layers from the newest to the oldest. It merges those of like
// size, as a merge sort does, so that thousands of small ones cost little more
// than one large one.
type layers []layer

func (s *layers) push(older layer) {
	*s = append(*s, older)
	for n := len(*s); n >= 2 && len((*s)[n-1]) >= len((*s)[n-2]); n-- {
		(*s)[n-2] = overlay((*s)[n-2], (*s)[n-1])
		*s = (*s)[:n-1]
	}
}

// merge returns the one layer that all amount to.
func (s *layers) merge() layer {
	for n := len(*s); n >= 2; n-- {
		(*s)[n-2] = overlay((*s)[n-2], (*s)[n-1])
		*s = (*s)[:n-1]
	}
	if len(*s) == 0 {
		return nil
	}
	return (*s)[0]
}
