package integration

import (
	"slices"
	"strings"
	"testing"
)

// A sidecar that is killed at any moment loses nothing and falsifies nothing:
// with recovery points under way to a real Azurite, with others cut and not
// begun, and while it takes up what the one before it left.
func TestSidecarKilled(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newAzureSite(t)
	o := newVM(t, s, newGuest(t, rng, slowPace), "--frequency", "15m")
	kills := rounds(30, 300)
	for range kills {
		for range 5 {
			o.guest.do(t, 1+rng.IntN(6))
			o.cut(t, false)
		}
		o.cut(t, true)
		// These are cut and not shipped, or about to be, when it dies.
		for range rng.IntN(3) {
			o.guest.do(t, 1+rng.IntN(6))
			o.cut(t, false)
		}
		o.guest.do(t, rng.IntN(40))
		s.sidecar.kill(t)
		o.guest.do(t, rng.IntN(40))
		s.upload(t, "--frequency", "15m")
		// A point that a sidecar makes when it starts is compared, too, if it
		// is made now.
		if rng.IntN(2) == 0 {
			o.during(t, func() { s.status(t) })
		}
	}
	o.guest.do(t, 50)
	o.cut(t, true) // whatever was pending is committed before it
	o.guest.end(t)
	var status vmStatus
	eventually(t, "nothing is pending any more", func() bool {
		status = s.status(t)
		return status.WaitingEpochs == 0
	})
	if status.State != "replicating" || status.Health != "Normal" {
		t.Errorf("after %d kills the VM is %+v", kills, status)
	}
	t.Logf("%d recovery points were given up", status.GivenUp)
	s.sidecar.stop(t)
	s.filter.stop(t)
	if compared, want := o.judge(t), kills*20/3; compared < want {
		t.Errorf("only %d recovery points were compared, not %d", compared, want)
	}
	o.newestIsLastHold(t)
	s.noWalkRequired(t)
}

// newestIsLastHold fails the test unless the newest recovery point is what the
// disks held last.
func (o *oracle) newestIsLastHold(t *testing.T) {
	t.Helper()
	points, last := o.site.points(t), o.holds[len(o.holds)-1]
	if newest := points[len(points)-1]; newest.Time.Before(last.from) || newest.Time.After(last.to) {
		t.Errorf("the newest recovery point is of %v, the guest was held from %v to %v", newest.Time, last.from, last.to)
	}
}

// noWalkRequired fails the test if a filter ever gave the change log up.
func (s *site) noWalkRequired(t *testing.T) {
	t.Helper()
	for _, p := range s.processes {
		i := slices.IndexFunc(p.lines(t), func(line string) bool { return strings.Contains(line, "code=walk-required") })
		if p.name == "filter" && i >= 0 {
			t.Errorf("the disks had to be compared with the replica: %s", p.lines(t)[i])
		}
	}
}
