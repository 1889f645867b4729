package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newForeignSite is a quiet VM with a way to its disks that does not lead
// through the mount, as a bind mount from before is: the returned folder.
func newForeignSite(t *testing.T) (*site, string) {
	t.Helper()
	s := newSite(t)
	aside := filepath.Join(s.dir, "aside")
	must(t, os.Mkdir(aside, 0o700))
	must(t, unix.Mount(s.folder, aside, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(aside, 0)) }) // before the site looks for what was left
	newQuietVM(t, s)
	return s, aside
}

// resynchronized waits until the disks have been compared and a recovery point
// was made after the one of that epoch, and fails the test unless it restores to
// what the disks are.
func (s *site) resynchronized(t *testing.T, after uint64) uint64 {
	t.Helper()
	newest := after
	eventually(t, "the disks have been compared", func() bool {
		status := s.status(t)
		if status.Newest != nil {
			newest = status.Newest.Epoch
		}
		return newest > after && status.State == "replicating" && status.Health == "Normal"
	})
	return s.proves(t, newest)
}

// proves restores a recovery point and compares it with the disks as they are.
func (s *site) proves(t *testing.T, epoch uint64) uint64 {
	t.Helper()
	to, r := s.restore(t, epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	s.sameDisks(t, to)
	must(t, os.RemoveAll(to))
	return epoch
}

// Whoever changes a disk below the mount, while it is mounted, is told of, and
// what he changed is in the next recovery point. Who reads it is nobody's
// business.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	s, aside := newForeignSite(t)
	a := filepath.Join(aside, "a.img")
	execute(t, "cmp", a, s.disk("a.img"))
	execute(t, "cp", a, filepath.Join(s.dir, "copy"))
	newest := s.proves(t, s.cut(t, true).Epoch) // so reading has no consequences

	execute(t, "dd", "if=/dev/urandom", "of="+a, "bs=4096", "seek=100", "count=1", "conv=notrunc", "status=none")
	newest = s.resynchronized(t, newest)
	execute(t, "truncate", "--size=5M", a)
	newest = s.resynchronized(t, newest)
	must(t, os.Link(a, filepath.Join(aside, "link")))
	execute(t, "dd", "if=/dev/urandom", "of="+filepath.Join(aside, "link"), "bs=4096", "count=1", "conv=notrunc", "status=none")
	s.resynchronized(t, newest)

	told := 0
	for _, line := range s.filter.lines(t) {
		if strings.Contains(line, "code=foreign-writer") && strings.Contains(line, "a.img") {
			told++
		}
	}
	if told < 3 {
		t.Errorf("the filter told of %d foreign writers", told)
	}
}

// While somebody has a disk open below the mount, there is no recovery point;
// also not when the filter dies meanwhile, and he writes on.
func TestForeignWriterStays(t *testing.T) {
	t.Parallel()
	s, aside := newForeignSite(t)
	rng := randomness(t)
	writer, err := os.OpenFile(filepath.Join(aside, "b.img"), os.O_RDWR, 0)
	must(t, err)
	defer writer.Close() //nolint:errcheck // closed below; this is for a failing test
	write := func() {
		_, err := writer.WriteAt(randomBytes(rng, 8192), rng.Int64N(4<<20-8192))
		must(t, err)
	}
	write()
	eventually(t, "health tells of the writer", func() bool { return s.status(t).says("foreign-writer") })
	const notNow = 4
	s.refused(t, []refusal{{[]string{"cut", vm}, notNow, []string{"b.img", "open for writing"}}})
	before := s.points(t)
	write()
	newChange(rng, 4<<20, 20).write(t, s.disk("a.img"))
	s.refused(t, []refusal{{[]string{"cut", vm}, notNow, []string{"b.img", "open for writing"}}})

	s.filter.kill(t)
	s.unmountDead(t)
	write()
	s.mount(t) // it must not fail for that
	eventually(t, "health tells of the writer again", func() bool { return s.status(t).says("foreign-writer") })
	write()
	s.refused(t, []refusal{{[]string{"cut", vm}, notNow, []string{"b.img"}}})
	if now := s.points(t); len(now) != len(before) {
		t.Errorf("recovery points were made: %v, before %v", now, before)
	}
	must(t, writer.Close())
	s.resynchronized(t, before[len(before)-1].Epoch)
}

// A filter that dies after a foreign writer was there, and before the disks were
// compared, leaves word of it.
func TestForeignWriterThenKilled(t *testing.T) {
	t.Parallel()
	s, aside := newForeignSite(t)
	newest := s.points(t)[0].Epoch
	s.sidecar.stop(t)
	execute(t, "dd", "if=/dev/urandom", "of="+filepath.Join(aside, "a.img"), "bs=4096", "seek=7", "count=1", "conv=notrunc", "status=none")
	eventually(t, "the filter has heard of it", func() bool {
		return strings.Contains(strings.Join(s.filter.lines(t), "\n"), "code=foreign-writer")
	})
	s.filter.kill(t)
	s.unmountDead(t)
	// As if it had been changed no later than the filter lived.
	must(t, unix.UtimesNano(filepath.Join(aside, "a.img"), []unix.Timespec{{Sec: 1}, {Sec: 1}}))
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	s.resynchronized(t, newest)
}
