package changelog

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func open(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	vm    = ID{1}
	disk  = ID{2}
	other = ID{2, 1} // its keys lie right behind disk's
)

// TestRecords: what was written is read, in order, also after the log was
// opened again, and dropping an epoch touches no other.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	some := Bits{1, 0, 1 << 63, 7}
	must(t, l.Commit(func(w *Writes) {
		w.VM(vm, []byte("vm"))
		w.Epoch(vm, 300, []byte("b"))
		w.Epoch(vm, 2, []byte("a"))
		w.Floor(disk, 5, []byte("floor"))
		w.Lost(vm, 4)
		w.Doubt(vm, "somebody was there")
		w.Event(9, []byte("event"))
		w.Region(disk, 5, 1000, some)
		w.RegionInDoubt(disk, 5, 3)
		w.Images(disk, 5, 8, some)
	}))
	must(t, l.Bulk(func(w *Writes) {
		for r := range uint64(5000) {
			w.Region(disk, 6, r, AllBits())
		}
		w.Region(other, 5, 1, some)
	}))
	must(t, l.Close())

	l = open(t, dir)
	defer func() { must(t, l.Close()) }()
	must(t, l.VMs(func(id ID, record []byte) error {
		if id != vm || string(record) != "vm" {
			t.Errorf("VM %x: %q", id, record)
		}
		return nil
	}))
	var epochs []uint64
	must(t, l.Epochs(vm, func(epoch uint64, _ []byte) error {
		epochs = append(epochs, epoch)
		return nil
	}))
	if !slices.Equal(epochs, []uint64{2, 300}) {
		t.Errorf("epochs %v", epochs)
	}
	type seen struct {
		region uint64
		blocks Bits
		exact  bool
	}
	regions := func(disk ID, epoch uint64) (all []seen) {
		must(t, l.Regions(disk, epoch, func(r uint64, b Bits, exact bool) { all = append(all, seen{r, b, exact}) }))
		return all
	}
	if got := regions(disk, 5); !slices.Equal(got, []seen{{3, AllBits(), false}, {1000, some, true}}) {
		t.Errorf("regions %v", got)
	}
	if got := len(regions(disk, 6)); got != 5000 {
		t.Errorf("%d regions, want 5000", got)
	}
	must(t, l.ImageEpochs(disk, func(epoch, region uint64, b Bits) {
		if epoch != 5 || region != 8 || b != some {
			t.Errorf("image %d %d %v", epoch, region, b)
		}
	}))
	if doubt, err := l.Doubt(vm); err != nil || doubt != "somebody was there" {
		t.Errorf("doubt %q, %v", doubt, err)
	}
	must(t, l.Commit(func(w *Writes) { w.Doubt(vm, "") }))
	if doubt, err := l.Doubt(vm); err != nil || doubt != "" {
		t.Errorf("doubt %q, %v", doubt, err)
	}
	if lost, err := l.Lost(vm); err != nil || lost != 4 {
		t.Errorf("lost through %d, %v", lost, err)
	}
	stale, err := l.StaleEpochs(disk, func(epoch uint64) bool { return epoch == 5 })
	if err != nil || !slices.Equal(stale, []uint64{6}) {
		t.Errorf("stale epochs %v, %v", stale, err)
	}
	must(t, l.Drop(disk, 5))
	if got := regions(disk, 5); len(got) != 0 {
		t.Errorf("dropped regions are there: %v", got)
	}
	if floor, err := l.Floor(disk, 5); err != nil || floor != nil {
		t.Errorf("dropped floor is there: %q, %v", floor, err)
	}
	if len(regions(disk, 6)) != 5000 || len(regions(other, 5)) != 1 {
		t.Error("dropping an epoch took others with it")
	}
	must(t, l.DropDisk(disk))
	if len(regions(disk, 6)) != 0 || len(regions(other, 5)) != 1 {
		t.Error("dropping a disk took too little or too much")
	}
}

// TestInUse: a second process is refused.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	defer func() { must(t, l.Close()) }()
	second, err := Open(dir, quiet)
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("second open: %v, %v", second, err)
	}
}

// FuzzDecodeBits: whatever lies in the log, a bitmap comes out that encodes to
// the same, or an error.
func FuzzDecodeBits(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 32))
	f.Add(bytes.Repeat([]byte{0xff}, 33))
	f.Fuzz(func(t *testing.T, v []byte) {
		b, exact, err := decodeBits(v)
		switch {
		case err != nil:
		case exact && !bytes.Equal(encodeBits(b), v):
			t.Fatalf("%x decodes to %v", v, b)
		case !exact && (len(v) != 0 || b != AllBits()):
			t.Fatalf("%x is in doubt, with %v", v, b)
		}
	})
}
