package integration

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	// archiveSize is that of a disk with several zones, which is written to here
	// and there.
	archiveSize = 256 << 20
	// coolsWithin is longer than a zone stays hot that nobody writes to.
	coolsWithin = 70 * time.Second
	// coolEvery so many power cuts, one comes when zones have cooled.
	coolEvery = 20
)

// A power cut at a random moment, under a guest that changes its disks in every
// way, with recovery points being cut and shipped: what was committed stays, and
// every later recovery point is what the disks hold then. No cut makes a walk of
// the disks necessary.
func TestPowerCuts(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			t.Parallel()
			cutPower(t, fstype, asked(t, "POWERCUTS", rounds(3, 100)))
		})
	}
}

func cutPower(t *testing.T, fstype string, cuts int) {
	rng := randomness(t)
	s := newSite(t)
	p := newPower(t, s, fstype)
	s.besideFolder(t)
	disks := []string{"root.img", "data.img", "archive.img"}
	s.makeDisk(t, disks[0], rootSize)
	s.makeDisk(t, disks[1], dataSize)
	s.makeDisk(t, disks[2], archiveSize)
	s.mount(t)
	s.upload(t, "--frequency", "1s")
	o := &oracle{site: s, disks: disks, guest: startGuest(t, rng, pace, dataSize, s.disk(disks[0]), s.disk(disks[1]))}
	stop, others := make(chan struct{}), new(sync.WaitGroup)
	writer := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
	others.Go(func() { p.writeBack(writer, 20*time.Millisecond, stop) })
	t.Cleanup(others.Wait) // before the mounts are taken away
	t.Cleanup(func() { close(stop) })
	o.guest.do(t, 20)
	s.protect(t, disks...)

	begun := time.Now()
	for n := range cuts {
		for range rng.IntN(3) {
			o.guest.do(t, 1+rng.IntN(40))
			o.cut(t, rng.IntN(2) == 0)
		}
		if n%coolEvery == coolEvery/2 {
			o.rest()
		}
		newChange(rng, archiveSize, rng.IntN(4)).write(t, s.disk("archive.img"))
		o.guest.do(t, 1+rng.IntN(200))
		if rng.IntN(3) == 0 {
			o.flush(t, rng)
		}
		o.guest.do(t, 1+rng.IntN(20))
		p.cut(t, o.guest.fell)
		s.mount(t)
		s.upload(t, "--frequency", "1s")
		early := rng.IntN(2) == 0
		if early {
			o.guest.revive(t)
		}
		o.firstAfter(t, n)
		if !early {
			o.guest.revive(t)
		}
	}
	took := time.Since(begun)
	o.guest.end(t)
	s.sidecar.stop(t)
	s.filter.stop(t)
	compared := o.judge(t)
	if compared < cuts {
		t.Errorf("after %d power cuts only %d recovery points were compared", cuts, compared)
	}
	s.noWalkRequired(t)
	t.Logf("%d power cuts on %s in %v; in the median %d bytes were compared after one", cuts, fstype, took.Round(time.Millisecond), s.examined(t))
}

// firstAfter has a recovery point made as soon as there can be one.
func (o *oracle) firstAfter(t *testing.T, n int) {
	t.Helper()
	eventually(t, "the sidecar serves the VM again", func() bool { return !o.site.status(t).says("filter-away") })
	o.cut(t, true)
	if t.Failed() {
		t.Fatalf("after %d power cuts", n+1)
	}
}

// rest lets zones cool.
func (o *oracle) rest() {
	defer o.guest.hold()()
	<-time.After(coolsWithin)
}

// flush is the guest's: what was written to a disk before it is durable.
func (o *oracle) flush(t *testing.T, rng *rand.Rand) {
	t.Helper()
	f, err := os.OpenFile(o.site.disk(o.disks[rng.IntN(len(o.disks))]), os.O_RDWR, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

var hotBytes = regexp.MustCompile(`and (\d+) bytes in hot zones`)

// examined is how much, in the median, was compared after a power cut.
func (s *site) examined(t *testing.T) int {
	t.Helper()
	var all []int
	for _, p := range s.processes {
		for _, line := range p.lines(t) {
			if m := hotBytes.FindStringSubmatch(line); m != nil {
				n, err := strconv.Atoi(m[1])
				must(t, err)
				all = append(all, n)
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("no filter told of a power cut")
	}
	slices.Sort(all)
	return all[len(all)/2]
}
