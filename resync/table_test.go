package resync

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

func identity() Identity {
	return Identity{VM: strings.Repeat("ab", 16), Disk: strings.Repeat("cd", 16)}
}

func hasher() *segment.Hasher { return segment.NewHasher(segment.Key{7}) }

// sumOf returns a checksum that stands for some content; 0 stands for zeros.
func sumOf(content int) segment.Checksum {
	if content == 0 {
		return segment.Checksum{}
	}
	return segment.Checksum{byte(content), byte(content >> 8), 1}
}

func create(t testing.TB) (*Table, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	table, err := Create(path, identity(), hasher())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() }) // a test may have closed it
	return table, path
}

func change(t testing.TB, table *Table, target State, apply func() error) {
	t.Helper()
	err := table.Begin(target)
	if err == nil {
		err = apply()
	}
	if err == nil {
		err = table.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenTellsWhyATableCannotBeUsed(t *testing.T) {
	table, path := create(t)
	change(t, table, State{Epoch: 4}, func() error { return table.Set(3, []segment.Checksum{sumOf(1)}) })
	sum := table.Sum()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := func(id Identity, h *segment.Hasher) error {
		table, err := Open(path, id, h)
		if err == nil {
			err = table.Close()
		}
		return err
	}
	if err := open(identity(), hasher()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path+"x", identity(), hasher()); !errors.Is(err, ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	if err := open(Identity{VM: identity().VM, Disk: identity().VM}, hasher()); !errors.Is(err, ErrDamaged) {
		t.Errorf("another disk's: %v", err)
	}
	if err := open(identity(), segment.NewHasher(segment.Key{8})); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key's: %v", err)
	}
	for _, size := range []int{0, 1, 100} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(identity(), hasher()); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d: %v", size, err)
		}
	}
	// A damaged entry is found by counting.
	damaged := append([]byte(nil), whole...)
	damaged[entryOffset(3)] ^= 1
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	table, err = Open(path, identity(), hasher())
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Check(t.Context()); !errors.Is(err, ErrDamaged) || table.Sum() != sum {
		t.Errorf("damaged entry: %v", err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestChangesAreOnlyMadeBetweenBeginAndCommit(t *testing.T) {
	table, path := create(t)
	one := []segment.Checksum{sumOf(1)}
	for name, err := range map[string]error{
		"set": table.Set(0, one), "zero": table.Zero(disk.Extent{Count: 1}), "commit": table.Commit(t.Context()),
	} {
		if err == nil {
			t.Errorf("%s was allowed outside of a change", name)
		}
	}
	if err := table.Begin(State{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if table.Begin(State{Epoch: 1}) == nil {
		t.Error("a second change was begun")
	}
	if err := errors.Join(table.Set(0, one), table.Close()); err != nil {
		t.Fatal(err)
	}
	var dirty *DirtyError
	if _, err := Open(path, identity(), hasher()); !errors.As(err, &dirty) || dirty.Target != (State{Epoch: 1}) {
		t.Fatalf("left in the middle of a change: %v", err)
	}
	table, err := OpenDirty(path, identity(), hasher())
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Begin(State{Epoch: 2}); !errors.As(err, &dirty) {
		t.Errorf("another change was begun on a dirty table: %v", err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestATableCostsWhatTheDiskHolds(t *testing.T) {
	table, path := create(t)
	const tebi = disk.Block(1 << 40 / disk.BlockSize)
	sums := make([]segment.Checksum, 10000)
	for i := range sums {
		sums[i] = sumOf(i + 1)
	}
	change(t, table, State{Epoch: 1}, func() error {
		return errors.Join(table.Set(0, sums), table.Set(3*tebi, sums), table.Set(4*tebi, make([]segment.Checksum, 100000)))
	})
	if size := allocated(t, path); size > 600<<10 {
		t.Errorf("20000 entries take %d bytes", size)
	}
	if end, err := table.end(); err != nil || end > 3*tebi+10000 {
		t.Errorf("zeros made the file longer: %d, %v", end, err)
	}
	var found []disk.Extent
	for e, err := range table.NonZero(t.Context(), disk.Extent{Start: 5, Count: uint64(5 * tebi)}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, e)
	}
	if len(found) != 2 || found[0] != (disk.Extent{Start: 5, Count: 9995}) || found[1] != (disk.Extent{Start: 3 * tebi, Count: 10000}) {
		t.Errorf("not zero: %v", found)
	}
	change(t, table, State{Epoch: 2}, func() error { return table.Truncate(5 * disk.BlockSize) })
	if size := allocated(t, path); size > 64<<10 {
		t.Errorf("5 entries take %d bytes", size)
	}
	if err := table.Check(t.Context()); err != nil {
		t.Error(err)
	}
	var want segment.DiskSum
	for i := range 5 {
		want.Replace(hasher(), disk.Block(i), segment.Checksum{}, sums[i])
	}
	if table.Sum() != want {
		t.Errorf("sum %s, want %s", table.Sum(), want)
	}
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return statBlocks(info) * 512
}
