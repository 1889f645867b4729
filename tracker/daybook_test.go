package tracker

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// openTestDaybook maps the daybook of a folder as a process that starts does.
func openTestDaybook(t testing.TB, dir string) (b *daybook, understood bool) {
	t.Helper()
	folder, err := os.OpenRoot(dir)
	check(t, err)
	defer folder.Close() //nolint:errcheck // only a directory descriptor
	b, understood, err = openDaybook(folder)
	check(t, err)
	t.Cleanup(func() { check(t, b.close()) })
	return b, understood
}

func regionsLeft(b *daybook) (all []uint64) {
	for n := range b.left {
		all = append(all, n.region)
	}
	return all
}

func mustNotBeFull(t testing.TB) func(entries) {
	return func(entries) { t.Fatalf("the daybook is full") }
}

// TestDaybook has processes die: what they entered and did not post is left to the
// next one, all but what was being written.
func TestDaybook(t *testing.T) {
	dir := t.TempDir()
	first, understood := openTestDaybook(t, dir)
	if !understood || len(regionsLeft(first)) != 0 {
		t.Fatalf("a new book is understood: %t, and has %d", understood, regionsLeft(first))
	}
	first.begin()
	x := touchEntry{disk: changelog.ID{7}, epoch: 8, region: 1, inDoubt: 1, saved: changelog.Bits{9}}
	first.enter(&x, mustNotBeFull(t))
	first.postBefore(first.given.Load(), func(entries) {})
	for r := uint64(2); r < 6; r++ {
		x.region = r
		first.enter(&x, mustNotBeFull(t))
	}
	first.ring[3].number.Store(0) // that of region 4: its writer dies
	first.given.Add(1)            // and another one

	second, understood := openTestDaybook(t, dir)
	if left := regionsLeft(second); !understood || len(left) != 3 || left[0] != 2 || left[1] != 3 || left[2] != 5 {
		t.Errorf("understood: %t; regions %d are left", understood, left)
	}
	for e := range second.left {
		if e.disk != x.disk || e.epoch != x.epoch || e.inDoubt != 1 || e.saved != x.saved {
			t.Errorf("the entry is %+v", e)
		}
	}
	second.begin()
	third, _ := openTestDaybook(t, dir)
	if left := regionsLeft(third); len(left) != 0 {
		t.Errorf("regions %d are left in a book that was emptied", left)
	}
	third.magic().Store(daybookMagic + 1)
	if _, understood := openTestDaybook(t, dir); understood {
		t.Error("another version is understood")
	}
}

// TestDaybookConcurrently has several write while others take, through many rounds
// of the ring: each entry comes out once, in its writer's order.
func TestDaybookConcurrently(t *testing.T) {
	const writers, each = 4, 16 * daybookCount
	b, _ := openTestDaybook(t, t.TempDir())
	b.begin()
	got := map[changelog.ID]uint64{}
	pass := func(all entries) {
		for e := range all {
			if e.region != got[e.disk] {
				t.Errorf("entry %d comes after %d", e.region, got[e.disk])
			}
			got[e.disk] = e.region + 1
		}
	}
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range uint64(each) {
				b.enter(&touchEntry{disk: changelog.ID{byte(w)}, region: i}, pass)
			}
		})
	}
	group.Wait()
	b.postBefore(b.given.Load(), pass)
	for w := range writers {
		if n := got[changelog.ID{byte(w)}]; n != each {
			t.Errorf("%d entries of writer %d came out, not %d", n, w, each)
		}
	}
}

