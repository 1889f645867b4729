package uploader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replica"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/segment"
	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

// failer is what testing.T and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

const (
	vmID  = "000000000000000000000000000000a1"
	diskA = "000000000000000000000000000000d1"
	diskB = "000000000000000000000000000000d2"
)

// rig is a VM of two disks with a fake filter, a store that can fail, and a
// shipper that can be killed.
type rig struct {
	filter  *fakeFilter
	memory  *memory
	store   *blobstoretest.Faulty
	state   string
	shipper *shipper
	events  recorder
	// transfer outlives the sidecars of the test: buffers are dear to make.
	transfer *transfer
}

// recorder is an observer that notes what it is told.
type recorder struct {
	commits int
	cycles  []*api.Cycle
	walks   int
}

func (r *recorder) walked(tracker.VM, bool, int64, int64) { r.walks++ }
func (r *recorder) closing(tracker.VM, bool)              {}
func (r *recorder) shipped()                              {}
func (r *recorder) committed(_ tracker.VM, _ replica.Point, c *api.Cycle, _ bool) {
	if c != nil {
		r.commits++
		r.cycles = append(r.cycles, c)
	}
}

// smallSizes make many segments of little data.
func smallSizes() sizes {
	return sizes{chunkBlocks: 4, segmentBytes: 20 << 10, recordBlocks: 16, absorbAt: 2, keptIndexes: 2}
}

func newRig(t failer, state string, faults ...blobstoretest.Fault) *rig {
	t.Helper()
	return newRigWith(t, newTransfer(2), state, faults...)
}

func newRigWith(t failer, buffers *transfer, state string, faults ...blobstoretest.Fault) *rig {
	t.Helper()
	r := &rig{filter: newFakeFilter(), memory: newMemory(), state: state, transfer: buffers}
	r.store = blobstoretest.NewFaulty(r.memory, faults...)
	_, err := r.filter.Protect(context.Background(), tracker.Spec{ID: vmID, Name: "web", Disks: []tracker.DiskSpec{
		{ID: diskA, Path: "web/a.img"}, {ID: diskB, Path: "web/b.img"},
	}})
	if err != nil {
		t.Fatalf("protect: %v", err)
	}
	r.boot(t)
	return r
}

// stateDir returns a directory in memory where there is such a thing: the tests
// kill sidecars, not hosts, and need not wait for a disk's syncs.
func stateDir(t *testing.T) string {
	t.Helper()
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = t.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "lifeboat-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// boot kills the sidecar and starts another on the same state directory.
func (r *rig) boot(t failer) {
	t.Helper()
	if r.shipper != nil {
		r.shipper.close()
	}
	directory := filepath.Join(r.state, "vms", vmID)
	settings, err := openSettings(directory)
	if err != nil {
		t.Fatalf("settings: %v", err)
	}
	r.shipper = &shipper{
		id: vmID, writer: replica.NewID(), backend: r.filter, transfer: r.transfer, directory: directory, settings: settings,
		observer: &r.events, sizes: smallSizes(), log: slog.New(slog.DiscardHandler),
		open: func(ctx context.Context) (*replica.Repository, error) { return replica.OpenOrCreate(ctx, r.store) },
	}
}

// settle steps until there is nothing left to do. It gives up at the first error
// that is not about a situation that has changed.
func (r *rig) settle(ctx context.Context) error {
	for range 1000 {
		idle, err := r.shipper.step(ctx)
		if idle {
			return nil
		}
		if err != nil {
			if c, _ := classify(ctx, err); c != lookAgain {
				return err
			}
		}
	}
	return errors.New("it never comes to rest")
}

func (r *rig) mustSettle(t failer) {
	t.Helper()
	if err := r.settle(context.Background()); err != nil {
		t.Fatalf("settle: %v", err)
	}
}

func (r *rig) rollOver(t failer) uint64 {
	t.Helper()
	e, err := r.filter.Rollover(context.Background(), vmID, 0)
	if err != nil {
		t.Fatalf("roll over: %v", err)
	}
	return e.Number
}

// dropState loses the sidecar's state directory.
func (r *rig) dropState(t failer) {
	t.Helper()
	if err := os.RemoveAll(r.state); err != nil {
		t.Fatalf("%v", err)
	}
}

// verify restores every recovery point in the container and compares it with
// what the disks held at its rollover. It returns how many there are.
func (r *rig) verify(t failer) int {
	t.Helper()
	ctx := context.Background()
	repository, err := replica.Open(ctx, r.memory)
	if errors.Is(err, replica.ErrNoRepository) {
		return 0
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	epochs, err := repository.Epochs(ctx, vmID)
	if err != nil {
		t.Fatalf("list points: %v", err)
	}
	for _, epoch := range epochs {
		if err := r.verifyPoint(ctx, repository, epoch); err != nil {
			t.Fatalf("recovery point %d of %v: %v", epoch, epochs, err)
		}
	}
	return len(epochs)
}

func (r *rig) verifyPoint(ctx context.Context, repository *replica.Repository, epoch uint64) error {
	chain, err := repository.Chain(ctx, vmID, epoch)
	if err != nil {
		return err
	}
	vm, err := repository.VM(ctx, vmID, chain[0].Generation)
	if err != nil {
		return err
	}
	hasher := segment.NewHasher(vm.Key)
	for _, d := range chain[0].Disks {
		blocks, err := repository.BlockMap(ctx, chain, d.ID)
		if err != nil {
			return err
		}
		image, err := repository.Image(blocks, hasher)
		if err != nil {
			return err
		}
		got := make([]byte, image.Size())
		if _, err := image.ReadAt(ctx, got, 0); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		want := r.filter.vms[vmID].recorded[epoch][d.ID]
		if !bytes.Equal(got, want) {
			return fmt.Errorf("disk %s differs: it has %d bytes, %d were recorded", d.Path, len(got), len(want))
		}
		var sum segment.DiskSum
		for i, s := range hasher.Sums(nil, got) {
			sum.Replace(hasher, blockNumber(i), segment.Checksum{}, s)
		}
		if sum != d.Checksum {
			return fmt.Errorf("disk %s has the checksum %s, its manifest says %s", d.Path, sum, d.Checksum)
		}
	}
	return nil
}
