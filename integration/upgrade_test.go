package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// An upgrade to a program that does not come up, for each reason, is told with
// its cause, and neither the user nor fio notices it. It can be done again.
func TestUpgradeFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.program = plain
	u := s.mountKept(t)
	fio := s.fio(t, 0)
	faulty := s.buildFaulty(t)
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

// setFault chooses what is wrong with the filters of a faulty program that are
// started from now on.
func (s *site) setFault(t *testing.T, fault string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(s.dir, "run", "fault"), []byte(fault), 0o600))
}

// The faults are put into the product's own source.
const (
	faultFunction = `package %s

import (
	"os"
	"path/filepath"
	"time"
)

func hasFault(fault string) bool {
	if os.Getenv("LIFEBOAT_TEST_FILTER") == "" && os.Getenv("LIFEBOAT_KEEPER_FD") == "" {
		return false
	}
	_ = os.Setenv("LIFEBOAT_TEST_FILTER", "1") // the other is taken away
	chosen, _ := os.ReadFile(filepath.Join(os.Getenv("LIFEBOAT_RUNTIME_DIR"), "fault"))
	return string(chosen) == fault
}

const aMoment = time.Second
`
	faultAtStart = `
func init() {
	if hasFault("crash") {
		os.Exit(9)
	}
	for hasFault("hang") {
		time.Sleep(aMoment)
	}
}
`
	faultVersion = `
var version = func() uint32 {
	if hasFault("version") {
		return 99
	}
	return %s
}()
`
	faultWhenToldTo = `
	if hasFault("late") {
		os.Exit(9)
	}
	if hasFault("stop") {
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	}
`
)

// buildFaulty builds the product with what setFault needs.
func (s *site) buildFaulty(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	must(t, err)
	overlay := map[string]string{}
	put := func(name, text string) {
		to := filepath.Join(s.dir, strings.ReplaceAll(name, "/", "-"))
		must(t, os.WriteFile(to, []byte(text), 0o600))
		overlay[filepath.Join(root, name)] = to
	}
	source := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		return string(text)
	}
	put("cmd/lifeboat/fault.go", fmt.Sprintf(faultFunction, "main")+faultAtStart)

	before, after, ok := strings.Cut(source("fusefs/handover/state.go"), "\tversion = ")
	number, after, ok2 := strings.Cut(after, "\n")
	put("fusefs/handover/state.go", before+after)
	put("fusefs/handover/fault.go", fmt.Sprintf(faultFunction, "handover")+fmt.Sprintf(faultVersion, number))

	const beginning = "func (f *filter) takeOver() (*Mount, error) {\n"
	before, after, ok3 := strings.Cut(source("fusefs/takeover.go"), beginning)
	put("fusefs/takeover.go", strings.Replace(before, "import (", "import (\n\t\"os\"\n", 1)+beginning+faultWhenToldTo+after)
	put("fusefs/fault.go", fmt.Sprintf(faultFunction, "fusefs"))
	if !ok || !ok2 || !ok3 {
		t.Fatal("the source is not as the faults need it")
	}
	list := filepath.Join(s.dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	must(t, errors.Join(err, os.WriteFile(list, text, 0o600)))
	program := filepath.Join(s.dir, "faulty")
	build := exec.Command("go", "build", "-overlay", list, "-o", program, "lifeboat/cmd/lifeboat")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a faulty program: %v: %s", err, out)
	}
	return program
}
