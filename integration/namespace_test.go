package integration

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// actors do what they do at the same time.
const actors = 3

// While filters are killed, names are made, moved and taken, attributes set, and
// files written, by several at a time, on the mount and, the same again, in a
// plain folder of the same file system: each system call has to end in the same
// way in both places, and both have to look the same, at any time.
func TestNamespaceKept(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	s.kept = true
	plain := s.onFileSystem(t)
	s.besideFolder(t)
	s.mount(t)
	for _, folder := range []string{plain, s.mountpoint} {
		must(t, unix.Mkdir(filepath.Join(folder, common), 0o755))
	}
	k := newKiller(t, rng, s, 0)
	var all []*actor
	for i := range actors {
		all = append(all, newActor(t, rng, i, plain, s.mountpoint))
	}
	stop, done := make(chan struct{}), new(sync.WaitGroup)
	for _, a := range all {
		done.Go(func() { a.run(stop) })
	}
	end := sync.OnceFunc(func() {
		close(stop)
		s.endHanging(t)
		done.Wait()
		for _, a := range all {
			a.closeAll()
		}
	})
	t.Cleanup(end)

	for kills := asked(t, "KILLS", rounds(20, 400)); k.kills < kills; {
		a := all[rng.IntN(len(all))]
		a.do(t, 1+rng.IntN(200))
		k.kill(t, rng.IntN(5) == 0)
	}
	for _, a := range all {
		a.do(t, 100) // whatever was wrong shows
	}
	end()
	k.end(t)
	operations, ended := 0, map[string]int{}
	for _, a := range all {
		must(t, a.failed())
		operations += a.count
		for how, n := range a.said {
			ended[how] += n
		}
	}
	t.Logf("%d operations ended in %d ways: %v", operations, len(ended), ended)
	want, is := landscape(plain, ""), landscape(s.mountpoint, "")
	if !slices.Equal(want, is) {
		t.Errorf("the mount and the plain folder differ:\n%s", differing(want, is))
	}
	s.filter.stop(t)
	if below := landscape(s.folder, ""); !slices.Equal(want, below) {
		t.Errorf("the folder below the mount and the plain one differ:\n%s", differing(want, below))
	}
}

// onFileSystem puts the site's folder on a file system of its own, with a plain
// folder beside it, which is returned.
func (s *site) onFileSystem(t *testing.T) (plain string) {
	t.Helper()
	image, host := filepath.Join(s.dir, "image"), filepath.Join(s.dir, "host")
	must(t, unix.Mkdir(host, 0o700))
	sparseFile(t, image, 1<<30)
	execute(t, "mkfs.ext4", "-q", "-F", image)
	execute(t, "mount", "-o", "loop", image, host)
	t.Cleanup(func() { // before the site looks for what was left
		if s.filter != nil && s.filter.running() {
			s.filter.stop(t)
		}
		must(t, unix.Unmount(host, 0))
	})
	s.folder, plain = filepath.Join(host, "vms"), filepath.Join(host, "plain")
	for _, dir := range []string{s.folder, plain} {
		must(t, unix.Mkdir(dir, 0o755))
	}
	s.mountpoint = s.folder
	return plain
}
