package integration

import (
	"testing"
)

// Initial replication goes on where it was when either process is killed, with
// the guest writing all the while: its first recovery point and those after it
// are what the disks held.
func TestKilledAtFirst(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newAzureSite(t)
	const size = 64 << 20
	for _, name := range []string{"root.img", "data.vhd"} {
		s.makeDisk(t, name, size)
	}
	s.mount(t)
	for _, name := range []string{"root.img", "data.vhd"} {
		fill(t, rng, s.disk(name), size)
	}
	s.upload(t, "--frequency", "15m")
	o := &oracle{
		site: s, disks: []string{"root.img", "data.vhd"},
		// The closing epoch has to be shipped before the guest has overwritten
		// too much of what it holds; with the race detector that takes a while.
		guest: startGuest(t, rng, idlePace, size, s.disk("root.img"), s.disk("data.vhd")),
	}
	s.ok(t, nil, "protect", vm, s.disk("root.img"), s.disk("data.vhd"))
	interrupted := 0
	for i := range rounds(6, 60) {
		o.guest.do(t, 2+rng.IntN(12))
		if len(s.points(t)) == 0 {
			interrupted++
		}
		if i%3 == 2 {
			s.filter.kill(t)
			o.guest.fell()
			s.mount(t)
			o.guest.revive(t)
			continue
		}
		s.sidecar.kill(t)
		s.upload(t, "--frequency", "15m")
	}
	eventually(t, "initial replication is finished", func() bool { return s.status(t).State == "replicating" })
	o.cut(t, true)
	o.guest.do(t, 20)
	o.cut(t, true)
	o.guest.end(t)
	t.Logf("initial replication was interrupted %d times", interrupted)
	if compared := o.judge(t); compared < 2 || interrupted < 2 {
		t.Errorf("only %d recovery points were compared; initial replication was interrupted %d times", compared, interrupted)
	}
	o.newestIsLastHold(t)
}
