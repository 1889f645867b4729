package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The filter is killed again and again: the one that stands by takes over, and
// the pause is short.
func TestStandby(t *testing.T) {
	s := newSite(t)
	s.program = plain
	u := s.mountKept(t)
	n := rounds(5, 100)
	var waited []time.Duration
	for i := range n {
		s.awaitStandby(t, i+1)
		u.patient(t)
		_, filters := s.keeperNow(t)
		before := s.filterNow(t)
		waited = append(waited, u.through(t, func() { s.killFilter(t, i+1) }))
		if now := s.filterNow(t); now == before || len(filters) != 2 || filters[0] != now && filters[1] != now {
			t.Errorf("%d took over from %d: it did not stand by (%v)", now, before, filters)
		}
	}
	logPauses(t, "killed with a standby", 60*time.Millisecond, waited)
}

// Without a standby a filter is started when it is needed.
func TestNoStandby(t *testing.T) {
	s := newSite(t)
	s.program = plain
	u := s.mountKept(t, "--standby=false")
	var waited []time.Duration
	for i := range rounds(3, 100) {
		u.patient(t)
		if _, filters := s.keeperNow(t); len(filters) != 1 {
			t.Errorf("the filters are %v", filters)
		}
		waited = append(waited, u.through(t, func() { s.killFilter(t, i+1) }))
	}
	logPauses(t, "killed without a standby", 150*time.Millisecond, waited)
}

// A filter that hangs is killed, and the user goes on.
func TestFilterHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	u := s.mountKept(t)
	s.awaitStandby(t, 1)
	before := s.filterNow(t)
	pause := u.through(t, func() {
		must(t, unix.Kill(before, unix.SIGSTOP))
		s.awaitSaid(t, "another filter has taken over", 1)
	})
	t.Logf("the user waited for %v", pause)
	if now := s.filterNow(t); now == before || len(s.filter.saidLines(t, "the filter hangs")) != 1 {
		t.Errorf("%d serves, %d was stopped", now, before)
	}
}

// The keeper is killed, then the filter, and again: another keeper comes, and the
// user, who has a file without a name as well, goes on. The last one stops in
// good order.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	u := s.mountKept(t)
	unnamed, err := os.OpenFile(s.disk("unnamed"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, os.Remove(s.disk("unnamed")))
	keeper, _ := s.keeperNow(t)
	s.filter.killed.Store(true)
	n := rounds(3, 30)
	for i := range n {
		s.awaitFilters(t, 2)
		before := s.filterNow(t)
		pause := u.through(t, func() {
			must(t, unix.Kill(keeper, unix.SIGKILL))
			s.awaitSaid(t, "this keeper took over", i+1)
		})
		t.Logf("the user waited for %v when the keeper was killed", pause)
		if now := s.filterNow(t); now != before {
			t.Errorf("the filter was %d and is %d", before, now)
		}
		last := keeper
		if keeper, _ = s.keeperNow(t); keeper == 0 || keeper == last {
			t.Fatalf("the keeper was %d and is %d", last, keeper)
		}
		// As soon as it keeps, whether one stands by already or not.
		pause = u.through(t, func() { s.killFilter(t, i+1) })
		t.Logf("the user waited for %v when the filter was killed", pause)
		want := fmt.Appendf(nil, "round %d", i)
		got := make([]byte, len(want))
		_, err := unnamed.WriteAt(want, 0)
		must(t, err)
		if _, err := unnamed.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the file without a name holds %q (%v)", got, err)
		}
	}
	// After an upgrade the next keeper is of the new program, too.
	if r := s.replaceBy(t, plain, s.mountpoint); r.code != 0 {
		t.Errorf("%v", r)
	}
	must(t, unix.Kill(keeper, unix.SIGKILL))
	s.awaitSaid(t, "this keeper took over", n+1)
	keeper, _ = s.keeperNow(t)
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", keeper)); err != nil || exe != plain {
		t.Errorf("the keeper is %s (%v)", exe, err)
	}
	must(t, unnamed.Close())
	u.end(t)
	terminate(t, keeper)
	eventually(t, "all processes have ended", func() bool { return len(processesOf(t, s.dir)) == 0 })
}

// No other keeper comes up: the filter tells, serves on and tries again.
func TestNoKeeperComesUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.program = faultyProgram(t)
	u := s.mountKept(t)
	s.setFault(t, "no keeper")
	s.filter.killed.Store(true)
	must(t, s.filter.cmd.Process.Kill())
	s.awaitSaid(t, "no other keeper came up", 2)
	u.goesOn(t)
	s.setFault(t, "")
	s.awaitSaid(t, "this keeper took over", 1)
	u.through(t, func() { s.killFilter(t, 1) })
	keeper, _ := s.keeperNow(t)
	u.end(t)
	terminate(t, keeper)
	eventually(t, "all processes have ended", func() bool { return len(processesOf(t, s.dir)) == 0 })
}

// The keeper dies with the filter: what waits fails, nothing hangs, and the next
// mount takes the dead one away.
func TestBothKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	u := s.mountKept(t)
	s.awaitStandby(t, 1)
	s.filter.killed.Store(true)
	both := []int{s.filterNow(t), s.filter.cmd.Process.Pid}
	for _, signal := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} { // neither sees the other die
		for _, pid := range both {
			must(t, unix.Kill(pid, signal))
		}
	}
	<-s.filter.done
	u.mustFail(t)
	s.mount(t)
	if _, err := os.Stat(s.disk("used.img")); err != nil {
		t.Error(err)
	}
}

// Filters that die at every start are given up: what waits fails, the mount is
// gone, and the exit code tells.
func TestCrashesAtEveryStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.program = faultyProgram(t)
	u := s.mountKept(t)
	s.awaitStandby(t, 1)
	s.setFault(t, "crash")
	u.through(t, func() { s.killFilter(t, 1) }) // one stands by, and is good
	s.filter.killed.Store(true)                 // it ends by itself, and not well
	must(t, unix.Kill(s.filterNow(t), unix.SIGKILL))
	select {
	case <-s.filter.done:
	case <-time.After(stopsWithin):
		t.Fatal("the keeper does not give up")
	}
	if code := s.filter.cmd.ProcessState.ExitCode(); code == 0 || len(s.filter.saidLines(t, "dies again and again")) == 0 {
		t.Errorf("the keeper ended with %v", s.filter.cmd.ProcessState)
	}
	u.mustFail(t)
	if left := mountsBelow(t, s.dir); len(left) > 0 {
		t.Errorf("mounts are left: %q", left)
	}
}

// When memory runs out, the kernel kills the keeper last, if that may be asked
// for here, and the filters as it would have without one.
func TestMemoryRunsOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	u := s.mountKept(t)
	s.awaitStandby(t, 1)
	keeper, filters := s.keeperNow(t)
	score := func(pid int) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		must(t, err)
		return strings.TrimSpace(string(text))
	}
	want := score(os.Getpid())
	if exec.Command("sh", "-c", "echo -1000 > /proc/self/oom_score_adj").Run() == nil {
		want = "-1000"
	}
	if score(keeper) != want || len(filters) != 2 {
		t.Errorf("the keeper's score is %s, want %s; the filters are %v", score(keeper), want, filters)
	}
	for _, pid := range filters {
		if score(pid) != score(os.Getpid()) {
			t.Errorf("a filter's score is %s, this process's %s", score(pid), score(os.Getpid()))
		}
	}
	// What the kernel then does to the filters, both at once.
	for _, pid := range filters {
		if err := unix.Kill(pid, unix.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			must(t, err)
		}
	}
	u.goesOn(t)
}
