package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// userBlocks is how many blocks a user writes to.
const userBlocks = 1024

// user writes to a disk on the mount all the time, one block after the other,
// and knows what every block holds and how long he waited. Each error fails the
// test, unless it is expected.
type user struct {
	site  *site
	file  *os.File
	rng   *rand.Rand
	holds [userBlocks]uint64 // the number that a block is full of
	done  chan struct{}
	stop  atomic.Bool

	mu    sync.Mutex
	some  *sync.Cond
	count int
	worst time.Duration
	err   error
}

func useMount(t *testing.T, s *site) *user {
	t.Helper()
	f, err := os.OpenFile(s.disk("used.img"), os.O_RDWR, 0)
	must(t, err)
	u := &user{site: s, file: f, rng: randomness(t), done: make(chan struct{})}
	u.some = sync.NewCond(&u.mu)
	go u.use()
	t.Cleanup(func() { u.end(t) })
	return u
}

func (u *user) use() {
	defer close(u.done)
	for n := uint64(1); !u.stop.Load(); n++ {
		block := u.rng.IntN(userBlocks)
		began := time.Now()
		_, err := u.file.WriteAt(blockOf(n), int64(block)*blockSize)
		took := time.Since(began)
		u.mu.Lock()
		u.count++
		u.worst = max(u.worst, took)
		u.err = err
		u.some.Broadcast()
		u.mu.Unlock()
		if err != nil {
			return
		}
		u.holds[block] = n
	}
}

// blockOf is a block full of a number.
func blockOf(n uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, n), blockSize/8)
}

// through does something, and returns how long the user waited at most until he
// wrote again afterwards.
func (u *user) through(t *testing.T, do func()) time.Duration {
	t.Helper()
	u.mu.Lock()
	u.worst = 0
	u.mu.Unlock()
	do()
	u.goesOn(t)
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.worst
}

// goesOn waits until the user has written some more.
func (u *user) goesOn(t *testing.T) {
	t.Helper()
	late := time.AfterFunc(commandWithin, func() { u.failed(fmt.Errorf("the user hangs for %v", commandWithin)) })
	defer late.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for until := u.count + 10; u.count < until && u.err == nil; {
		u.some.Wait()
	}
	if u.err != nil {
		t.Fatal(u.err)
	}
}

func (u *user) failed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
	u.some.Broadcast()
}

// end ends the use and compares what the disk holds, on the mount and below,
// unless the user has failed.
func (u *user) end(t *testing.T) {
	t.Helper()
	if u.file == nil {
		return
	}
	u.stop.Store(true)
	select {
	case <-u.done:
	case <-time.After(stopsWithin):
		t.Fatal("the user hangs")
	}
	defer func() { u.file = nil }()
	defer u.file.Close() //nolint:errcheck // on a dead mount it may say anything
	if u.err != nil {
		t.Errorf("the user: %v", u.err)
		return
	}
	for _, path := range []string{u.site.disk("used.img"), u.site.below("used.img")} {
		got, err := os.ReadFile(path)
		must(t, err)
		for i, n := range u.holds {
			if !bytes.Equal(got[i*blockSize:(i+1)*blockSize], blockOf(n)) {
				t.Fatalf("%s: block %d is not what was written last, %d", path, i, n)
			}
		}
	}
}

// mustFail expects the user to be told within some time that the mount is dead.
func (u *user) mustFail(t *testing.T) {
	t.Helper()
	select {
	case <-u.done:
	case <-time.After(stopsWithin):
		t.Fatal("the user hangs on a dead mount")
	}
	if u.err == nil {
		t.Error("the user saw no error")
	}
	_ = u.file.Close() // of a dead mount
	u.file = nil
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

// patient waits until the keeper takes the next death for the first.
func (u *user) patient(t *testing.T) {
	t.Helper()
	since := time.Now()
	eventually(t, "the keeper has its patience back", func() bool {
		u.goesOn(t)
		return time.Since(since) > 1100*time.Millisecond
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

// logPauses logs how long a user waited, and fails the test if that is more than
// any guest would bear.
func logPauses(t *testing.T, what string, goal time.Duration, all []time.Duration) {
	t.Helper()
	slices.Sort(all)
	median, longest := all[len(all)/2], all[len(all)-1]
	t.Logf("%s: %d pauses of %v in the median and %v at most (goal: %v)", what, len(all), median, longest, goal)
	if longest > 10*time.Second {
		t.Errorf("%s: a pause of %v", what, longest)
	}
}
