package tracker

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lifeboat/disk"
)

// killWith kills the tracker; early is called before the next one is open.
func (h *host) killWith(early func(*Early)) {
	h.early = early
	h.kill(nil)
	h.early = nil
}

// earlyDisk returns what stands for a disk that the tracker is not there for.
func (h *host) earlyDisk(f *os.File) *earlyDisk {
	d, ok := h.fs.tracked(f).(*earlyDisk)
	if !ok {
		h.t.Fatalf("nothing stands for %s", f.Name())
	}
	return d
}

// TestPassing: when a tracker died, its disks can be changed before there is
// another, exactly where that would not have anything to do.
func TestPassing(t *testing.T) {
	const (
		size    = 2 << 20
		zone2   = 2 * smallZone * disk.BlockSize
		region1 = regionBytes // in the same zone
	)
	write := func(t *testing.T, h *host, offset int64) {
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, disk.BlockSize), offset))
	}
	cool := func(_ *testing.T, h *host) {
		h.tracker.coolOnce()
		h.tracker.coolOnce()
	}
	for name, c := range map[string]struct {
		idle           bool // no epoch waits to be shipped
		before         func(t *testing.T, h *host)
		offset, length int64
		passes         bool
	}{
		"marked":             {false, nil, 8192, 4096, true},
		"a part of a block":  {false, nil, 8195, 100, true},
		"not marked":         {false, nil, 16384, 4096, false},
		"partly marked":      {false, nil, 8192, 4097, false},
		"nothing":            {false, nil, 8192, 0, false},
		"beyond the end":     {false, nil, size, 4096, false},
		"far beyond the end": {true, nil, 1<<63 - 4096, 4096, false},
		"marked in the epoch before": {
			false, func(t *testing.T, h *host) { rollover(t, h) }, 8192, 4096, false,
		},
		"marked again": {false, func(t *testing.T, h *host) {
			rollover(t, h)
			write(t, h, 8192)
		}, 8192, 4096, true},
		"marked, and cut off since": {true, func(t *testing.T, h *host) {
			check(t, h.fs.truncate(h.disks[0], 8192))
		}, 8192, 4096, false},
		"marked, and cut off in part": {true, func(t *testing.T, h *host) {
			check(t, h.fs.truncate(h.disks[0], 8192+100))
		}, 8192, 101, false},
		"in a zone that cooled": {true, cool, 8192, 4096, false},
		"in a zone that became hot again": {false, func(t *testing.T, h *host) {
			cool(t, h)
			write(t, h, 8192)
		}, 8192, 4096, true},
		"marked when the log could not be written": {false, func(t *testing.T, h *host) {
			write(t, h, zone2)
			h.setRoom(func(uint64) error { return errInjected })
			h.tracker.logBroke(errInjected)
			write(t, h, region1)
		}, region1, 4096, false},
		"marked before the log was repaired": {false, func(t *testing.T, h *host) {
			write(t, h, zone2)
			h.setRoom(func(uint64) error { return errInjected })
			h.tracker.logBroke(errInjected)
			write(t, h, region1)
			h.setRoom(nil)
			h.tracker.mendOnce()
		}, region1, 4096, true},
		"changed behind": {true, func(_ *testing.T, h *host) {
			later := time.Now().Add(time.Hour)
			h.beforeReopen = func() { check(h.t, os.Chtimes(h.disks[0].Name(), later, later)) }
		}, 8192, 4096, false},
		"marked by who died two deaths ago": {
			false, func(_ *testing.T, h *host) { h.kill(nil) }, 8192, 4096, true,
		},
		"marked by two who died": {false, func(t *testing.T, h *host) {
			h.kill(nil)
			write(t, h, 12288)
		}, 8192, 8192, true},
		"marked, and one died early since": {false, func(_ *testing.T, h *host) {
			h.beforeReopen = func() { h.dieEarly(func(*Early) {}) }
		}, 8192, 4096, true},
		"not marked, and nothing waits": {true, nil, 16384, 4096, true},
		"not marked, in a cold zone":    {true, nil, (2 * smallZone) * disk.BlockSize, 4096, false},
		"partly in a cold zone":         {true, nil, (smallZone - 1) * disk.BlockSize, 8192, false},
		"not marked, and something waits again": {
			true, func(t *testing.T, h *host) { rollover(t, h) }, 16384, 4096, false,
		},
		"not marked, and what waited was shipped": {false, func(t *testing.T, h *host) {
			vm, err := h.tracker.VM(t.Context(), testSpec.ID)
			check(t, err)
			check(t, h.tracker.Acknowledge(t.Context(), testSpec.ID, vm.Sealed[0].Number, 0))
		}, 16384, 4096, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, t.TempDir(), size, 1<<20)
			defer h.stop()
			protect(t, h)
			walked(t, h)
			if !c.idle {
				rollover(t, h)
			}
			write(t, h, 8192)
			if c.before != nil {
				c.before(t, h)
			}
			asked := false
			h.killWith(func(*Early) {
				asked = true
				if got := h.earlyDisk(h.disks[0]).passes(c.offset, c.length); got != c.passes {
					t.Errorf("it passes: %v", got)
				}
			})
			if !asked {
				t.Fatal("nothing stands for the disks")
			}
		})
	}
}