// TestDaybookNotPosted kills the process before the change log has what was entered:
// the change is in the epoch, and what the sealed one had there is readable.
func TestDaybookNotPosted(t *testing.T) {
	h := startHost(t, t.TempDir(), 8*regionBytes, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte{1}, 0))
	sealed := rollover(t, h)
	check(t, h.fs.write(h.disks[0], []byte{9}, 7*regionBytes)) // makes its zone hot, with a commit
	h.tracker.postAll()
	h.tracker.daybook.asked.Store(true) // so nobody is asked to take any
	check(t, h.fs.write(h.disks[0], []byte{2}, 0))
	if h.tracker.daybook.given.Load() == h.tracker.daybook.posted.Load() {
		t.Fatal("nothing is in the daybook alone")
	}
	want := append([]byte{1}, content(t, h.disks[0])[1:]...)
	h.kill(nil)
	check(t, replicas[0].apply(h, sealed, 0, true))
	want[7*regionBytes] = 0
	if at := firstDifference(replicas[0].bytes, want); at < len(want) {
		t.Errorf("the sealed epoch differs at byte %d from what the disk held", at)
	}
	rollover(t, h)
	shipAll(t, h, replicas)
	if at := firstDifference(replicas[0].bytes, content(t, h.disks[0])); at < len(want) {
		t.Errorf("the next epoch differs from the disk at byte %d", at)
	}
}

// TestDaybookOfAnotherVersion: what the process before entered in a way that is not
// known here may be anything, so the disks are walked.
func TestDaybookOfAnotherVersion(t *testing.T) {
	h := startHost(t, t.TempDir(), 8*regionBytes, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.beforeReopen = func() {
		path := filepath.Join(h.dir, FolderName, "daybook")
		p, err := os.ReadFile(path)
		check(t, err)
		p[6]++
		check(t, os.WriteFile(path, p, 0o600))
	}
	h.kill(nil)
	vms, err := h.tracker.VMs(t.Context())
	check(t, err)
	if !vms[0].Walk.Required {
		t.Error("no walk is required")
	}
}

// TestLookAheadWhileBroken has a region made ready while the change log cannot be
// written: once it is repaired, the log has it, since a write there finds it
// ready and logs nothing.
func TestLookAheadWhileBroken(t *testing.T) {
	h := startHost(t, t.TempDir(), 8*regionBytes, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte{1}, 5*regionBytes)) // its zone is hot from here on
	h.setRoom(func(reserve uint64) error {
		if reserve == imageReserve {
			return nil
		}
		return errNoSpace
	})
	h.tracker.postAll()
	if h.tracker.commit(func(*changelog.Writes) {}) == nil {
		t.Fatal("the change log can be written")
	}
	h.tracker.logBroke(errNoSpace)
	d := h.fs.tracked(h.disks[0]).(*tracked)
	d.makeReady(4, 4)
	if !d.open().logged.get(disk.Block(4)) {
		t.Fatal("the region was not made ready")
	}
	h.setRoom(nil)
	h.tracker.mendOnce()
	if h.tracker.incomplete.Load() {
		t.Fatal("the change log is not repaired")
	}
	check(t, h.fs.write(h.disks[0], []byte{1}, 4*regionBytes))
	h.kill(nil)
	sealed := rollover(t, h)
	changed, err := h.tracker.Changed(t.Context(), testSpec.ID, sealed.Number, testSpec.Disks[0].ID)
	check(t, err)
	for _, x := range changed {
		if x.Start <= 4*regionBlocks && x.End() > 4*regionBlocks {
			return
		}
	}
	t.Errorf("%v changed, without the block that was written", changed)
}

// FuzzDaybook opens what anybody may have made of the file.
func FuzzDaybook(f *testing.F) {
	f.Add([]byte{}, uint64(0), uint64(1))
	f.Add(make([]byte, entrySize), uint64(5), uint64(6))
	f.Fuzz(func(t *testing.T, p []byte, taken, number uint64) {
		dir := t.TempDir()
		b, _ := openTestDaybook(t, dir)
		b.posted.Store(taken)
		at := daybookHeader + int(taken%daybookCount)*entrySize
		copy(b.memory[at:min(at+entrySize, daybookSize)], p)
		b.ring[taken%daybookCount].number.Store(number)
		again, _ := openTestDaybook(t, dir)
		for n := range again.left {
			if n.region >= uint64(regionOf(disk.BlockAt(MaxDiskSize))) {
				t.Errorf("region %d is beyond every disk", n.region)
			}
		}
		again.begin()
		for range again.left {
			t.Error("something is left in a book that was emptied")
		}
	})
}
