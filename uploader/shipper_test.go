package uploader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

func blockNumber(i int) disk.Block { return disk.Block(i) }

// noise returns bytes that do not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	_, _ = r.Read(b) // never fails
	return b
}

// fill gives the rig's disks some content.
func (r *rig) fill() {
	r.filter.write(vmID, diskA, 0, noise(1, 40*disk.BlockSize))
	r.filter.write(vmID, diskA, 60*disk.BlockSize, noise(2, 5*disk.BlockSize+77))
	r.filter.write(vmID, diskB, 3*disk.BlockSize, bytes.Repeat([]byte("text "), 5000))
}

// story is a day in the life of a VM; each part is followed by letting the
// sidecar come to rest, as far as settle gets.
func (r *rig) story(t failer, settle func()) {
	t.Helper()
	r.fill()
	settle()
	cut := func(change func()) {
		if change != nil {
			change()
		}
		if vm, _ := r.filter.VM(context.Background(), vmID); !vm.Walk.Required {
			r.rollOver(t)
		}
		settle()
	}
	cut(nil)
	cut(func() { r.filter.write(vmID, diskA, 5000, noise(3, 9000)) })
	cut(func() {
		r.filter.resize(vmID, diskA, 10*disk.BlockSize+5)
		r.filter.resize(vmID, diskA, 50*disk.BlockSize)
		r.filter.write(vmID, diskA, 45*disk.BlockSize, noise(4, disk.BlockSize))
	})
	cut(func() { r.filter.write(vmID, diskB, 0, make([]byte, 20*disk.BlockSize)) })
	r.filter.loseLog(vmID)
	r.filter.write(vmID, diskA, 20*disk.BlockSize, noise(5, 12*disk.BlockSize))
	settle()
	cut(func() { r.filter.resize(vmID, diskB, 0) })
	cut(func() { r.filter.write(vmID, diskB, 0, noise(6, 30*disk.BlockSize)) })
}

func TestStoryWithoutFaults(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.story(t, func() { r.mustSettle(t) })
	if n := r.verify(t); n != 8 {
		t.Errorf("%d recovery points, want 8", n)
	}
	if vm, _ := r.filter.VM(t.Context(), vmID); len(vm.Sealed) != 0 || vm.Walk.Required {
		t.Errorf("left behind: %+v", vm)
	}
}

// TestEveryOperationFails lets the 1st, 2nd, 3rd… operation on the store fail
// until the story passes without one failing: with the operation done or not,
// and with the sidecar killed there, its state kept or lost, or going on. Unless
// LIFEBOAT_LONG is set, each of the six ways takes every third operation.
func TestEveryOperationFails(t *testing.T) {
	stride := 3
	if os.Getenv("LIFEBOAT_LONG") != "" {
		stride = 1
	}
	for _, effect := range []blobstoretest.Effect{blobstoretest.Fail, blobstoretest.LostReply} {
		for i, after := range []string{"goes on", "is killed", "loses its state"} {
			t.Run(fmt.Sprintf("effect %d, sidecar %s", effect, after), func(t *testing.T) {
				t.Parallel()
				buffers := newTransfer(2)
				n := 1 + (i+int(effect))%stride
				for failOnce(t, buffers, n, effect, after) {
					n += stride
				}
			})
		}
	}
}

// failOnce tells whether the fault struck.
func failOnce(t *testing.T, buffers *transfer, n int, effect blobstoretest.Effect, after string) bool {
	r := newRigWith(t, buffers, stateDir(t), blobstoretest.Fault{Nth: n, Effect: effect})
	points := 0
	r.story(t, func() {
		for {
			err := r.settle(context.Background())
			if err == nil {
				break
			}
			if !errors.Is(err, blobstoretest.ErrInjected) {
				t.Fatalf("operation %d: %v", n, err)
			}
			switch after {
			case "loses its state":
				r.dropState(t)
				r.boot(t)
			case "is killed":
				r.boot(t)
			}
		}
		points++
	})
	struck := r.store.Struck() > 0
	r.store.Heal()
	if got := r.verify(t); got != points {
		t.Fatalf("operation %d: %d recovery points after %d rollovers", n, got, points)
	}
	r.shipper.close()
	return struck
}