// TestEarlyFirstTouch: what is touched for the first time while no tracker is
// open, by processes of which the first die before theirs is, belongs to the
// epoch that is open then.
func TestEarlyFirstTouch(t *testing.T) {
	h := startHost(t, t.TempDir(), 2<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	for _, at := range []int64{0, 2<<20 - 1} { // zones become hot
		check(t, h.fs.write(h.disks[0], []byte("1"), at))
	}
	rollover(t, h)
	shipAll(t, h, replicas)
	touch := func(n int64) {
		if !h.earlyDisk(h.disks[0]).passes(n*disk.BlockSize, disk.BlockSize) {
			t.Errorf("block %d does not pass", n)
		}
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{byte(n)}, disk.BlockSize), n*disk.BlockSize))
	}
	h.beforeReopen = func() {
		h.dieEarly(func(*Early) { touch(5) })
		h.dieEarly(func(*Early) { touch(511) })
	}
	h.killWith(func(*Early) { touch(6) })
	if touched := h.left.Disks()[0].Touched(); len(touched) != 0 {
		t.Errorf("what the change log has is remembered: %v", touched)
	}
	h.kill(nil)
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
		t.Fatalf("the replica differs at byte %d", firstDifference(replicas[0].bytes, content(t, h.disks[0])))
	}
}

// TestCleanStopLetsNothingPass: then the disk has to be as it was when somebody
// looks.
func TestCleanStopLetsNothingPass(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("marked"), 0))
	check(t, h.tracker.Close())
	h.early = func(*Early) {
		if h.earlyDisk(h.disks[0]).passes(0, 6) {
			t.Error("it passes")
		}
	}
	h.reopen()
	if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || vm.Walk.Required {
		t.Fatalf("%+v, %v", vm.Walk, err)
	}
}

// TestPassesOfOthers: nothing stands for disks if somebody has tracked meanwhile
// who kept other passes, or none.
func TestPassesOfOthers(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	h.beforeReopen = func() { // other passes than those of the tracker that died
		was := h.passes
		h.passes = newPasses(t)
		h.dieEarly(func(*Early) { t.Error("passes that nobody completed are used") })
		cfg := h.config()
		cfg.Passes.SetComplete(true)
		cfg.Passes.Unmap()
		h.dieEarly(func(*Early) { t.Error("passes that the dead did not keep are used") })
		h.forgetPasses()
		h.passes = was
	}
	asked := false
	h.killWith(func(*Early) { asked = true })
	if !asked {
		t.Error("those that it kept are not")
	}
}

