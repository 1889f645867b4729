package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/tracker/control"
)

// mountKept mounts with a keeper and has somebody use the mount all the time.
func (s *site) mountKept(t *testing.T, flags ...string) *user {
	t.Helper()
	s.kept = false // the flags are the test's own
	s.besideFolder(t)
	s.makeDisk(t, "used.img", userBlocks*blockSize)
	s.filter = startProcess(t, s, "keeper", slices.Concat([]string{"mount", "--keeper"}, flags, []string{s.folder, s.mountpoint})...)
	return useMount(t, s)
}

// filterNow is the process that serves the mount now.
func (s *site) filterNow(t *testing.T) (pid int) {
	t.Helper()
	client := control.NewClient(control.SocketPath(filepath.Join(s.dir, "run"), s.mountpoint))
	defer client.Close()
	eventually(t, "a filter answers", func() bool {
		info, err := client.Filter(t.Context())
		pid = info.PID
		return err == nil
	})
	return pid
}

// keeperNow is the process that keeps the mount now, whoever started it, and
// filters are those that serve or stand by; 0 and none if there are not.
func (s *site) keeperNow(t *testing.T) (keeper int, filters []int) {
	t.Helper()
	for _, line := range processesOf(t, s.dir) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil || !strings.Contains(line, "--keeper") {
			continue
		}
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		switch {
		case err != nil || len(environment) == 0: // it has ended
		case bytes.Contains(environment, []byte("LIFEBOAT_KEEPER_FD=")):
			filters = append(filters, pid)
		default:
			keeper = pid
		}
	}
	return keeper, filters
}

// awaitFilters waits until there are so many filters, those that stand by
// included.
func (s *site) awaitFilters(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("there are %d filters", n), func() bool {
		_, filters := s.keeperNow(t)
		return len(filters) == n
	})
}

// killFilter kills the filter that serves, and waits until the keepers have said
// n times that another one has taken over.
func (s *site) killFilter(t *testing.T, n int) {
	t.Helper()
	must(t, unix.Kill(s.filterNow(t), unix.SIGKILL))
	s.awaitSaid(t, "another filter has taken over", n)
}

// awaitWrites waits until a file that was laid out is written to.
func (s *site) awaitWrites(t *testing.T, name string) {
	t.Helper()
	var laidOut time.Time
	eventually(t, name+" is written to", func() bool {
		info, err := os.Stat(s.below(name))
		switch {
		case err != nil || info.Size() < 32<<20: // not even laid out
		case laidOut.IsZero():
			laidOut = info.ModTime()
		default:
			return info.ModTime().After(laidOut)
		}
		return false
	})
}

// awaitStandby waits until the keepers have said n times that another filter
// stands by.
func (s *site) awaitStandby(t *testing.T, n int) {
	t.Helper()
	s.awaitSaid(t, "another filter stands by", n)
}

// awaitSaid waits until something stands n times in the log of the first keeper,
// which is also that of all who follow.
func (s *site) awaitSaid(t *testing.T, what string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q is said %d times", what, n), func() bool {
		return len(s.filter.saidLines(t, what)) >= n
	})
}

func (p *process) saidLines(t *testing.T, what string) []string {
	t.Helper()
	return slices.DeleteFunc(p.lines(t), func(line string) bool { return !strings.Contains(line, what) })
}

// replaceBy has a program replace the filter.
func (s *site) replaceBy(t *testing.T, program, path string) result {
	t.Helper()
	cmd := exec.Command(program, "mount", "--replace", path)
	cmd.Env = s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := result{command: "mount --replace", code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if r.code == -1 {
		t.Errorf("%v: %v", r, err)
	}
	return r
}

// terminate asks a process that is no child to end, and waits until it has.
func terminate(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(fd) //nolint:errcheck // nothing is written
	must(t, unix.PidfdSendSignal(fd, syscall.SIGTERM, nil, 0))
	eventually(t, fmt.Sprintf("process %d ends", pid), func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	})
}
