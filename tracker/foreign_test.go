package tracker

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

const unseen = "other than through the mount"

// wantRefused fails the test unless a rollover is refused for a walk.
func wantRefused(t *testing.T, h *host, walk uint64) {
	t.Helper()
	if _, err := h.tracker.Rollover(t.Context(), testSpec.ID, walk); !errors.Is(err, ErrWalkRequired) {
		t.Fatalf("a rollover while a disk may have changed unseen: %v", err)
	}
}

// TestForeignWriter: from the moment in which somebody opens a disk other than
// through the mount, sealed epochs are given up, and none is sealed, for a walk
// or not, before he has closed it; what he wrote takes a walk that begins after.
func TestForeignWriter(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[1], bytes.Repeat([]byte{1}, 5000), 0))
	sealed := rollover(t, h)

	h.fs.hold(h.disks[1], true)
	_, err := h.disks[1].WriteAt([]byte("unseen"), 0)
	check(t, err)
	p := make([]byte, 4096)
	if err := h.tracker.ReadSealed(t.Context(), testSpec.ID, sealed.Number, sealed.Disks[1].ID, p, 0); !errors.Is(err, ErrEpochGone) {
		t.Fatalf("a sealed epoch can be read: %v, %.6q", err, p)
	}
	vm := wantWalk(t, h, unseen)
	if !strings.Contains(vm.Held, "disk1.img") || len(vm.Sealed) != 0 {
		t.Fatalf("while it is held: %+v", vm)
	}
	wantEvent(t, h, EventForeignWriter)
	wantRefused(t, h, 0)
	wantRefused(t, h, wantWalk(t, h, unseen).Walk.Number)

	before := wantWalk(t, h, unseen).Walk.Number
	h.fs.hold(h.disks[1], false)
	wantRefused(t, h, before) // it was walked while it changed
	vm = wantWalk(t, h, unseen)
	if vm.Held != "" || vm.Walk.Number <= before {
		t.Fatalf("when it was closed: %+v", vm)
	}
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[1], []byte("seen"), 4096))
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[1].bytes, content(t, h.disks[1])) {
		t.Fatal("tracking does not go on")
	}
}

// TestOpenedBeforeTheInstant: whoever opens a disk while it is rolled over makes
// no point of it.
func TestOpenedBeforeTheInstant(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.tracker.cfg.FileSystem = &lateHolder{fakeFS: h.fs, hold: func() { h.fs.hold(h.disks[0], true) }}
	wantRefused(t, h, 0)
	if vm := wantWalk(t, h, unseen); len(vm.Sealed) != 0 {
		t.Fatalf("epochs are offered: %+v", vm.Sealed)
	}
	h.fs.hold(h.disks[0], false)
}

// lateHolder opens a disk when it was looked at for the first time.
type lateHolder struct {
	*fakeFS
	hold func()
}

func (l *lateHolder) Look() {
	l.fakeFS.Look()
	if hold := l.hold; hold != nil {
		l.hold = nil
		hold()
	}
}

// TestKilledInDoubt: the filter dies after it heard of a foreign writer and
// before it required a walk for that, or could write anything; the next one
// knows.
func TestKilledInDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		closed, full bool
		reason       string
	}{
		"held":          {reason: unseen},
		"closed":        {closed: true, reason: unseen},
		"log not there": {closed: true, full: true, reason: "could not be written"},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, t.TempDir(), 1<<20, 1<<20)
			defer h.stop()
			protect(t, h)
			walked(t, h)
			v, err := h.tracker.locked(testSpec.ID) // so nothing is settled
			check(t, err)
			if c.full {
				h.setRoom(func(uint64) error { return errInjected })
			}
			h.fs.hold(h.disks[0], true)
			if c.closed {
				h.fs.hold(h.disks[0], false)
			}
			h.kill(v.mu.Unlock)
			vm := wantWalk(t, h, c.reason)
			if c.closed {
				if vm.Held != "" {
					t.Fatalf("held by nobody: %s", vm.Held)
				}
				endWalk(t, h)
				h.restart() // and nothing of it is left
				if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || vm.Walk.Required {
					t.Fatalf("after the walk: %+v, %v", vm.Walk, err)
				}
				return
			}
			if vm.Held == "" {
				t.Fatal("it does not tell that the disk is held")
			}
			wantRefused(t, h, vm.Walk.Number)
			h.fs.hold(h.disks[0], false)
			wantRefused(t, h, vm.Walk.Number)
			if after := wantWalk(t, h, ""); after.Held != "" || after.Walk.Number <= vm.Walk.Number {
				t.Fatalf("when it was closed: %+v", after)
			}
			endWalk(t, h)
		})
	}
}

// TestKilledWhileHeld: a walk that was required while a disk was held is not
// the one that is required after it.
func TestKilledWhileHeld(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.fs.hold(h.disks[0], true)
	wantRefused(t, h, 0)
	first := wantWalk(t, h, unseen).Walk.Number
	h.kill(nil)
	second := wantWalk(t, h, "").Walk.Number
	h.beforeReopen = func() { h.fs.held[inodeOf(h.disks[0])] = false } // closed while no filter was there
	h.kill(nil)
	third := wantWalk(t, h, "").Walk.Number
	if second <= first || third <= second {
		t.Fatalf("walks %d, %d, %d: one is to be closed with what was walked before", first, second, third)
	}
}

// TestResizedUnseen: truncate opens no file, so it is found by the size.
func TestResizedUnseen(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.disks[0].Truncate(5000))
	wantRefused(t, h, 0)
	wantEvent(t, h, EventWalkRequired)
	wantWalk(t, h, "has 5000")
	endWalk(t, h)
}

// TestPowerLostInDoubt: no hot zone tells of what was changed unseen, so the doubt
// has to outlive the host as soon as there is one.
func TestPowerLostInDoubt(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	p := newPower(h)
	protect(t, h)
	walked(t, h)
	h.tracker.syncDisk = func(*os.File) error { return errInjected } // so no walk can be required
	h.fs.hold(h.disks[0], true)
	_, err := h.disks[0].WriteAt([]byte("unseen"), 0)
	check(t, err)
	h.fs.hold(h.disks[0], false)
	h.fs.Look()
	p.cut(false, func() bool { return true })
	wantWalk(t, h, unseen)
}
