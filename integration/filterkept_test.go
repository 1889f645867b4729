package integration

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// With a keeper, the filter is killed at any moment, and neither a guest nor fio,
// which verifies what it reads, sees an error; every recovery point is what the
// disks held. KILLS=1000 kills as often, and NORACE=1 besides tells for how long
// users would wait.
func TestFilterKept(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	s.kept = true
	s.besideFolder(t)
	o := newVM(t, s, newGuest(t, rng, slowPace), "--frequency", "15m")
	runs := []*exec.Cmd{s.fio(t, 0), s.fio(t, 1)}
	k := newKiller(t, rng, s, 0, unix.O_DIRECT)
	kills := asked(t, "KILLS", rounds(16, 300))
	for k.kills < kills {
		for range 2 + rng.IntN(3) {
			o.guest.do(t, 1+rng.IntN(6))
			o.cut(t, rng.IntN(6) == 0)
		}
		o.guest.do(t, rng.IntN(30))
		k.kill(t, rng.IntN(3) == 0)
		o.guest.do(t, 1+rng.IntN(30))
		s.awaitReplicating(t)
	}
	for _, run := range runs {
		s.endFIO(t, run)
	}
	k.end(t)
	o.survived(t, kills)
}

// fio starts to write a file, buffered or direct, and to verify what it wrote.
func (s *site) fio(t *testing.T, direct int) *exec.Cmd {
	t.Helper()
	run := exec.Command("fio", "--name=guest", fmt.Sprintf("--filename=%s", s.disk(fmt.Sprintf("fio-%d.img", direct))),
		fmt.Sprintf("--direct=%d", direct), "--size=32m", "--rw=randrw", "--bsrange=4k-64k", "--bs_unaligned=0", "--ioengine=libaio",
		"--iodepth=8", "--rate_iops=300", "--verify=crc32c", "--verify_fatal=1", "--time_based", "--runtime=1h", "--fsync=50", "--verify_state_save=0")
	run.Stdout = new(bytes.Buffer)
	run.Stderr = run.Stdout
	run.Env = s.env
	must(t, run.Start())
	t.Cleanup(func() {
		if run.ProcessState == nil {
			_ = run.Process.Kill() // the test has failed
			_ = run.Wait()
		}
	})
	return run
}

// endFIO ends it and fails the test if it has seen an error or done nothing.
func (s *site) endFIO(t *testing.T, run *exec.Cmd) {
	t.Helper()
	must(t, run.Process.Signal(syscall.SIGINT))
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	select {
	case <-ended: // with an exit code of its own for being interrupted
	case <-time.After(stopsWithin):
		t.Fatal("fio hangs")
	}
	said := fmt.Sprint(run.Stdout)
	if !strings.Contains(said, "err= 0") || strings.Contains(said, "verify:") || !strings.Contains(said, "WRITE:") {
		t.Errorf("fio, %v:\n%s", run.ProcessState, said)
	}
}
