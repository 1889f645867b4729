package tracker

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// TestLookAhead: who writes a disk from end to end finds its next regions saved
// and logged, and no more than those; what was saved ahead is what the epoch
// before had there.
func TestLookAhead(t *testing.T) {
	const regions = 8
	h := startHost(t, t.TempDir(), regions*regionBytes, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	d := h.fs.tracked(h.disks[0]).(*tracked)
	old := bytes.Repeat([]byte{1}, regions*regionBytes)
	check(t, h.fs.write(h.disks[0], old, 0))
	sealed := rollover(t, h)

	const piece = 64 << 10
	for offset := int64(0); offset < 2*regionBytes; offset += piece {
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, piece), offset))
	}
	// The last piece was in region 1.
	for began := time.Now(); !slices.Equal(ready(d), []region{0, 1, 2, 3}); runtime.Gosched() {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("regions %d are ready, want two ahead of region 1", ready(d))
		}
	}
	if marked := d.open().marks.count(); marked != 2*regionBlocks {
		t.Errorf("%d blocks are marked, though %d were written", marked, 2*regionBlocks)
	}
	// Whoever jumps about has nothing done ahead.
	for _, r := range []int64{7, 5} {
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{3}, piece), r*regionBytes))
	}
	if all := ready(d); len(all) != 4 {
		t.Errorf("regions %d are ready after random writes", all)
	}

	check(t, replicas[0].apply(h, sealed, 0, true))
	if at := firstDifference(replicas[0].bytes, old); at < len(old) {
		t.Errorf("the sealed epoch differs at byte %d from what the disk held", at)
	}
	rollover(t, h)
	shipAll(t, h, replicas)
	if at := firstDifference(replicas[0].bytes, content(t, h.disks[0])); at < len(old) {
		t.Errorf("the next epoch differs from the disk at byte %d", at)
	}
}

// TestLookAheadInVain: what was made ready and then not written to is no change
// of the epoch, for the process that sealed it and for the next one.
func TestLookAheadInVain(t *testing.T) {
	h := startHost(t, t.TempDir(), 8*regionBytes, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.fs.tracked(h.disks[0]).(*tracked).makeReady(2, 5)
	check(t, h.fs.write(h.disks[0], []byte{1}, 0))
	sealed := rollover(t, h)
	for _, end := range []func(){func() {}, func() { h.kill(nil) }, h.restart} {
		end()
		changed, err := h.tracker.Changed(t.Context(), testSpec.ID, sealed.Number, testSpec.Disks[0].ID)
		check(t, err)
		if changed.Blocks() != 1 {
			t.Fatalf("%d blocks changed, though 1 was written", changed.Blocks())
		}
	}
}

// TestLookAheadCostsNoPoint: where space for before-images is short, nothing is
// done ahead, and sealed epochs stay.
func TestLookAheadCostsNoPoint(t *testing.T) {
	full := func(reserve uint64) error {
		if reserve == imageReserve {
			return errNoSpace
		}
		return nil
	}
	for name, shorten := range map[string]func(h *host, v *vm){
		"file system": func(h *host, _ *vm) { h.setRoom(full) },
		"bound":       func(_ *host, v *vm) { v.imageLimit.Store(regionBytes) },
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, t.TempDir(), 8*regionBytes, 1<<20)
			defer h.stop()
			protect(t, h)
			walked(t, h)
			check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, 8*regionBytes), 0))
			sealed := rollover(t, h)
			d := h.fs.tracked(h.disks[0]).(*tracked)
			h.tracker.mending.Lock() // or the bound would be set anew
			shorten(h, d.vm)
			d.makeReady(2, 3)
			h.tracker.mending.Unlock()
			h.setRoom(nil)
			if all := ready(d); len(all) > 0 {
				t.Errorf("regions %d were made ready", all)
			}
			if lost := d.vm.lostThrough.Load(); lost >= sealed.Number {
				t.Errorf("epoch %d was given up", lost)
			}
		})
	}
}

// TestLookAheadOfNobody: what was asked for when the VM ceases to be protected
// is not done any more.
func TestLookAheadOfNobody(t *testing.T) {
	h := startHost(t, t.TempDir(), 8*regionBytes, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	d := h.fs.tracked(h.disks[0]).(*tracked)
	check(t, h.tracker.Unprotect(t.Context(), testSpec.ID))
	d.makeReady(0, 7)
	if all := ready(d); len(all) > 0 {
		t.Errorf("regions %d of a disk that nobody tracks were made ready", all)
	}
}

// ready tells which regions of a disk are logged in the open epoch, with all
// their blocks saved.
func ready(d *tracked) (all []region) {
	d.vm.mu.Lock()
	defer d.vm.mu.Unlock()
	open := d.open()
	for r := range region(d.size.Load() / regionBytes) {
		if open.logged.get(disk.Block(r)) && open.shots.Load().saved.region(r) == changelog.AllBits() {
			all = append(all, r)
		}
	}
	return all
}
