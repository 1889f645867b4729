package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// startsWithin bounds how long a process takes until it is ready, on a
	// machine that does other things, too.
	startsWithin = time.Minute
	// stopsWithin bounds how long it takes to end when it is asked to.
	stopsWithin = time.Minute
	// raceExit is the exit code that the race detector gives.
	raceExit = 66
)

// process is a filter or a sidecar at work.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	// control is the filter's socket, if the process is a keeper.
	control string
	// killed tells that SIGKILL is, or will soon be, on its way.
	killed atomic.Bool
}

// startProcess runs the binary with --ready-fd and returns when it said that it
// is ready. Its output goes to a file, which is shown if the test fails.
func startProcess(t *testing.T, s *site, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, done: make(chan struct{}), log: filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", name, len(s.processes)+1))}
	log, err := os.Create(p.log)
	must(t, err)
	defer log.Close() //nolint:errcheck // the process has its own descriptor
	ready, write, err := os.Pipe()
	must(t, err)
	defer ready.Close() //nolint:errcheck // only read
	p.cmd = exec.Command(s.program, append([]string{args[0], "--ready-fd", "3"}, args[1:]...)...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles, p.cmd.Env = log, log, []*os.File{write}, s.env
	err = p.cmd.Start()
	must(t, errors.Join(err, write.Close()))
	s.processes = append(s.processes, p)
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // judged by whoever ended it
	}()
	must(t, ready.SetReadDeadline(time.Now().Add(startsWithin)))
	if word, err := io.ReadAll(ready); err != nil || string(word) != "ready\n" {
		t.Fatalf("%s did not get ready: it said %q (%v); its log:\n%s", name, word, err, tail(p.log))
	}
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends it as a crash would, a keeper together with its filter, and waits
// for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if !p.running() {
		t.Errorf("%s ended before it was killed: %v", p.name, p.cmd.ProcessState)
	}
	p.killed.Store(true)
	if p.control != "" && p.running() {
		p.killChildren(t)
	}
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-p.done
}

// stop asks it to end, and fails the test unless it does so in good order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if !p.running() {
		t.Errorf("%s ended before it was asked to: %v", p.name, p.cmd.ProcessState)
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case <-p.done:
	case <-time.After(stopsWithin):
		t.Errorf("%s did not stop within %v", p.name, stopsWithin)
		p.kill(t)
		return
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s ended with %v", p.name, p.cmd.ProcessState)
	}
}

// lines returns what it said so far.
func (p *process) lines(t *testing.T) []string {
	t.Helper()
	log, err := os.ReadFile(p.log)
	must(t, err)
	return strings.Split(string(log), "\n")
}

// judge looks through what it said, and shows it if the test failed; of the
// processes that were followed by others only if they are to blame.
func (p *process) judge(t *testing.T, last bool) {
	t.Helper()
	log, err := os.ReadFile(p.log)
	must(t, err)
	guilty := false
	for _, word := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if bytes.Contains(log, []byte(word)) {
			t.Errorf("%s: %s", p.name, word)
			guilty = true
		}
	}
	if t.Failed() && (guilty || last) {
		t.Logf("%s said:\n%s", filepath.Base(p.log), tail(p.log))
	}
}

// tail returns the end of a log, or all of it if it tells of a race or a panic.
func tail(path string) []byte {
	const most = 6 << 10
	log, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	if at := bytes.Index(log, []byte("WARNING: DATA RACE")); at >= 0 {
		return log[at:min(len(log), at+2*most)]
	}
	if at := bytes.Index(log, []byte("panic:")); at >= 0 {
		return log[at:min(len(log), at+2*most)]
	}
	return log[max(0, len(log)-most):]
}
