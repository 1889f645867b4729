package resync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

const (
	entrySize = 16
	// scratchSize bounds what is read at once: the entries of 16 MiB of disk.
	scratchSize = 64 << 10
)

func entryOffset(block disk.Block) int64 { return entriesStart + int64(block)*entrySize }

// readEntries fills b with the entries from start on; those beyond the end of
// the file are zero.
func (t *Table) readEntries(start disk.Block, b []byte) error {
	n, err := t.file.ReadAt(b, entryOffset(start))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading checksum table: %w", err)
	}
	clear(b[n:])
	return nil
}

// Get fills dst with the checksums of the blocks from start on.
func (t *Table) Get(start disk.Block, dst []segment.Checksum) error {
	b := make([]byte, min(len(dst)*entrySize, scratchSize))
	return t.get(start, dst, b)
}

func (t *Table) get(start disk.Block, dst []segment.Checksum, scratch []byte) error {
	for len(dst) > 0 {
		n := min(len(dst), len(scratch)/entrySize)
		if err := t.readEntries(start, scratch[:n*entrySize]); err != nil {
			return err
		}
		for i := range n {
			dst[i] = segment.Checksum(scratch[i*entrySize:])
		}
		start, dst = start+disk.Block(n), dst[n:]
	}
	return nil
}

// end returns a block from which on all entries are zero.
func (t *Table) end() (disk.Block, error) {
	info, err := t.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("reading checksum table: %w", err)
	}
	return disk.Block(max(0, info.Size()-entriesStart+entrySize-1) / entrySize), nil
}

// eachEntry calls visit for each entry of the extent that is not zero, until it
// returns false. Holes are skipped. scratch is any room for at least an entry.
func (t *Table) eachEntry(ctx context.Context, extent disk.Extent, scratch []byte, visit func(disk.Block, segment.Checksum) bool) error {
	block := extent.Start
	for block < extent.End() {
		if err := ctx.Err(); err != nil {
			return err
		}
		offset, err := unix.Seek(int(t.file.Fd()), entryOffset(block), unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only holes from here on
		}
		if err != nil {
			return fmt.Errorf("reading checksum table: %w", err)
		}
		block = max(block, disk.Block((offset-entriesStart)/entrySize))
		if block >= extent.End() {
			return nil
		}
		n := min(uint64(extent.End()-block), uint64(len(scratch)/entrySize))
		if err := t.readEntries(block, scratch[:n*entrySize]); err != nil {
			return err
		}
		for i := range n {
			sum := segment.Checksum(scratch[i*entrySize:])
			if !sum.IsZero() && !visit(block+disk.Block(i), sum) {
				return nil
			}
		}
		block += disk.Block(n)
	}
	return nil
}

// NonZero yields the extents, within the given one, of the blocks that are not
// zero in the table: what a hole in the disk file differs in. A failure is
// yielded last.
func (t *Table) NonZero(ctx context.Context, within disk.Extent) iter.Seq2[disk.Extent, error] {
	return func(yield func(disk.Extent, error) bool) {
		end, err := t.end()
		if err != nil {
			yield(disk.Extent{}, err)
			return
		}
		if within.Start >= end {
			return
		}
		within.Count = min(within.Count, uint64(end-within.Start))
		var run disk.Extent
		stopped := false
		err = t.eachEntry(ctx, within, make([]byte, scratchSize), func(block disk.Block, _ segment.Checksum) bool {
			if run.Count > 0 && run.End() == block {
				run.Count++
				return true
			}
			if run.Count > 0 && !yield(run, nil) {
				stopped = true
				return false
			}
			run = disk.Extent{Start: block, Count: 1}
			return true
		})
		switch {
		case stopped:
		case err != nil:
			yield(disk.Extent{}, err)
		case run.Count > 0:
			yield(run, nil)
		}
	}
}

// count sums up the entries from start on.
func (t *Table) count(ctx context.Context, start disk.Block) (segment.DiskSum, error) {
	var sum segment.DiskSum
	err := t.eachEntry(ctx, disk.Extent{Start: start, Count: uint64(endOfDisk - start)}, make([]byte, scratchSize),
		func(block disk.Block, entry segment.Checksum) bool {
			sum.Replace(t.hasher, block, segment.Checksum{}, entry)
			return true
		})
	return sum, err
}

// Check counts the disk checksum anew from all entries and compares it with the
// one that was carried along; a difference is an error that matches ErrDamaged.
func (t *Table) Check(ctx context.Context) error {
	sum, err := t.count(ctx, 0)
	if err == nil && sum != t.header.sum {
		err = fmt.Errorf("%w: its entries sum up to %s, not to %s", ErrDamaged, sum, t.header.sum)
	}
	return err
}
