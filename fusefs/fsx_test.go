package fusefs

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/disk"
	"lifeboat/tracker"
)

var fsxSeed = flag.Uint64("fsx-seed", 0, "the seed of TestFSX's operations; 0 means a new one")

// TestFSX does random operations of all kinds to a protected disk on the mount,
// as fsx does to test file systems, with rollovers meanwhile. After each read
// the disk holds what a model says; and at rest the file below the mount holds
// that, and so does a replica that knows nothing but the sealed epochs.
func TestFSX(t *testing.T) {
	rounds := 12
	if os.Getenv("LIFEBOAT_LONG") != "" {
		rounds = 200
		t.Run("xfs", func(t *testing.T) { exercise(t, newFileSystem(t, "xfs"), DirectPass, rounds) })
	}
	for _, direct := range []Direct{DirectBuffered, DirectPass} {
		t.Run(string(direct), func(t *testing.T) { exercise(t, t.TempDir(), direct, rounds) })
	}
}

func exercise(t *testing.T, folder string, direct Direct, rounds int) {
	seed := *fsxSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	s := serveFolder(t, func(o *Options, _ *filter) { o.Folder, o.Direct = folder, direct })
	s.folder = folder
	must(t, os.WriteFile(s.below("disk.img"), pattern(random, fsxSize/2), 0o600))
	must(t, os.WriteFile(s.below("source"), pattern(random, fsxSize/2), 0o600))
	vm := newTrackedVM(t, s, "disk.img")
	work := startHelper(t, helper("fsx"), fsxWork{Path: s.path("disk.img"), Source: s.path("source"), Seed: seed})
	t.Cleanup(func() { _ = work.end() }) // it has the disk open, if the test has failed
	store := filepath.Join(t.TempDir(), "model")
	for round := range rounds {
		for range 3 {
			done := work.order(t, fsxOrder{Operations: 100})
			for range random.IntN(4) {
				vm.rollover(t) // while it works
			}
			vm.ship(t)
			<-done
		}
		<-work.order(t, fsxOrder{Store: store})
		if t.Failed() {
			break
		}
		want := read(t, store)
		if below := read(t, s.below("disk.img")); !bytes.Equal(below, want) {
			t.Fatalf("round %d: the file below has %d bytes, first wrong at %d of %d", round, len(below), firstDifference(below, want), len(want))
		}
		vm.rollover(t)
		vm.ship(t)
		if !bytes.Equal(vm.replica, want) {
			t.Fatalf("round %d: the replica has %d bytes, first wrong at %d of %d", round, len(vm.replica), firstDifference(vm.replica, want), len(want))
		}
	}
	must(t, work.end())
	t.Logf("%d epochs with %d changed blocks", vm.epochs, vm.blocks)
	if vm.blocks == 0 {
		t.Error("nothing was tracked")
	}
}

// order has the helper do something. What is returned is closed when it is done.
func (l *lasting) order(t *testing.T, what any) <-chan struct{} {
	t.Helper()
	must(t, json.NewEncoder(l.in).Encode(what))
	done := make(chan struct{})
	go func() {
		defer close(done)
		said := make([]byte, len("\n"+ready))
		if _, err := io.ReadFull(l.out, said); err != nil {
			t.Errorf("the helper ended: %v", err)
		}
	}()
	return done
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// trackedVM is a VM with one disk that a real tracker tracks, and what somebody
// knows of it who reads sealed epochs only.
type trackedVM struct {
	tracker *tracker.Tracker
	replica []byte
	epochs  int
	blocks  uint64
}

const (
	vmID   = "000000000000000000000000000000aa"
	diskID = "000000000000000000000000000000b0"
)

// trackedFS is the file system as the tracker sees it.
type trackedFS struct{ fs *FS }

func (a trackedFS) Attach(device, inode uint64, d tracker.Tracked) error {
	return a.fs.Attach(FileID{Device: device, Inode: inode}, d)
}

func (a trackedFS) Anticipate(device, inode uint64, d tracker.Tracked) {
	a.fs.Anticipate(FileID{Device: device, Inode: inode}, d)
}

func (a trackedFS) Watch(file *os.File, w tracker.Witness) { a.fs.Watch(file, w) }

func (a trackedFS) Look() { a.fs.Look() }

func (a trackedFS) Detach(device, inode uint64) { a.fs.Detach(FileID{Device: device, Inode: inode}) }

// newTrackedVM protects a disk and makes believe that it was walked.
func newTrackedVM(t *testing.T, s *served, name string) *trackedVM {
	t.Helper()
	folder, err := os.Open(s.folder)
	must(t, err)
	vm := &trackedVM{}
	vm.tracker, err = tracker.Open(tracker.Config{Folder: folder, FileSystem: trackedFS{s.fs}, Logger: testLogger(t)})
	must(t, err)
	t.Cleanup(func() {
		must(t, vm.tracker.Close())
		must(t, folder.Close())
	})
	protected, err := vm.tracker.Protect(t.Context(), tracker.Spec{
		ID: vmID, Name: "vm", Disks: []tracker.DiskSpec{{ID: diskID, Path: name}},
	})
	must(t, err)
	vm.replica = read(t, s.below(name))
	e, err := vm.tracker.Rollover(t.Context(), vmID, protected.Walk.Number)
	must(t, err)
	must(t, vm.tracker.Acknowledge(t.Context(), vmID, e.Number, protected.Walk.Number))
	return vm
}

func (vm *trackedVM) rollover(t *testing.T) {
	t.Helper()
	_, err := vm.tracker.Rollover(t.Context(), vmID, 0)
	must(t, err)
	vm.epochs++
}

// ship brings the replica forward by all sealed epochs.
func (vm *trackedVM) ship(t *testing.T) {
	t.Helper()
	now, err := vm.tracker.VM(t.Context(), vmID)
	must(t, err)
	if now.Walk.Required || now.GivenUp > 0 {
		t.Fatalf("a walk is required, or points were given up: %+v", now)
	}
	for _, e := range now.Sealed {
		ed := e.Disks[0]
		changed, err := vm.tracker.Changed(t.Context(), vmID, e.Number, diskID)
		must(t, err)
		next := make([]byte, disk.BlockCount(ed.Size)*disk.BlockSize)
		copy(next, vm.replica[:min(int64(len(vm.replica)), ed.Floor)]) // beyond, what was not changed is zero
		for _, x := range changed {
			at := next[x.Start.Offset():x.End().Offset()]
			must(t, vm.tracker.ReadSealed(t.Context(), vmID, e.Number, diskID, at, x.Start.Offset()))
			vm.blocks += x.Count
		}
		vm.replica = next[:ed.Size]
		must(t, vm.tracker.Acknowledge(t.Context(), vmID, e.Number, 0))
	}
}
