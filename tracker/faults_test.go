package tracker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// protect protects the VM of the tests.
func protect(t tb, h *host) VM {
	t.Helper()
	vm, err := h.tracker.Protect(background, testSpec)
	check(t, err)
	return vm
}

// walked ends the first walk; what a replica would hold is the disks.
func walked(t tb, h *host) []replicaDisk {
	t.Helper()
	replicas := []replicaDisk{{content(t, h.disks[0])}, {content(t, h.disks[1])}}
	endWalk(t, h)
	return replicas
}

// endWalk makes believe that the disks were walked.
func endWalk(t tb, h *host) {
	t.Helper()
	vm, err := h.tracker.VM(background, testSpec.ID)
	check(t, err)
	e, err := h.tracker.Rollover(background, testSpec.ID, vm.Walk.Number)
	check(t, err)
	check(t, h.tracker.Acknowledge(background, testSpec.ID, e.Number, vm.Walk.Number))
}

// shipAll ships all sealed epochs to the replicas.
func shipAll(t *testing.T, h *host, replicas []replicaDisk) {
	t.Helper()
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	for _, e := range vm.Sealed {
		for i := range replicas {
			check(t, replicas[i].apply(h, e, i, true))
		}
		check(t, h.tracker.Acknowledge(t.Context(), testSpec.ID, e.Number, 0))
	}
}

func rollover(t *testing.T, h *host) Epoch {
	t.Helper()
	e, err := h.tracker.Rollover(t.Context(), testSpec.ID, 0)
	check(t, err)
	return e
}

// wantEvent waits for an event.
func wantEvent(t *testing.T, h *host, code string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		events, err := h.tracker.Events(t.Context(), 0)
		check(t, err)
		for _, e := range events {
			if e.Code == code {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no event %s among %v", code, events)
		}
		h.tracker.mendOnce()
	}
}

var errInjected = errors.New("injected")

// TestLogCannotBeWritten: the guest's writes go on, no point is made meanwhile,
// and when the log can be written again nothing is missing.
func TestLogCannotBeWritten(t *testing.T) {
	h := startHost(t, t.TempDir(), 8<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, 5000), 100))
	rollover(t, h)

	h.setRoom(func(uint64) error { return errInjected })
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, 9000), 3<<20))
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{3}, 9000), 0)) // wants a before-image
	check(t, h.fs.truncate(h.disks[1], 5000))
	wantEvent(t, h, EventLogFailed)
	if _, err := h.tracker.Rollover(t.Context(), testSpec.ID, 0); err == nil {
		t.Fatal("a rollover without a log")
	}
	if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || !vm.LogFailed {
		t.Fatalf("it does not tell that the log failed: %+v, %v", vm, err)
	}
	h.setRoom(nil)
	h.tracker.mendOnce()
	rollover(t, h)
	shipAll(t, h, replicas)
	for i := range replicas {
		if !bytes.Equal(replicas[i].bytes, content(t, h.disks[i])) {
			t.Fatalf("disk %d differs", i)
		}
	}
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	if vm.Walk.Required || vm.GivenUp != 1 || vm.LogFailed {
		t.Fatalf("after the repair: %+v", vm)
	}
}

// TestKilledWhileLogIncomplete: what only memory knew is gone, so the disks
// have to be walked.
func TestKilledWhileLogIncomplete(t *testing.T) {
	h := startHost(t, t.TempDir(), 8<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.setRoom(func(uint64) error { return errInjected })
	check(t, h.fs.write(h.disks[0], []byte("unlogged"), 1<<20))
	h.kill(nil)
	wantWalk(t, h, "could not be written")
}

// TestBeforeImageFails: the points that need it are given up, the changes are
// not.
func TestBeforeImageFails(t *testing.T) {
	for _, killed := range []bool{false, true} {
		h := startHost(t, t.TempDir(), 8<<20, 1<<20)
		protect(t, h)
		replicas := walked(t, h)
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, 5000), 100))
		sealed := rollover(t, h)
		h.setRoom(func(reserve uint64) error {
			if reserve == imageReserve {
				return errInjected
			}
			return nil
		})
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, 10), 100))
		err := h.tracker.ReadSealed(t.Context(), testSpec.ID, sealed.Number, sealed.Disks[0].ID, make([]byte, 4096), 0)
		if !errors.Is(err, ErrEpochGone) {
			t.Fatalf("read of an epoch without its before-image: %v", err)
		}
		if killed {
			h.kill(nil)
		} else {
			wantEvent(t, h, EventMerged)
		}
		e := rollover(t, h)
		shipAll(t, h, replicas)
		if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
			t.Fatalf("killed %v: epoch %d does not have everything", killed, e.Number)
		}
		h.stop()
	}
}