// TestForgo: when the tracker cannot be opened, changes go on, those that waited
// as well as new ones; when it can, the disks have to be walked, and what was
// sealed is given up.
func TestForgo(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	for n := range int64(4) {
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, 4096), n*4096))
	}
	rollover(t, h)
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, 4096), 0)) // has a before-image
	own := filepath.Join(h.dir, FolderName)
	late, durable := false, [][]byte(nil)
	h.killWith(func(e *Early) {
		log, aside := filepath.Join(own, "log"), filepath.Join(own, "aside")
		check(t, os.Rename(log, aside))
		check(t, os.WriteFile(log, nil, 0o600))
		waiting := make(chan error, 1)
		go func() { waiting <- h.fs.write(h.disks[0], bytes.Repeat([]byte{3}, 4096), 4096) }()
		cfg := h.config()
		cfg.Passes.Unmap()
		cfg.Passes, cfg.Early = h.left, e
		if failed, err := Open(cfg); err == nil {
			t.Fatal("it opens", failed.Close())
		}
		select {
		case <-waiting:
			t.Error("a change went on that had no pass")
		default:
		}
		check(t, e.Forgo())
		check(t, <-waiting)
		check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{4}, 4096), 1<<20)) // grows
		check(t, h.fs.truncate(h.disks[1], 5000))
		check(t, h.fs.punch(h.disks[0], 8192, 4096))
		images, err := os.ReadDir(filepath.Join(own, "images"))
		check(t, err)
		if len(images) != 0 {
			t.Errorf("before-images still take space: %v", images)
		}
		check(t, os.Remove(log))
		check(t, os.Rename(aside, log))
		h.onSyncDisk = func() { durable = [][]byte{content(t, h.disks[0]), content(t, h.disks[1])} }
		h.onSync = func() { // when a walk is required, and the disks are not attached
			if !late {
				late = true
				check(t, h.fs.write(h.disks[1], []byte("late"), 100))
			}
		}
	})
	h.syncing.Lock()
	h.onSync, h.onSyncDisk = nil, nil
	h.syncing.Unlock()
	if !late || !bytes.Equal(durable[1], content(t, h.disks[1])) {
		t.Error("a power cut could take back what was written untracked, and nobody would see it")
	}
	if vm := wantWalk(t, h, "could not be written"); len(vm.Sealed) != 0 {
		t.Fatalf("epochs are offered that may lack before-images: %+v", vm.Sealed)
	}
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("tracked"), 4096))
	rollover(t, h)
	shipAll(t, h, replicas)
	for i := range replicas {
		if !bytes.Equal(replicas[i].bytes, content(t, h.disks[i])) {
			t.Fatalf("disk %d: tracking does not go on", i)
		}
	}
}

// TestForgoneThenKilled: whoever comes next knows.
func TestForgoneThenKilled(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.beforeReopen = func() {
		h.dieEarly(func(e *Early) {
			check(t, e.Forgo())
			check(t, h.fs.write(h.disks[0], []byte("untracked"), 0))
		})
	}
	h.kill(nil)
	wantWalk(t, h, "could not be written")
}

// TestColdZoneThenPowerLost: what is changed in a cold zone before a tracker is
// there is found when a power cut takes it back after it was shipped.
func TestColdZoneThenPowerLost(t *testing.T) {
	h := startHost(t, t.TempDir(), 2<<20, 1<<20)
	defer h.stop()
	p := newPower(h)
	protect(t, h)
	replicas := walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("1"), 0))
	h.tracker.coolOnce()
	h.tracker.coolOnce()
	written := make(chan error, 1)
	h.killWith(func(*Early) {
		d, fs := h.earlyDisk(h.disks[0]), h.fs
		if d.passes(0, 1) { // so it is done before there is a tracker
			written <- fs.write(h.disks[0], []byte("2"), 0)
			return
		}
		go func() { written <- fs.write(h.disks[0], []byte("2"), 0) }()
	})
	check(t, <-written)
	rollover(t, h)
	shipAll(t, h, replicas)
	check(t, h.fs.write(h.disks[0], []byte("3"), 1<<20)) // another zone becomes hot, and the log is synced
	p.cut(false, func() bool { return false })
	if got := content(t, h.disks[0])[0]; got != '1' {
		t.Fatalf("the power cut took nothing back: %q", got)
	}
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
		t.Fatalf("the replica differs at byte %d", firstDifference(replicas[0].bytes, content(t, h.disks[0])))
	}
}

