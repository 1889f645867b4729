package tracker

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWritesFail: what the disk file refuses, and how much of it, is what the
// guest is told, whether the change log and the before-images can be written
// meanwhile or not. Nothing that got through is missing afterwards, and what
// was sealed before is read as it was, or not at all.
func TestWritesFail(t *testing.T) {
	nothing := func(err error) func(int) (int, error) { return func(int) (int, error) { return 0, err } }
	half := func(err error) func(int) (int, error) { return func(n int) (int, error) { return n / 2, err } }
	onDisk := map[string]func(int) (int, error){
		"nothing is wrong": nil, "EIO": nothing(unix.EIO), "ENOSPC": nothing(unix.ENOSPC), "EIO half way": half(unix.EIO), "ENOSPC half way": half(unix.ENOSPC),
		"EIO at the end": func(n int) (int, error) { return n, unix.EIO },
	}
	inLog := map[string]func(uint64) error{
		"log whole": nil, "no log": func(uint64) error { return unix.EIO },
		"no before-images": func(reserve uint64) error {
			if reserve == imageReserve {
				return unix.EIO
			}
			return nil
		},
	}
	for disk, broken := range onDisk {
		for log, room := range inLog {
			t.Run(disk+", "+log, func(t *testing.T) { failWrites(t, broken, room) })
		}
	}
}

func failWrites(t *testing.T, broken func(int) (int, error), room func(uint64) error) {
	h := startHost(t, t.TempDir(), 8<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, 3<<20), 1000))
	sealed := rollover(t, h)
	was := content(t, h.disks[0])

	h.fs.broken = broken
	h.setRoom(room)
	var want error
	if broken != nil {
		_, want = broken(0)
	}
	told := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: the guest is told %v instead of %v", what, err, want)
		}
	}
	told("overwrite", h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, 9000), 5000))
	told("write", h.fs.write(h.disks[0], bytes.Repeat([]byte{3}, 2<<20), 5<<20))
	told("growth", h.fs.write(h.disks[1], bytes.Repeat([]byte{4}, 9000), 1<<20+500))
	told("punch", h.fs.punch(h.disks[0], 2<<20, 1<<20))
	told("truncate", h.fs.truncate(h.disks[0], 7<<20))
	block := make([]byte, 4096)
	err := h.tracker.ReadSealed(t.Context(), testSpec.ID, sealed.Number, sealed.Disks[0].ID, block, 4096)
	if err == nil && !bytes.Equal(block, was[4096:8192]) || err != nil && !errors.Is(err, ErrEpochGone) {
		t.Errorf("a sealed block is read as what it was not, or: %v", err)
	}

	h.fs.broken = nil
	told("after all", func() error { want = nil; return h.fs.write(h.disks[0], []byte("again"), 6000) }())
	h.setRoom(nil)
	h.tracker.mendOnce()
	rollover(t, h)
	shipAll(t, h, replicas)
	for i := range replicas {
		if now := content(t, h.disks[i]); !bytes.Equal(replicas[i].bytes, now) {
			t.Errorf("disk %d differs, first at byte %d of %d", i, firstDifference(replicas[i].bytes, now), len(now))
		}
	}
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	if vm.Walk.Required || vm.LogFailed {
		t.Errorf("after the repair: %+v", vm)
	}
}

// TestSyncFails: when the file system below could not write what it had taken,
// that is told once, and afterwards it shows, some time, what was there before.
// No zone may cool as if all were durable; the disks are walked, and the walk
// finds what they really hold.
func TestSyncFails(t *testing.T) {
	h := startHost(t, t.TempDir(), 8<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("lost"), 0))
	sync := h.tracker.syncDisk
	h.tracker.syncDisk = func(*os.File) error {
		h.tracker.syncDisk = sync // the kernel does not say it again
		return unix.EIO
	}
	h.tracker.coolOnce() // looks what is active
	h.tracker.coolOnce()
	wantWalk(t, h, "input/output error")
	h.tracker.mendOnce()
	wantWalk(t, h, "input/output error")
	wantEvent(t, h, EventWalkRequired)
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("kept"), 0))
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
		t.Error("tracking does not go on")
	}

	h.tracker.syncDisk = func(*os.File) error { return unix.EIO }
	if err := h.tracker.Close(); !errors.Is(err, unix.EIO) {
		t.Errorf("the end of the tracker says %v", err)
	}
	h.reopen()
	wantWalk(t, h, "could not be written")
}
