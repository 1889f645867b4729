package tracker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMakeRoom: before-images are given back at once, even when the change log
// cannot be written; their points are given up, and no change is.
func TestMakeRoom(t *testing.T) {
	for _, c := range []struct {
		name             string
		restarted, noLog bool
	}{{"at once", false, false}, {"saved by another process", true, false}, {"without a log", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			h := startHost(t, t.TempDir(), 8<<20, 1<<20)
			defer h.stop()
			protect(t, h)
			replicas := walked(t, h)
			all := func(b byte) { check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{b}, 4<<20), 1<<20)) }
			all(1)
			first := rollover(t, h)
			all(2)
			second := rollover(t, h)
			all(3)
			if c.restarted {
				h.restart()
			}
			if n := imageSpace(t, h); n < 8<<20 {
				t.Fatalf("before-images take only %d bytes", n)
			}
			if c.noLog {
				h.setRoom(func(uint64) error { return errInjected })
			}
			h.tracker.MakeRoom()
			if n := imageSpace(t, h); n > 64<<10 {
				t.Errorf("before-images still take %d bytes", n)
			}
			for _, e := range []Epoch{first, second} {
				err := h.tracker.ReadSealed(t.Context(), testSpec.ID, e.Number, e.Disks[0].ID, make([]byte, 4096), 1<<20)
				if !errors.Is(err, ErrEpochGone) {
					t.Errorf("epoch %d can still be read: %v", e.Number, err)
				}
			}
			all(4)
			h.setRoom(nil)
			wantEvent(t, h, EventMerged)
			rollover(t, h)
			shipAll(t, h, replicas)
			if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
				t.Fatal("a change is missing")
			}
			vm, err := h.tracker.VM(t.Context(), testSpec.ID)
			check(t, err)
			if vm.Walk.Required || vm.GivenUp != 2 || vm.BeforeImageBytes != 0 {
				t.Errorf("afterwards the VM is %+v", vm)
			}
		})
	}
}

// TestMakeRoomWithoutNeed: where there is nothing to give back, nothing is given
// up.
func TestMakeRoomWithoutNeed(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("sealed"), 0))
	rollover(t, h)
	h.tracker.MakeRoom()
	h.tracker.mendOnce()
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	if vm.GivenUp != 0 || len(vm.Sealed) != 1 {
		t.Fatalf("a point was given up: %+v", vm)
	}
}

// imageSpace is what the files of before-images take.
func imageSpace(t *testing.T, h *host) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, FolderName, "images", "*"))
	check(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		check(t, err)
		n += blocksOf(t, f)
		check(t, f.Close())
	}
	return n
}

// blocksOf is how many bytes of a file are allocated.
func blocksOf(t *testing.T, f *os.File) int64 {
	t.Helper()
	var s unix.Stat_t
	check(t, unix.Fstat(int(f.Fd()), &s))
	return s.Blocks * 512
}