// TestEarlyHandsOver: writers go on while the tracker takes over, and what they
// did before, while and after it did is in the next epoch. The race detector is
// the judge of the rest.
func TestEarlyHandsOver(t *testing.T) {
	const blocks = 512
	h := startHost(t, t.TempDir(), blocks*disk.BlockSize, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	for range 5 {
		check(t, h.fs.write(h.disks[0], make([]byte, blocks/2*disk.BlockSize), 0))
		stop := make(chan struct{})
		var running sync.WaitGroup
		failed := make(chan error, 4)
		h.killWith(func(*Early) {
			for w := range byte(4) {
				running.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						p := bytes.Repeat([]byte{w}, disk.BlockSize)
						if err := h.fs.write(h.disks[0], p, rand.Int64N(blocks)*disk.BlockSize); err != nil {
							failed <- err
							return
						}
					}
				})
			}
		})
		rollover(t, h)
		close(stop)
		running.Wait()
		close(failed)
		check(t, <-failed)
		rollover(t, h)
		shipAll(t, h, replicas)
		if !bytes.Equal(replicas[0].bytes, content(t, h.disks[0])) {
			t.Fatalf("the replica differs at byte %d", firstDifference(replicas[0].bytes, content(t, h.disks[0])))
		}
	}
	if vm, err := h.tracker.VM(t.Context(), testSpec.ID); err != nil || vm.Walk.Required {
		t.Fatalf("%+v, %v", vm.Walk, err)
	}
}

// TestEarlyTells: what happened to a disk before its tracker was there is not
// forgotten.
func TestEarlyTells(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	h.killWith(func(*Early) {
		h.fs.hold(h.disks[0], true)
		h.fs.hold(h.disks[0], false)
		h.fs.Look()
	})
	wantWalk(t, h, unseen)

	d, next := &earlyDisk{decided: make(chan struct{})}, new(told)
	d.NameRemoved()
	d.decide(next)
	if next.removed != 1 {
		t.Errorf("the next one was told %d times of a name that was lost before", next.removed)
	}
	d.NameRemoved()
	if next.removed != 2 {
		t.Errorf("the next one was told %d times of two lost names", next.removed)
	}
}

// told is a disk that counts what it is told.
type told struct {
	untracked
	removed int
}

func (d *told) NameRemoved() { d.removed++ }

// TestEarlyAcrossDisks has guests copy from one disk to the other while no
// tracker is open: each change is under way on both, and waits for one.
func TestEarlyAcrossDisks(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	var guests sync.WaitGroup
	h.killWith(func(*Early) {
		var begun sync.WaitGroup
		for i := range 2 {
			from, to := h.fs.gate(inodeOf(h.disks[i])), h.earlyDisk(h.disks[1-i])
			begun.Add(1)
			guests.Go(func() {
				from.RLock()
				defer from.RUnlock()
				begun.Done()
				to.EndChange(to.BeginClear(0, 4096))
			})
		}
		begun.Wait()
	})
	guests.Wait()
}

// TestUnprotectedIsForgotten: what is not protected any more needs no passes,
// and nothing stands for it.
func TestUnprotectedIsForgotten(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	check(t, h.tracker.Unprotect(t.Context(), testSpec.ID))
	if disks := h.left.Disks(); len(disks) != 0 {
		t.Fatalf("%d disks are known", len(disks))
	}
	h.killWith(func(e *Early) {
		if len(e.disks) != 0 {
			t.Error("something stands for disks that are not protected")
		}
	})
	protect(t, h)
	if disks := h.left.Disks(); len(disks) != 2 {
		t.Fatalf("%d disks are known", len(disks))
	}
}

// TestFreeze: no rollover is under way, and none begins, until it thaws.
func TestFreeze(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.write(h.disks[0], []byte("tracked"), 0))
	thaw := h.tracker.Freeze()
	rolled := make(chan error, 1)
	go func() {
		_, err := h.tracker.Rollover(background, testSpec.ID, 0)
		rolled <- err
	}()
	check(t, h.fs.write(h.disks[0], []byte("while it is frozen"), 4096))
	select {
	case err := <-rolled:
		t.Error(errors.Join(errors.New("it rolled over"), err))
	default:
	}
	thaw()
	check(t, <-rolled)
}
