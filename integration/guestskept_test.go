package integration

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// trouble is what a guest's kernel says of a disk that fails it.
var trouble = regexp.MustCompile(`I/O error|EXT4-fs|JBD2|blocked for more than`)

// A Linux guest works on a protected disk while filters are killed under it: it
// sees no error, QEMU never stops it, and every recovery point that was cut
// meanwhile has what it had said to be durable.
func TestGuestsKept(t *testing.T) {
	t.Parallel()
	runs := [][2]string{{"disk.qcow2", "none:io_uring"}}
	if os.Getenv("LONG") != "" {
		runs = guestRuns()
	}
	for _, run := range runs {
		t.Run(strings.Join(run[:], ","), func(t *testing.T) {
			t.Parallel()
			testGuestKept(t, run[0], run[1])
		})
	}
}

func testGuestKept(t *testing.T, disk, mode string) {
	rng := randomness(t)
	s := newSite(t)
	s.kept = true
	s.besideFolder(t)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	m := newMachine(t, s, disk)
	s.protect(t, disk)
	k := newKiller(t, rng, s, 0)
	m.boot(t, mode, "BUSY=1") // so that it mostly waits for an answer when a filter dies
	events := m.watch(t)

	var proved []uint64
	for kills := asked(t, "KILLS", rounds(8, 40)); k.kills < kills; {
		m.work(t, 1+rng.IntN(100))
		if rng.IntN(3) == 0 {
			wait := rng.IntN(2) == 0
			if epoch := m.cut(t, wait); wait {
				proved = append(proved, epoch)
			}
		}
		k.kill(t, rng.IntN(4) == 0)
		events.runs(t)
	}
	m.work(t, 100)
	proved = append(proved, m.cut(t, true))
	events.runs(t)
	if trouble.Match(m.console(t)) {
		t.Errorf("the guest said:\n%s", tail(m.log))
	}
	m.kill(t)
	k.end(t)
	for _, epoch := range proved {
		m.proves(t, epoch)
	}
	m.restoresWhole(t)
	s.noWalkRequired(t)
}
