package integration

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keptByDefault has every mount kept, as if --keeper were the default.
var keptByDefault = os.Getenv("LIFEBOAT_TEST_KEEPER") != ""

// serving returns the process that does the work: the one that was started, or,
// if that is a keeper, its filter. While no filter lives, it waits for one. If
// the keeper has several children, it is the oldest: others stand by.
func (p *process) serving(t *testing.T) (pid int) {
	t.Helper()
	if p.control == "" {
		return p.cmd.Process.Pid
	}
	eventually(t, "the keeper has a filter", func() bool {
		if !p.running() {
			t.Fatalf("the keeper ended: %v", p.cmd.ProcessState)
		}
		all := p.children(t)
		if len(all) == 0 {
			return false
		}
		pid = slices.MinFunc(all, func(a, b int) int { return cmp.Compare(startOf(a), startOf(b)) })
		return true
	})
	return pid
}

// startOf tells when a process started, in ticks since the boot; one that has
// ended counts as the youngest.
func startOf(pid int) uint64 {
	const field = 22 - 3 // of those behind the name
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return math.MaxUint64
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) <= field {
		return math.MaxUint64
	}
	ticks, err := strconv.ParseUint(fields[field], 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return ticks
}

// children are the processes that it has started and that live.
func (p *process) children(t *testing.T) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	must(t, err)
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			pid, err := strconv.Atoi(child)
			must(t, err)
			if lives(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// lives tells a process from one that has ended, reaped or not.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// killProcess kills a process of any parent's, and waits for its end. aim is
// called just before.
func killProcess(t *testing.T, pid int, aim func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(fd) //nolint:errcheck // nothing is written
	aim()
	must(t, unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
	for deadline := time.Now().Add(stopsWithin); ; {
		ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ended, int(stopsWithin.Milliseconds()))
		if n == 1 {
			return
		}
		if err != unix.EINTR || time.Now().After(deadline) {
			t.Fatalf("process %d does not die (%v)", pid, err)
		}
	}
}

// killChildren kills what a keeper has started. The keeper is stopped before, so
// that it starts nothing in their place.
func (p *process) killChildren(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Signal(unix.SIGSTOP))
	eventually(t, "the keeper has no filter", func() bool {
		all := p.children(t)
		for _, pid := range all {
			killProcess(t, pid, func() {})
		}
		return len(all) == 0
	})
}