func TestBytesShipped(t *testing.T) {
	t.Parallel()
	const blocks, changed = 1024, 125
	r := newRig(t, stateDir(t))
	r.shipper.sizes = standardSizes()
	r.filter.write(vmID, diskA, 0, noise(1, blocks*disk.BlockSize))
	r.mustSettle(t)
	random := rand.New(rand.NewPCG(1, 2))
	distinct := map[int]bool{}
	for i := range changed {
		b := random.IntN(blocks)
		distinct[b] = true
		r.filter.write(vmID, diskA, int64(b)*disk.BlockSize, noise(uint64(100+i), disk.BlockSize))
	}
	// Regions that count as changed in full, and blocks rewritten as they are.
	r.filter.alsoMark(vmID, diskA, 0, blocks/4*disk.BlockSize)
	epoch := r.rollOver(t)
	r.mustSettle(t)
	point, err := r.shipper.repository.Point(t.Context(), vmID, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if d := point.Disk(diskA); d.Blocks != uint64(len(distinct)) {
		t.Errorf("%d blocks shipped, %d changed", d.Blocks, len(distinct))
	}
	if limit := int64(float64(len(distinct)*disk.BlockSize) * 1.10); point.Stored() > limit {
		t.Errorf("%d bytes shipped for %d changed blocks: more than %d", point.Stored(), len(distinct), limit)
	}
	// Nothing changed in truth: nothing is shipped.
	r.filter.alsoMark(vmID, diskA, 0, blocks*disk.BlockSize)
	epoch = r.rollOver(t)
	r.mustSettle(t)
	point, err = r.shipper.repository.Point(t.Context(), vmID, epoch)
	if err != nil || point.Stored() != 0 {
		t.Errorf("%d bytes shipped for nothing, %v", point.Stored(), err)
	}
	r.verify(t)
}

// TestWalkGoesOn kills the sidecar in the middle of initial replication: what is
// durable is neither read nor shipped again.
func TestWalkGoesOn(t *testing.T) {
	const blocks = 400
	r := newRig(t, stateDir(t))
	r.filter.write(vmID, diskA, 0, noise(1, blocks*disk.BlockSize))
	r.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Nth: 40, Within: ".seg"})
	err := r.settle(t.Context())
	if !errors.Is(err, blobstoretest.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	durable := 0
	for _, name := range r.memory.names("") {
		if filepath.Ext(name) == ".seg" {
			durable++
		}
	}
	r.store.Heal()
	r.boot(t)
	r.filter.reads = 0
	r.mustSettle(t)
	per := smallSizes().segmentBytes / disk.BlockSize
	left := (blocks - int64(durable-3)*per) * disk.BlockSize
	if durable < 30 || r.filter.reads > left {
		t.Errorf("%d segments were durable; then %d bytes were read, %d were left", durable, r.filter.reads, left)
	}
	point, err := r.shipper.repository.Newest(t.Context(), vmID)
	if err != nil {
		t.Fatal(err)
	}
	if d := point.Disk(diskA); d.Blocks != blocks+blocks && d.Blocks > 2*blocks {
		t.Errorf("%d blocks in the manifest", d.Blocks)
	}
	r.verify(t)
}

