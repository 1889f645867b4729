package integration

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Sizes of the disks that the guests change.
const (
	rootSize = 12 << 20
	dataSize = 8 << 20
)

// newGuest returns what starts a guest once its disks are there.
func newGuest(t *testing.T, rng *rand.Rand, pace time.Duration) func(paths ...string) *guest {
	return func(paths ...string) *guest {
		t.Helper()
		return startGuest(t, rng, pace, dataSize, paths...)
	}
}

// newVM makes two disks on a mounted site, protects them while a guest changes
// them, and returns what knows of them.
func newVM(t *testing.T, s *site, g func(paths ...string) *guest, flags ...string) *oracle {
	t.Helper()
	disks := []string{"root.img", "data.vhd"}
	s.makeDisk(t, disks[0], rootSize)
	s.makeDisk(t, disks[1], dataSize)
	s.mount(t)
	s.upload(t, flags...)
	o := &oracle{site: s, disks: disks, guest: g(s.disk(disks[0]), s.disk(disks[1]))}
	o.guest.do(t, 20)
	s.protect(t, disks...)
	return o
}

// Every recovery point of two disks is, byte for byte, what the disks held at its
// instant: cut one by one, and cut so fast that many wait to be shipped while
// the guest overwrites what they hold.
func TestRecoveryPoints(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	o := newVM(t, s, newGuest(t, rng, pace), "--frequency", "15m")
	want := rounds(200, 2000)
	for len(o.holds) < want+want/20 {
		for range rng.IntN(10) {
			o.guest.do(t, 1+rng.IntN(12))
			o.cut(t, false)
		}
		o.guest.do(t, 1+rng.IntN(12))
		o.cut(t, true)
	}

	// Points that the sidecar makes by itself meanwhile.
	s.sidecar.stop(t)
	s.upload(t, "--frequency", "1s")
	o.guest.do(t, 1000)
	o.cut(t, true)

	o.guest.end(t)
	s.sidecar.stop(t)
	s.filter.stop(t)
	if compared := o.judge(t); compared < want {
		t.Errorf("only %d recovery points were compared, not %d", compared, want)
	}
	for _, d := range o.guest.disks {
		t.Logf("%s: %d operations: %v", d.path, d.count, d.said)
	}
}
