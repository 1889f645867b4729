package resync

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

func statBlocks(info fs.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks }

const crashBlocks = 300

// crashLab is a table of which every durable state is known.
type crashLab struct {
	t      *rapid.T
	folder string
	path   string
}

func (l *crashLab) content() []byte {
	b, err := os.ReadFile(l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// after returns what a power cut may leave on the disk when before was durable
// and now was written: any of the sectors that differ may have arrived, and one
// of them in part.
func (l *crashLab) after(before, now []byte) []byte {
	size := max(len(before), len(now))
	if rapid.Bool().Draw(l.t, "old size") {
		size = len(before)
	}
	out := make([]byte, size)
	copy(out, before)
	for at := 0; at < size; at += 512 {
		end := min(at+512, size)
		switch rapid.IntRange(0, 4).Draw(l.t, "sector") {
		case 0, 1:
			clear(out[at:end])
			copy(out[at:end], now[min(at, len(now)):])
		case 2:
			torn := rapid.IntRange(at, end).Draw(l.t, "torn at")
			copy(out[at:torn], now[min(at, len(now)):])
		}
	}
	return out
}

// entries reads all entries of a table.
func entries(t *rapid.T, table *Table) []segment.Checksum {
	sums := make([]segment.Checksum, crashBlocks)
	if err := table.Get(0, sums); err != nil {
		t.Fatal(err)
	}
	return sums
}

// checkClean holds an open table to a state.
func checkClean(t *rapid.T, table *Table, state State, want []segment.Checksum) {
	if table.State() != state {
		t.Fatalf("it is true for %+v, want %+v", table.State(), state)
	}
	for i, sum := range entries(t, table) {
		if sum != want[i] {
			t.Fatalf("entry %d is not that of %+v", i, state)
		}
	}
	if err := table.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A crash at any step of a change leaves the old table, the new table, or one
// that says that it is neither; and the change can be made again.
func TestACrashLeavesOldNewOrDirty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		folder, err := os.MkdirTemp("/dev/shm", "lifeboat-table-")
		if err != nil {
			folder, err = os.MkdirTemp("", "lifeboat-table-")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(folder) }()
		l := &crashLab{t: t, folder: folder, path: filepath.Join(folder, "table")}
		table, err := Create(l.path, identity(), hasher())
		if err != nil {
			t.Fatal(err)
		}
		old := make([]segment.Checksum, crashBlocks)
		state := State{}
		for epoch := range rapid.Uint64Range(1, 4).Draw(t, "epochs") {
			target := State{Epoch: epoch + 1, Walk: epoch % 2, Position: disk.Block(epoch)}
			table, old, state = l.changeWithCrash(table, old, state, target)
		}
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// changeWithCrash makes a change, perhaps with a crash on the way, after which
// it is made again. It returns the table that is true for the target.
func (l *crashLab) changeWithCrash(table *Table, old []segment.Checksum, state, target State) (*Table, []segment.Checksum, State) {
	t := l.t
	next, redo := l.drawChange(old)
	steps := [][]byte{l.content()}
	snapshot := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, l.content())
	}
	snapshot(table.Begin(target))
	snapshot(redo(table))
	snapshot(table.Commit(t.Context()))
	crash := rapid.IntRange(0, 3).Draw(t, "crash in step")
	if crash == 3 {
		checkClean(t, table, target, next)
		return table, next, target
	}
	left := l.after(steps[crash], steps[crash+1])
	if crash == 2 {
		// The entries are durable before the header is written.
		left = l.after(steps[2], steps[3])
	}
	if err := errors.Join(table.Close(), os.WriteFile(l.path, left, 0o600)); err != nil {
		t.Fatal(err)
	}
	table, err := Open(l.path, identity(), hasher())
	var dirty *DirtyError
	switch {
	case err == nil && table.State() == state && crash == 0:
		checkClean(t, table, state, old)
	case err == nil && table.State() == target && crash == 2:
		checkClean(t, table, target, next)
		return table, next, target
	case errors.As(err, &dirty) && dirty.Target == target && dirty.From == state:
		if table, err = OpenDirty(l.path, identity(), hasher()); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("after a crash in step %d: %v", crash, err)
	}
	if err := errors.Join(table.Begin(target), redo(table), table.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	checkClean(t, table, target, next)
	return table, next, target
}

// drawChange returns what a change leads to, and the change.
func (l *crashLab) drawChange(old []segment.Checksum) ([]segment.Checksum, func(*Table) error) {
	t := l.t
	next := append([]segment.Checksum(nil), old...)
	floor := rapid.IntRange(0, crashBlocks).Draw(t, "floor")
	clear(next[floor:])
	start := rapid.IntRange(0, crashBlocks-1).Draw(t, "start")
	sums := make([]segment.Checksum, rapid.IntRange(1, crashBlocks-start).Draw(t, "count"))
	for i := range sums {
		sums[i] = sumOf(rapid.IntRange(0, 3).Draw(t, "sum"))
	}
	copy(next[start:], sums)
	hole := disk.Extent{Start: disk.Block(rapid.IntRange(0, crashBlocks-1).Draw(t, "hole")), Count: 7}
	for b := hole.Start; b < min(hole.End(), crashBlocks); b++ {
		next[b] = segment.Checksum{}
	}
	return next, func(table *Table) error {
		return errors.Join(table.Truncate(int64(floor)*disk.BlockSize), table.Set(disk.Block(start), sums), table.Zero(hole))
	}
}

// FuzzHeader decodes header slots.
func FuzzHeader(f *testing.F) {
	h := header{sequence: 5, dirty: true, state: State{Epoch: 1}, target: State{Epoch: 2, Walk: 1, Position: 9}}
	check := hasher().Sum([]byte{1})
	slot, err := h.encode(identity(), check)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slot[:headerSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHeader(data, identity(), check)
		if err != nil {
			return
		}
		again, err := h.encode(identity(), check)
		if err != nil || len(data) < headerSize || h != mustDecode(t, again, check) {
			t.Fatalf("%+v is not the same when written again: %v", h, err)
		}
	})
	if !bytes.Equal(slot[headerSize:], make([]byte, slotSize-headerSize)) {
		f.Error("the rest of the slot is not zero")
	}
}

func mustDecode(t *testing.T, slot []byte, check segment.Checksum) header {
	t.Helper()
	h, err := decodeHeader(slot, identity(), check)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
