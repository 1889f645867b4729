package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// One upgrade after the other, under a user that writes and fio that verifies:
// no error, and a short pause each.
func TestUpgrades(t *testing.T) {
	s := newSite(t)
	s.program = plain
	u := s.mountKept(t)
	fio := s.fio(t, 1)
	s.awaitWrites(t, "fio-1.img")
	var waited, told []time.Duration
	n := rounds(5, 100)
	for i := range n {
		before := s.filterNow(t)
		waited = append(waited, u.through(t, func() {
			r := s.replaceBy(t, plain, s.mountpoint)
			if r.code != 0 {
				t.Fatalf("%v", r)
			}
			var pid int
			var pause string
			if _, err := fmt.Sscanf(r.stdout, "replaced: the filter is process %d now; requests waited for %s", &pid, &pause); err != nil {
				t.Fatalf("%v: %v", r, err)
			}
			d, err := time.ParseDuration(pause)
			must(t, err)
			told = append(told, d)
			if now := s.filterNow(t); now != pid || now == before {
				t.Errorf("the filter was %d, is said to be %d, and is %d", before, pid, now)
			}
		}))
		if i%2 == 0 { // with and without one that stands by
			s.awaitFilters(t, 2)
		}
	}
	s.endFIO(t, fio)
	logPauses(t, "upgrades, as a user waited", 50*time.Millisecond, waited)
	logPauses(t, "upgrades, as the keeper tells", 50*time.Millisecond, told)
	if died := s.filter.saidLines(t, "died"); len(died) > 0 {
		t.Errorf("the keeper took an upgrade for a death: %q", died)
	}
}

// Upgrades lose nothing and falsify nothing: every recovery point is what the
// disks held, and no walk is needed.
func TestUpgradesReplicated(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	s.kept = true
	s.besideFolder(t)
	o := newVM(t, s, newGuest(t, rng, slowPace), "--frequency", "15m")
	upgrades := rounds(3, 100)
	for range upgrades {
		for range 2 + rng.IntN(3) {
			o.guest.do(t, 1+rng.IntN(6))
			o.cut(t, rng.IntN(6) == 0)
		}
		o.guest.do(t, rng.IntN(30))
		if r := s.replaceBy(t, raced, s.folder); r.code != 0 {
			t.Errorf("%v", r)
		}
		o.guest.do(t, 1+rng.IntN(30))
		s.awaitReplicating(t)
	}
	o.survived(t, upgrades*2)
}

// An upgrade to a program that does not come up, for each reason, is told with
// its cause, and neither the user nor fio notices it. It can be done again.
func TestUpgradeFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.program = plain
	u := s.mountKept(t)
	fio := s.fio(t, 0)
	s.awaitWrites(t, "fio-0.img")
	faulty := faultyProgram(t)
	for _, c := range []struct {
		fault, why string
		same       bool // the filter goes on, not another one
	}{
		{"crash", "exit status 9", true},
		{"hang", "not prepared within", true},
		{"version", "not 99", true},
		{"late", "exit status 9", false},
		{"stop", "no sign of life", false},
	} {
		before := s.filterNow(t)
		s.setFault(t, c.fault)
		pause := u.through(t, func() {
			r := s.replaceBy(t, faulty, s.folder)
			if r.code != 4 || !strings.Contains(r.stderr, c.why) || !strings.Contains(r.stderr, "served as before") {
				t.Errorf("%s: %v", c.fault, r)
			}
		})
		t.Logf("an upgrade that failed by %q: the user waited for %v at most", c.fault, pause)
		if now := s.filterNow(t); (now == before) != c.same {
			t.Errorf("%s: the filter was %d and is %d", c.fault, before, now)
		}
		if exe := s.filterProgram(t); exe != plain {
			t.Errorf("%s: the filter is %s", c.fault, exe)
		}
	}
	// One that comes up, but does not last.
	s.setFault(t, "soon")
	if r := s.replaceBy(t, faulty, s.folder); r.code != 0 {
		t.Errorf("%v", r)
	}
	s.awaitSaid(t, "did not last", 1)
	u.goesOn(t)
	if exe := s.filterProgram(t); exe != plain {
		t.Errorf("the filter is %s", exe)
	}
	s.setFault(t, "")
	if r := s.replaceBy(t, faulty, s.folder); r.code != 0 {
		t.Errorf("%v", r)
	}
	if exe := s.filterProgram(t); exe != faulty {
		t.Errorf("the filter is %s", exe)
	}
	if r := s.replaceBy(t, plain, s.dir); r.code != 5 {
		t.Errorf("%v", r)
	}
	u.goesOn(t)
	s.endFIO(t, fio)
}

// SIGHUP has the filter replaced by what lies at the path of the program then.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.program = filepath.Join(s.dir, "lifeboat")
	install := func(program string) {
		data, err := os.ReadFile(program)
		must(t, err)
		must(t, os.WriteFile(s.program+".new", data, 0o700))
		must(t, os.Rename(s.program+".new", s.program))
	}
	install(plain)
	u := s.mountKept(t)
	for n := range 2 {
		install(plain)
		pause := u.through(t, func() {
			must(t, s.filter.cmd.Process.Signal(syscall.SIGHUP))
			s.awaitSaid(t, "the filter is replaced", n+1)
		})
		t.Logf("the user waited for %v at most", pause)
		if exe := s.filterProgram(t); exe != s.program { // and not "(deleted)"
			t.Errorf("the filter is %s", exe)
		}
	}
	must(t, os.Remove(s.program))
	must(t, s.filter.cmd.Process.Signal(syscall.SIGHUP))
	s.awaitSaid(t, "the filter is not replaced", 1)
	u.goesOn(t)
}

func (s *site) filterProgram(t *testing.T) string {
	t.Helper()
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.filterNow(t)))
	must(t, err)
	return exe
}
