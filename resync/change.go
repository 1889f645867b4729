package resync

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

// endOfDisk is a block that no disk reaches.
const endOfDisk disk.Block = 1 << 51

// Begin begins a change that makes the table true for target. The segments that
// it consists of are durable in the container already, so that it can be made
// again. On return the table is durably marked dirty.
func (t *Table) Begin(target State) error {
	switch {
	case t.failed != nil:
		return t.failed
	case t.changing:
		return errors.New("changing checksum table: a change is under way already")
	case t.header.dirty && t.header.target != target:
		return fmt.Errorf("changing checksum table: %w", &DirtyError{From: t.header.state, Target: t.header.target})
	case t.header.dirty:
		t.recount = true
	default:
		h := t.header
		h.dirty, h.target = true, target
		if err := t.writeHeader(h); err != nil {
			return t.fail(err)
		}
	}
	t.changing = true
	return nil
}

// Commit ends the change. On return the table is durably clean and true for the
// target.
func (t *Table) Commit(ctx context.Context) error {
	if err := t.usable(); err != nil {
		return err
	}
	h := t.header
	if t.recount {
		sum, err := t.count(ctx, 0)
		if err != nil {
			return t.fail(err)
		}
		h.sum = sum
	}
	if err := t.sync(); err != nil {
		return t.fail(err)
	}
	h.dirty, h.state, h.target = false, h.target, State{}
	if err := t.writeHeader(h); err != nil {
		return t.fail(err)
	}
	t.changing, t.recount = false, false
	return nil
}

// Set gives the blocks from start on their checksums.
func (t *Table) Set(start disk.Block, sums []segment.Checksum) error {
	if err := t.usable(); err != nil {
		return err
	}
	for len(sums) > 0 {
		n := min(len(sums), scratchSize/entrySize)
		if err := t.set(start, sums[:n]); err != nil {
			return t.fail(err)
		}
		start, sums = start+disk.Block(n), sums[n:]
	}
	return nil
}

func (t *Table) set(start disk.Block, sums []segment.Checksum) error {
	entries := t.scratch[:len(sums)*entrySize]
	if err := t.readEntries(start, entries); err != nil {
		return err
	}
	changed := false
	for i, sum := range sums {
		entry := entries[i*entrySize : (i+1)*entrySize]
		old := segment.Checksum(entry)
		if old == sum {
			continue
		}
		changed = true
		t.header.sum.Replace(t.hasher, start+disk.Block(i), old, sum)
		copy(entry, sum[:])
	}
	if !changed {
		return nil // which also keeps holes
	}
	_, err := t.file.WriteAt(entries, entryOffset(start))
	return err
}

// Zero makes the extent's blocks zero.
func (t *Table) Zero(extent disk.Extent) error {
	if err := t.usable(); err != nil {
		return err
	}
	end, err := t.end()
	if err != nil {
		return t.fail(err)
	}
	if extent.Start >= end {
		return nil
	}
	if extent.Count > uint64(end-extent.Start) {
		extent.Count = uint64(end - extent.Start)
	}
	err = t.eachEntry(context.Background(), extent, t.scratch, func(block disk.Block, old segment.Checksum) bool {
		t.header.sum.Replace(t.hasher, block, old, segment.Checksum{})
		return true
	})
	if err == nil {
		err = t.punch(extent)
	}
	if err != nil {
		return t.fail(err)
	}
	return nil
}

// punch makes a hole of the extent's entries, or writes zeros where the file
// system cannot.
func (t *Table) punch(extent disk.Extent) error {
	offset, length := entryOffset(extent.Start), int64(extent.Count)*entrySize
	err := unix.Fallocate(int(t.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	clear(t.scratch)
	for length > 0 {
		n := min(length, scratchSize)
		if _, err := t.file.WriteAt(t.scratch[:n], offset); err != nil {
			return err
		}
		offset, length = offset+n, length-n
	}
	return nil
}

// Truncate makes zero what begins at size or later: for the floor of an epoch,
// in bytes.
func (t *Table) Truncate(size int64) error {
	start := disk.Block(disk.BlockCount(size))
	return t.Zero(disk.Extent{Start: start, Count: uint64(endOfDisk - start)})
}

// Apply lays what a segment says over the table.
func (t *Table) Apply(x *segment.Index) error {
	if x.Disk != t.id.Disk {
		return fmt.Errorf("changing checksum table of disk %s: the segment is of disk %s", t.id.Disk, x.Disk)
	}
	for extent, sums := range x.All() {
		var err error
		if sums == nil {
			err = t.Zero(extent)
		} else {
			err = t.Set(extent.Start, sums)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) usable() error {
	if t.failed == nil && !t.changing {
		return errors.New("changing checksum table: no change was begun")
	}
	return t.failed
}

// fail ends the use of the table: what reached the disk is unknown.
func (t *Table) fail(err error) error {
	t.failed = fmt.Errorf("changing checksum table %s: %w", t.file.Name(), err)
	return t.failed
}
