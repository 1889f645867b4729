package integration

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// guestRuns are the disks and modes that guests are run with.
func guestRuns() (runs [][2]string) {
	if os.Getenv("LONG") == "" {
		return [][2]string{{"disk.raw", "none:native"}, {"disk.qcow2", "writeback:io_uring"}, {"fixed.vhd", "none:threads"}}
	}
	for _, disk := range slices.Sorted(maps.Keys(formats)) {
		for _, mode := range []string{"none:threads", "none:native", "none:io_uring", "writeback:threads", "writeback:io_uring"} {
			if formats[disk].base == "" {
				runs = append(runs, [2]string{disk, mode})
			}
		}
	}
	return runs
}

// A Linux guest in QEMU works on a protected disk while recovery points are cut.
// QEMU is killed, alone or with the filter and the sidecar. The newest point has
// every change that the guest had said to be durable before it was cut.
func TestGuests(t *testing.T) {
	t.Parallel()
	for _, run := range guestRuns() {
		for _, killed := range []string{"QEMU", "all"} {
			t.Run(strings.Join([]string{run[0], run[1], killed}, ","), func(t *testing.T) {
				t.Parallel()
				testGuest(t, run[0], run[1], killed == "all")
			})
		}
	}
}

func testGuest(t *testing.T, disk, mode string, all bool) {
	rng := randomness(t)
	s := newSite(t)
	s.besideFolder(t)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	m := newMachine(t, s, disk)
	s.protect(t, disk)
	m.boot(t, mode)
	out, err := exec.Command("qemu-io", "-f", m.driver, "-c", "write 0 4k", s.disk(disk)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "lock") {
		t.Fatalf("the disk of a machine that runs was opened for writing: %v: %s", err, out)
	}

	// What the guest had said around each cut.
	type moment struct{ before, after []byte }
	moments := map[uint64]moment{}
	cut := func(wait bool) (epoch uint64) {
		before := m.console(t)
		epoch = s.cut(t, wait).Epoch
		m.alive(t)
		moments[epoch] = moment{before, m.console(t)}
		return epoch
	}
	var awaited uint64
	for range 3 + rng.IntN(3) {
		m.work(t, 50+rng.IntN(400))
		awaited = cut(true)
	}
	m.work(t, 1+rng.IntN(200))
	cut(false) // it may be committed before all are killed, or not
	m.work(t, 1+rng.IntN(50))
	m.kill(t)
	if all {
		s.sidecar.kill(t)
		s.filter.kill(t)
		s.unmountDead(t)
	}

	points := s.points(t)
	newest := points[len(points)-1].Epoch
	if newest < awaited {
		t.Errorf("recovery point %d was said to be committed, the newest is %d", awaited, newest)
	}
	to, r := s.restore(t, newest)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	m.verify(t, filepath.Join(to, disk), moments[newest].before, moments[newest].after)

	// The disk itself has everything; so has the next recovery point.
	end := m.console(t)
	if all {
		s.mount(t)
		s.upload(t, "--frequency", "15m")
	}
	p := s.cut(t, true)
	last, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	is, err := digestOf(s.disk(disk))
	must(t, err)
	if restored, err := digestOf(filepath.Join(last, disk)); err != nil || restored != is {
		t.Errorf("the disk is %v, restored %v: %v", is, restored, err)
	}
	m.verify(t, filepath.Join(last, disk), end, end)
	s.noWalkRequired(t)
}
