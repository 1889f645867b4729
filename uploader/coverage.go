package uploader

import (
	"cmp"
	"slices"

	"lifeboat/disk"
)

// maxAhead bounds the segments that are kept although what lies before them is
// not covered. A kill leaves as many as uploads were under way; more of them mean
// that a segment was lost, and then what follows is walked again.
const maxAhead = 64

// coverage is which blocks of a disk a walk has covered: all before position, and
// some extents after it.
type coverage struct {
	position disk.Block
	ahead    []finished // ascending by what they cover
}

// add takes segments in, and returns those that can be laid over the table now:
// each begins where everything before it is covered. A table so always has all
// of the segments up to a position, and can say so.
func (c *coverage) add(found []finished) (ready []finished) {
	for _, f := range found {
		if f.covered.Count > 0 {
			c.ahead = append(c.ahead, f)
		}
	}
	// Of two that begin at the same block, the one that was put later is laid
	// over the other; which is right is decided by the epoch that closes the
	// walk, so any order will do that the manifest keeps.
	slices.SortStableFunc(c.ahead, func(a, b finished) int { return cmp.Compare(a.covered.Start, b.covered.Start) })
	for len(c.ahead) > 0 && c.ahead[0].covered.Start <= c.position {
		c.position = max(c.position, c.ahead[0].covered.End())
		ready = append(ready, c.ahead[0])
		c.ahead = c.ahead[1:]
	}
	c.ahead = c.ahead[:min(len(c.ahead), maxAhead)]
	return ready
}

// gaps returns the extents that have to be walked.
func (c *coverage) gaps() []disk.Extent {
	var gaps []disk.Extent
	end := c.position
	for _, f := range c.ahead {
		if f.covered.Start > end {
			gaps = append(gaps, disk.Extent{Start: end, Count: uint64(f.covered.Start - end)})
		}
		end = max(end, f.covered.End())
	}
	if end < endOfDisks {
		gaps = append(gaps, disk.Extent{Start: end, Count: uint64(endOfDisks - end)})
	}
	return gaps
}
