package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// Five hundred protected disks in a folder, 64 of them written to, cost the
// guests no more than eight: the same eight writers, with as many blocks to
// write to, wait as long for 4 KiB; and a disk that is idle takes next to no
// memory, no descriptor but its own, and no goroutine.
func TestManyDisks(t *testing.T) {
	const (
		writers   = 8
		slack     = 1.5      // of the median in the best of the rounds
		tailSlack = 3        // of the 99th percentile likewise
		perIdle   = 96 << 10 // bytes of memory
	)
	few := newHerd(t, 1, 8, 8)
	many := newHerd(t, 50, 10, 64)
	var medians, tails []float64
	for round := range rounds(5, 40) {
		a, b := few.write(t, writers, round), many.write(t, writers, round)
		medians = append(medians, float64(b.median)/float64(a.median))
		tails = append(tails, float64(b.tail)/float64(a.tail))
		t.Logf("round %d: 8 disks %v; 500 disks %v", round, a, b)
	}
	if best := slices.Min(medians); best > slack {
		t.Errorf("among 500 disks a write takes at least %.2f times as long as among 8 at the median", best)
	}
	if best := slices.Min(tails); best > tailSlack {
		t.Errorf("among 500 disks a write takes at least %.2f times as long as among 8 at the 99th percentile", best)
	}
	idle := int64(len(many.disks) - len(few.disks))
	growth := (many.site.filter.resident(t) - few.site.filter.resident(t)) / idle
	descriptors := int64(many.site.filter.descriptors(t)-few.site.filter.descriptors(t)) / idle
	threads := many.site.filter.procField(t, "status", "Threads")
	t.Logf("resident: %d KiB with 8 disks, %d KiB with 500: %d bytes a disk more; %d descriptors a disk; %d threads",
		few.site.filter.resident(t)>>10, many.site.filter.resident(t)>>10, growth, descriptors, threads)
	if growth > perIdle {
		t.Errorf("each disk takes %d bytes of memory, more than %d", growth, perIdle)
	}
	if descriptors > 2 {
		t.Errorf("each disk takes %d descriptors", descriptors)
	}
}

// herdBytes is what the writers write to on all busy disks together.
const herdBytes = 64 << 20

// herd is many disks of one folder, protected without a sidecar.
type herd struct {
	site   *site
	filter *control.Client
	vms    []string // their IDs; those with busy disks first
	disks  []string // their names, the busy ones first
	busy   []*os.File
}

// newHerd mounts a folder with so many VMs of so many disks, and opens the
// first of them.
func newHerd(t *testing.T, vms, disksOfEach, busy int) *herd {
	t.Helper()
	h := &herd{site: newSite(t)}
	h.site.program = plain
	var specs []tracker.Spec
	for v := range vms {
		spec := tracker.Spec{ID: fmt.Sprintf("%032x", 1+v), Name: fmt.Sprintf("vm%d", v)}
		for range disksOfEach {
			n := len(h.disks)
			name := fmt.Sprintf("disk%03d.img", n)
			h.site.makeDisk(t, name, herdBytes)
			h.disks = append(h.disks, name)
			spec.Disks = append(spec.Disks, tracker.DiskSpec{ID: fmt.Sprintf("%032x", 1<<16+n), Path: name})
		}
		specs = append(specs, spec)
		h.vms = append(h.vms, spec.ID)
	}
	h.site.mount(t)
	h.filter = control.NewClient(control.SocketPath(filepath.Join(h.site.dir, "run"), h.site.mountpoint))
	begun := time.Now()
	for _, spec := range specs {
		_, err := h.filter.Protect(t.Context(), spec)
		must(t, err)
	}
	t.Logf("%d disks protected in %v", len(h.disks), time.Since(begun).Round(time.Millisecond))
	for _, name := range h.disks[:busy] {
		f, err := os.OpenFile(h.site.disk(name), os.O_RDWR, 0)
		must(t, err)
		h.busy = append(h.busy, f)
	}
	t.Cleanup(func() {
		for _, f := range h.busy {
			must(t, f.Close())
		}
		h.filter.Close()
	})
	return h
}

// latencies are those of the writes of one round.
type latencies struct {
	writes       int
	median, tail time.Duration // tail is the 99th percentile
	rollover     time.Duration // the longest of all VMs'
}

func (l latencies) String() string {
	return fmt.Sprintf("%d writes, median %v, p99 %v, rollover at most %v", l.writes, l.median, l.tail, l.rollover)
}

// write has so many writers write random blocks of 4 KiB for a while, each in
// turn to the busy disks that are its own, and then ends the epochs of all VMs.
func (h *herd) write(t *testing.T, writers, round int) (l latencies) {
	t.Helper()
	const writesOfEach = 3000
	blocks := int64(herdBytes/len(h.busy)) / disk.BlockSize
	took := make([][]time.Duration, writers)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(round), uint64(w)))
			p := randomBytes(rng, disk.BlockSize)
			for i := range writesOfEach {
				f := h.busy[(w+i*writers)%len(h.busy)]
				at := rng.Int64N(blocks) * disk.BlockSize
				began := time.Now()
				if _, err := f.WriteAt(p, at); err != nil {
					t.Error(err)
					return
				}
				took[w] = append(took[w], time.Since(began))
			}
		})
	}
	all.Wait()
	for _, id := range h.vms {
		began := time.Now()
		state, err := h.filter.VM(t.Context(), id)
		must(t, err)
		walk := uint64(0)
		if state.Walk.Required {
			walk = state.Walk.Number
		}
		e, err := h.filter.Rollover(t.Context(), id, walk)
		must(t, err)
		l.rollover = max(l.rollover, time.Since(began))
		must(t, h.filter.Acknowledge(t.Context(), id, e.Number, walk))
	}
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	l.writes = len(sorted)
	l.median, l.tail = sorted[len(sorted)/2], sorted[len(sorted)*99/100]
	return l
}
