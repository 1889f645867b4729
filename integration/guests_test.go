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

	var awaited uint64
	for range 3 + rng.IntN(3) {
		m.work(t, 50+rng.IntN(400))
		awaited = m.cut(t, true)
	}
	m.work(t, 1+rng.IntN(200))
	m.cut(t, false) // it may be committed before all are killed, or not
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
	m.proves(t, newest)
	if all {
		s.mount(t)
		s.upload(t, "--frequency", "15m")
	}
	m.restoresWhole(t)
	s.noWalkRequired(t)
}

// moment is what the guest had said before and after a recovery point was cut.
type moment struct{ before, after []byte }

// cut makes a recovery point of the machine while it works.
func (m *machine) cut(t *testing.T, wait bool) (epoch uint64) {
	t.Helper()
	before := m.console(t)
	epoch = m.site.cut(t, wait).Epoch
	m.alive(t)
	m.moments[epoch] = moment{before, m.console(t)}
	return epoch
}

// proves restores a recovery point, which has to have what the guest had said.
func (m *machine) proves(t *testing.T, epoch uint64) {
	t.Helper()
	to, r := m.site.restore(t, epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	m.verify(t, filepath.Join(to, m.disk), m.moments[epoch].before, m.moments[epoch].after)
}

// restoresWhole wants the disk of a machine that was killed to have all that the
// guest had said, and the next recovery point to be the same.
func (m *machine) restoresWhole(t *testing.T) {
	t.Helper()
	end, p := m.console(t), m.site.cut(t, true)
	to, r := m.site.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	is, err := digestOf(m.site.disk(m.disk))
	must(t, err)
	if restored, err := digestOf(filepath.Join(to, m.disk)); err != nil || restored != is {
		t.Errorf("the disk is %v, restored %v: %v", is, restored, err)
	}
	m.verify(t, filepath.Join(to, m.disk), end, end)
}