// TestOlderEpochLost: when before-images of an epoch fail while the next one is
// being sealed, that one cannot take its blocks over: nobody saves them any more.
func TestOlderEpochLost(t *testing.T) {
	for _, killed := range []bool{false, true} {
		h := startHost(t, t.TempDir(), 8<<20, 1<<20)
		protect(t, h)
		replicas := walked(t, h)
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, 4096), 0))
		lost := rollover(t, h)
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, 4096), 4096))
		next := rollover(t, h)
		v, err := h.tracker.vm(testSpec.ID)
		check(t, err)
		v.loseSealed(v.disks[0], lost.Number, errInjected)
		before := content(t, h.disks[0])
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{3}, 4096), 0))
		if killed {
			h.kill(nil)
		} else {
			h.tracker.mendOnce()
		}
		if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || len(vm.Sealed) > 0 {
			check(t, err)
			check(t, replicas[0].apply(h, vm.Sealed[0], 0, true))
			t.Fatalf("killed %v: epoch %d of %d: is it what it was: %v",
				killed, vm.Sealed[0].Number, next.Number, bytes.Equal(replicas[0].bytes, before))
		}
		rollover(t, h)
		shipAll(t, h, replicas)
		if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
			t.Fatalf("killed %v: something is missing", killed)
		}
		h.stop()
	}
}

// TestImageBound: more before-images than the bound make the oldest epochs one.
func TestImageBound(t *testing.T) {
	const size = minImageLimit + 8<<20
	h := startHost(t, t.TempDir(), size, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	all := bytes.Repeat([]byte{1}, size)
	check(t, h.fs.write(h.disks[0], all, 0))
	rollover(t, h)
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, size), 0))
	wantEvent(t, h, EventMerged)
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	if vm.BeforeImageBytes > minImageLimit || len(vm.Sealed) != 0 {
		t.Fatalf("before-images take %d bytes with %d epochs sealed", vm.BeforeImageBytes, len(vm.Sealed))
	}
	files, err := os.ReadDir(filepath.Join(h.dir, FolderName, "images"))
	check(t, err)
	if len(files) != 0 {
		t.Fatalf("%d files of before-images are left", len(files))
	}
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
		t.Fatal("the merged epoch does not have everything")
	}
}

func wantWalk(t *testing.T, h *host, reason string) VM {
	t.Helper()
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	if !vm.Walk.Required || !strings.Contains(vm.Walk.Reason, reason) {
		t.Fatalf("walk required for %q: %+v", reason, vm.Walk)
	}
	return vm
}

// TestChangedBehind: a disk changed between two mounts is found, after a clean
// stop at once, after a kill when it happened later than the last sign of life.
func TestChangedBehind(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.restart()
	if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || vm.Walk.Required {
		t.Fatalf("nobody changed the disk: %+v %v", vm.Walk, err)
	}
	check(t, h.tracker.Close())
	_, err := h.disks[0].WriteAt([]byte("patched"), 4096)
	check(t, err)
	h.reopen()
	wantWalk(t, h, "while the filter was not mounted")
	walked(t, h)

	h.kill(nil)
	if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || vm.Walk.Required {
		t.Fatalf("nobody changed the disk: %+v %v", vm.Walk, err)
	}
	later := time.Now().Add(time.Hour)
	h.beforeReopen = func() { check(t, os.Chtimes(h.disks[1].Name(), later, later)) }
	h.kill(nil)
	wantWalk(t, h, "after the filter had been killed")
}

// TestUnprotectFails: a VM that may be found in the change log again is tracked
// as before.
func TestUnprotectFails(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	sync := h.tracker.syncLog
	h.tracker.syncLog = func() error { return errInjected }
	if err := h.tracker.Unprotect(t.Context(), testSpec.ID); !errors.Is(err, errInjected) {
		t.Fatalf("it is unprotected, and only in memory: %v", err)
	}
	h.tracker.syncLog = sync
	check(t, h.fs.write(h.disks[0], []byte("tracked"), 0))
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
		t.Fatal("its changes were not tracked")
	}
	check(t, h.tracker.Unprotect(t.Context(), testSpec.ID))
	h.kill(nil)
	if vms, err := h.tracker.VMs(t.Context()); err != nil || len(vms) != 0 {
		t.Fatalf("%+v, %v", vms, err)
	}
}

// TestTakeUpFails: a log that cannot be taken up keeps nobody from mounting;
// the points that waited are given up, and the disks are walked.
func TestTakeUpFails(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("waits"), 0))
	rollover(t, h)
	check(t, h.tracker.Close())
	_, err := h.disks[0].WriteAt([]byte("patched"), 4096) // wants a walk
	check(t, err)
	h.roomAtOpen = func(uint64) error { return errInjected }
	h.reopen()
	vm := wantWalk(t, h, "could not be taken up")
	if len(vm.Sealed) != 0 {
		t.Fatalf("epochs are offered: %+v", vm.Sealed)
	}
	if _, err := h.tracker.Rollover(t.Context(), testSpec.ID, vm.Walk.Number); err == nil {
		t.Fatal("a rollover without a log")
	}
	check(t, h.fs.write(h.disks[0], []byte("goes on"), 8192))
	h.setRoom(nil)
	h.tracker.mendOnce()
	if again := wantWalk(t, h, "could not be taken up"); again.Walk.Number <= vm.Walk.Number {
		t.Fatalf("walk %d follows walk %d", again.Walk.Number, vm.Walk.Number)
	}
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("tracked"), 0))
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
		t.Fatal("tracking does not go on")
	}
}
