package integration

import (
	"testing"
)

// A filter that is killed at any moment, under a guest that writes and with
// epochs that wait to be shipped, loses nothing and falsifies nothing. The disk
// files below the mount are the truth then; the changes are known, so that the
// disks need not be compared with the replica. The sidecar stays up.
func TestFilterKilled(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newAzureSite(t)
	s.besideFolder(t)
	o := newVM(t, s, newGuest(t, rng, slowPace), "--frequency", "15m")
	kills := rounds(15, 150)
	for range kills {
		for range 13 + rng.IntN(3) {
			o.guest.do(t, 1+rng.IntN(6))
			o.cut(t, rng.IntN(6) == 0)
		}
		o.guest.do(t, rng.IntN(30))
		s.filter.kill(t)
		o.guest.fell()
		s.mount(t)
		o.guest.revive(t)
		s.awaitReplicating(t)
	}
	o.survived(t, kills*40/3)
}

// survived ends a test in which filters were killed: at least so many recovery
// points are what the disks held, the newest is how they are now, and no walk
// was required.
func (o *oracle) survived(t *testing.T, points int) {
	t.Helper()
	s := o.site
	o.guest.do(t, 50)
	o.cut(t, true)
	o.guest.end(t)
	t.Logf("%d recovery points were given up", s.status(t).GivenUp)
	s.sidecar.stop(t)
	s.filter.stop(t)
	if compared := o.judge(t); compared < points {
		t.Errorf("only %d recovery points were compared, not %d", compared, points)
	}
	o.newestIsLastHold(t)
	s.noWalkRequired(t)
}

// awaitReplicating waits until the sidecar has found the filter again and is in
// the state that a VM has whose change log is whole.
func (s *site) awaitReplicating(t *testing.T) {
	t.Helper()
	eventually(t, "the sidecar finds the filter", func() bool {
		status := s.status(t)
		if status.says("filter-away") {
			return false
		}
		if status.State != "replicating" {
			t.Errorf("the VM is in the state %q: %v", status.State, status.Reasons)
		}
		return true
	})
}
