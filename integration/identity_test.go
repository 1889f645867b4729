package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// protectFresh makes disks of random content and protects them. Directories in
// their names are made.
func (s *site) protectFresh(t *testing.T, names ...string) {
	t.Helper()
	rng := randomness(t)
	for _, name := range names {
		must(t, os.MkdirAll(filepath.Dir(s.below(name)), 0o700))
		must(t, os.WriteFile(s.below(name), randomBytes(rng, 2<<20), 0o600))
	}
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	s.protect(t, names...)
}

// writeAt changes a file by its name on the mount.
func (s *site) writeAt(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(s.disk(name), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(text), 1<<20)
	must(t, errors.Join(err, f.Close()))
}

// restores makes a recovery point and fails the test unless it restores to just
// these files.
func (s *site) restores(t *testing.T, after string, want map[string]digest) {
	t.Helper()
	to, r := s.restore(t, s.cut(t, true).Epoch)
	if r.code != 0 {
		t.Fatalf("after %s: %v", after, r)
	}
	got := map[string]digest{}
	must(t, filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(to, path)
		must(t, err)
		got[name], err = digestOf(path)
		return err
	}))
	if !maps.Equal(got, want) {
		t.Errorf("after %s, restored are %v, the disks are %v", after, got, want)
	}
	must(t, os.RemoveAll(to))
}

// restoresNamed is restores for files that are what their names on the mount say.
func (s *site) restoresNamed(t *testing.T, after string, names ...string) {
	t.Helper()
	want, err := digestsOf(s.mountpoint, names)
	must(t, err)
	s.restores(t, after, want)
}

// A disk is protected whatever it is called: a rename, one of its folder, an
// exchange, another name in place of the first one, before and after the filter
// was stopped or killed.
func TestIdentityKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.protectFresh(t, "a.img", "dir/b.img", "c.img")
	names := []string{"a.img", "dir/b.img", "c.img"}
	step := func(what string, i int, name string, do func()) {
		t.Helper()
		do()
		names[i] = name
		s.writeAt(t, name, "after "+what)
		s.restoresNamed(t, what, names...)
	}
	must(t, os.Mkdir(s.disk("other"), 0o700))
	rename := func(from, to string) func() { return func() { must(t, os.Rename(s.disk(from), s.disk(to))) } }
	step("a rename", 0, "moved.img", rename("a.img", "moved.img"))
	step("a rename into another folder", 0, "other/a.img", rename("moved.img", "other/a.img"))
	step("a rename of the folder", 1, "elsewhere/b.img", rename("dir", "elsewhere"))
	step("an exchange", 0, "c.img", func() {
		must(t, unix.Renameat2(unix.AT_FDCWD, s.disk("c.img"), unix.AT_FDCWD, s.disk("other/a.img"), unix.RENAME_EXCHANGE))
		names[2] = "other/a.img"
	})

	s.filter.stop(t)
	s.mount(t)
	step("a stop of the filter", 0, "again.img", rename("c.img", "again.img"))
	s.filter.kill(t)
	s.unmountDead(t)
	s.mount(t)
	step("the death of the filter", 1, "b.img", rename("elsewhere/b.img", "b.img"))

	// Another name in place of the first one: points go on under the last one
	// that is known.
	must(t, os.Link(s.disk("again.img"), s.disk("link.img")))
	must(t, os.Remove(s.disk("again.img")))
	s.writeAt(t, "link.img", "by another name")
	want, err := digestsOf(s.mountpoint, []string{"link.img", "b.img", "other/a.img"})
	must(t, err)
	want["again.img"] = want["link.img"]
	delete(want, "link.img")
	s.restores(t, "a removal of one of two names", want)

	// The sidecar may not have asked again yet since the filter was away.
	eventually(t, "health is normal", func() bool { return s.status(t).Health == "Normal" })
	if walks := strings.Count(strings.Join(s.filter.lines(t), "\n"), "code=walk-required"); walks > 0 {
		t.Errorf("%d walks were required", walks)
	}
}

