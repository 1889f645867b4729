package resync

import (
	"context"
	"fmt"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

// Comparison is the outcome of comparing blocks with a table. Use one again and
// again: its room is kept, so that comparing allocates nothing.
type Comparison struct {
	// Start is the first block that was compared.
	Start disk.Block
	// Now has the checksums of the data, Before those of the table.
	Now, Before []segment.Checksum
	scratch     []byte
}

// Compare compares data, read from the disk from block start on, with the table.
// Only the last block of data may be short: the last one of the disk.
func (t *Table) Compare(start disk.Block, data []byte, c *Comparison) error {
	c.Start = start
	c.Now = t.hasher.Sums(c.Now[:0], data)
	if cap(c.Before) < len(c.Now) {
		c.Before = make([]segment.Checksum, len(c.Now))
	}
	c.Before = c.Before[:len(c.Now)]
	if c.scratch == nil {
		c.scratch = make([]byte, scratchSize)
	}
	return t.get(start, c.Before, c.scratch)
}

// Run returns the first run of blocks that differ among those from the i-th on:
// where it begins, counted from Start, and how many there are, 0 if there is
// none any more.
func (c *Comparison) Run(i int) (first, count int) {
	for i < len(c.Now) && c.Now[i] == c.Before[i] {
		i++
	}
	first = i
	for i < len(c.Now) && c.Now[i] != c.Before[i] {
		i++
	}
	return first, i - first
}

// Preview counts what the disk checksum will be after an epoch, while the table
// stays as it is: the manifest needs to have it, and the table changes only when
// the manifest is durable. It also is the view to compare an epoch's blocks
// with, because it heeds the epoch's floor.
//
// It is not for concurrent use, and the table must not be changed meanwhile.
type Preview struct {
	table *Table
	floor disk.Block
	sum   segment.DiskSum
}

// Preview begins with the table's state and what the floor, in bytes, makes zero.
// The floor is the one that the manifest will have.
func (t *Table) Preview(ctx context.Context, floor int64) (*Preview, error) {
	p := &Preview{table: t, floor: disk.Block(disk.BlockCount(floor)), sum: t.header.sum}
	err := t.eachEntry(ctx, disk.Extent{Start: p.floor, Count: uint64(endOfDisk - p.floor)}, make([]byte, scratchSize),
		func(block disk.Block, old segment.Checksum) bool {
			p.sum.Replace(t.hasher, block, old, segment.Checksum{})
			return true
		})
	if err != nil {
		return nil, fmt.Errorf("previewing the floor: %w", err)
	}
	return p, nil
}

// Compare compares blocks of the epoch with the replica as it is after the
// floor, and counts them into the sum. Each block is compared once, and every
// one that differs is shipped.
func (p *Preview) Compare(start disk.Block, data []byte, c *Comparison) error {
	if err := p.table.Compare(start, data, c); err != nil {
		return err
	}
	for i := range c.Before {
		block := start + disk.Block(i)
		if block >= p.floor {
			c.Before[i] = segment.Checksum{}
		}
		p.sum.Replace(p.table.hasher, block, c.Before[i], c.Now[i])
	}
	return nil
}

// Sum returns the disk checksum with all that was compared.
func (p *Preview) Sum() segment.DiskSum { return p.sum }