func TestContainerThatLostPoints(t *testing.T) {
	for _, dropSettings := range []bool{false, true} {
		r := newRig(t, stateDir(t))
		r.story(t, func() { r.mustSettle(t) })
		points, err := r.shipper.repository.Epochs(t.Context(), vmID)
		if err != nil {
			t.Fatal(err)
		}
		for _, epoch := range points[len(points)-2:] {
			if err := r.memory.Delete(t.Context(), replica.PointBlob(vmID, epoch)); err != nil {
				t.Fatal(err)
			}
		}
		if dropSettings { // the tables know it as well
			if err := os.Remove(filepath.Join(r.state, "vms", vmID, "settings.json")); err != nil {
				t.Fatal(err)
			}
		}
		r.boot(t)
		r.filter.write(vmID, diskA, 0, noise(9, disk.BlockSize))
		r.rollOver(t)
		r.mustSettle(t)
		vm, _ := r.filter.VM(t.Context(), vmID)
		if vm.Walk.Number != 3 || vm.Walk.Required {
			t.Errorf("settings lost: %v: walk %+v, want the third one finished", dropSettings, vm.Walk)
		}
		r.verify(t)
	}
}

func TestForeignHistoryIsNotOverwritten(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.story(t, func() { r.mustSettle(t) })
	epoch := r.rollOver(t)
	foreign := *r.shipper.newest.Manifest
	foreign.Epoch, foreign.Predecessor = epoch, r.shipper.newest.Link()
	foreign.Walk = 0
	foreign.Writer = replica.NewID()
	foreign.Disks = append([]replica.PointDisk{}, foreign.Disks...)
	for i := range foreign.Disks {
		foreign.Disks[i].Segments, foreign.Disks[i].Blocks = nil, 0
	}
	foreign.Time = foreign.Time.Add(1)
	if _, err := r.shipper.repository.Commit(t.Context(), &foreign); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(r.memory.blobs[replica.PointBlob(vmID, epoch)])
	err := r.settle(t.Context())
	if c, e := classify(t.Context(), err); c != unrecoverable || e.Code != api.CodeDivergence || e.Hint == "" {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, r.memory.blobs[replica.PointBlob(vmID, epoch)]) {
		t.Error("the foreign manifest was changed")
	}
	// A point that the filter has not reached.
	foreign.Epoch, foreign.Predecessor.Epoch = epoch+5, epoch
	if _, err := r.shipper.repository.Commit(t.Context(), &foreign); err != nil {
		t.Fatal(err)
	}
	r.boot(t)
	if err := r.settle(t.Context()); !errors.Is(err, errDiverged) {
		t.Errorf("a container ahead of the filter: %v", err)
	}
}

// TestHeldDiskIsNotWalked: while a disk may change unseen, a walk would be in
// vain.
func TestHeldDiskIsNotWalked(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.fill()
	r.mustSettle(t)
	hold := func(by string) {
		r.filter.mu.Lock()
		defer r.filter.mu.Unlock()
		r.filter.vms[vmID].Held = by
	}
	r.filter.loseLog(vmID)
	hold("somebody has it open")
	walks := r.events.walks
	_, err := r.shipper.step(t.Context())
	if c, _ := classify(t.Context(), err); !errors.Is(err, tracker.ErrWalkRequired) || c != lookAgain || r.events.walks != walks {
		t.Fatalf("a step while a disk is held: %v, %d walks", err, r.events.walks-walks)
	}
	hold("")
	r.mustSettle(t)
	if r.verify(t) == 0 || r.events.walks == walks {
		t.Error("it was not walked when it was closed")
	}
}

func TestRenamedDiskGetsANewDescription(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.fill()
	r.mustSettle(t)
	r.filter.rename(vmID, 1, "web/new name.img")
	epoch := r.rollOver(t)
	r.mustSettle(t)
	point, err := r.shipper.repository.Point(t.Context(), vmID, epoch)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := r.shipper.repository.NewestVM(t.Context(), vmID)
	if err != nil {
		t.Fatal(err)
	}
	if point.Generation != 2 || vm.Generation != 2 || vm.Disks[1].Path != "web/new name.img" || point.Disks[1].Path != "web/new name.img" {
		t.Errorf("point %+v, VM %+v", point.Manifest, vm)
	}
	r.verify(t)
}