// What takes the place of a disk is not that disk, in whichever way it does: this
// is told, with what to do. What still has the disk open writes to the disk, and
// the recovery points show that.
func TestIdentityLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	names := []string{"over.img", "deleted.img", "anew.img", "linked.img", "exchanged.img"}
	s.protectFresh(t, names...)
	open := map[string]*os.File{}
	for _, name := range names {
		f, err := os.OpenFile(s.disk(name), os.O_RDWR, 0)
		must(t, err)
		defer f.Close() //nolint:errcheck // closed below, too; this is for a failing test
		open[name] = f
	}
	fresh := randomBytes(randomness(t), 1<<20)

	must(t, os.WriteFile(s.disk("new"), fresh, 0o600))
	must(t, os.Rename(s.disk("new"), s.disk("over.img")))
	must(t, os.Remove(s.disk("deleted.img")))
	must(t, os.Remove(s.disk("anew.img")))
	must(t, os.WriteFile(s.disk("anew.img"), fresh, 0o600))
	must(t, os.Remove(s.disk("linked.img")))
	s.linkUnnamed(t, "linked.img", fresh)
	s.linkUnnamed(t, "new", fresh)
	must(t, unix.Renameat2(unix.AT_FDCWD, s.disk("new"), unix.AT_FDCWD, s.disk("exchanged.img"), unix.RENAME_EXCHANGE))
	must(t, os.Remove(s.disk("new")))

	status := s.status(t)
	eventually(t, "health tells of all disks", func() bool {
		status = s.status(t)
		return status.says("disk-removed") && !slices.ContainsFunc(names, func(name string) bool { return !status.tells(name) })
	})
	if !status.tells("protect it again") {
		t.Errorf("it does not say what to do: %v", status.Reasons)
	}
	want := map[string]digest{}
	for name, f := range open {
		_, err := f.WriteAt([]byte("to the disk that "+name+" was"), 4096)
		must(t, err)
		at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		want[name], err = digestOf(at)
		must(t, err)
	}
	for _, name := range []string{"over.img", "anew.img", "linked.img", "exchanged.img"} {
		f, err := os.OpenFile(s.disk(name), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("not to a disk"), 8192)
		must(t, errors.Join(err, f.Close()))
	}
	s.restores(t, "replacing", want)
	for _, f := range open {
		must(t, f.Close())
	}

	// One that is there takes the name of one that is there.
	s.ok(t, nil, "unprotect", vm)
	now := []string{"over.img", "anew.img", "linked.img", "exchanged.img"}
	s.protect(t, now...)
	s.restoresNamed(t, "protecting what is there", now...)
	must(t, os.Rename(s.disk("anew.img"), s.disk("over.img")))
	s.writeAt(t, "over.img", "by its new name")
	eventually(t, "health tells of the disk", func() bool { return s.status(t).says("disk-removed") })
	p := s.cut(t, true)
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	is, err := digestOf(s.disk("over.img"))
	must(t, err)
	if restored, err := digestOf(filepath.Join(to, "over.img")); err != nil || restored != is {
		t.Errorf("over.img is %v, restored %v: %v", is, restored, err)
	}

	// While no filter is there, a file may get even the inode number of the disk.
	s.filter.stop(t)
	must(t, os.Remove(s.below("linked.img")))
	must(t, os.WriteFile(s.below("linked.img"), fresh, 0o600))
	s.mount(t)
	eventually(t, "health tells of the disk that is missing", func() bool { return s.status(t).tells("linked.img") })
	s.refused(t, []refusal{{[]string{"cut", vm}, 4, []string{"was not found"}}})
	eventually(t, "the filter is not said to be away", func() bool { return !s.status(t).says("filter-away") })
	newChange(randomness(t), 1<<20, 10).write(t, s.disk("linked.img")) // which works as any file
	s.ok(t, nil, "unprotect", vm)
	s.protect(t, "over.img", "linked.img")
	s.restoresNamed(t, "protecting what is left", "over.img", "linked.img")
}

// linkUnnamed makes a file without a name and then gives it one.
func (s *site) linkUnnamed(t *testing.T, name string, content []byte) {
	t.Helper()
	fd, err := unix.Open(s.mountpoint, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	must(t, err)
	f := os.NewFile(uintptr(fd), "unnamed")
	_, err = f.Write(content)
	must(t, err)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, s.disk(name), unix.AT_SYMLINK_FOLLOW))
	must(t, f.Close())
}

// tells tells whether a reason says that.
func (s vmStatus) tells(word string) bool {
	for _, r := range s.Reasons {
		if strings.Contains(r.Text, word) {
			return true
		}
	}
	return false
}
