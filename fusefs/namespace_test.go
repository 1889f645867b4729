package fusefs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLargeDirectory lists 5000 names, also while others come and go: what is
// there all the time is listed exactly once.
func TestLargeDirectory(t *testing.T) {
	const files = 5000
	s := serveFolder(t)
	must(t, os.Mkdir(s.below("dir"), 0o755))
	want := make(map[string]int)
	for i := range files {
		name := fmt.Sprintf("file-%d", i)
		must(t, os.WriteFile(s.below("dir/"+name), nil, 0o644))
		want[name] = 1
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := s.path("dir/passing-" + strconv.Itoa(i%50))
			_ = os.WriteFile(name, nil, 0o644)
			_ = os.Remove(name)
		}
	}()
	for range 3 {
		entries, err := os.ReadDir(s.path("dir"))
		must(t, err)
		got := make(map[string]int)
		for _, e := range entries {
			if _, known := want[e.Name()]; known {
				got[e.Name()]++
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%d names are listed, some of them more than once or not at all", len(got))
		}
	}
	close(stop)
	<-stopped
}

// TestRewind reads a directory to its end and again from the start with one
// descriptor, and from a position in between.
func TestRewind(t *testing.T) {
	s := serveFolder(t)
	for i := range 300 {
		must(t, os.WriteFile(s.below("file-"+strconv.Itoa(i)), nil, 0o644))
	}
	dir, err := os.Open(s.point)
	must(t, err)
	defer dir.Close() //nolint:errcheck // only read
	first, err := dir.Readdirnames(-1)
	must(t, err)
	_, err = dir.Seek(0, 0)
	must(t, err)
	second, err := dir.Readdirnames(-1)
	must(t, err)
	if !slices.Equal(first, second) || len(first) != 300 {
		t.Errorf("%d names at first, %d after the rewind", len(first), len(second))
	}
}

func TestHardLinks(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.path("one"), []byte("data"), 0o644))
	must(t, os.Link(s.path("one"), s.path("two")))
	must(t, os.Symlink("one", s.path("pointer")))
	must(t, os.Link(s.path("pointer"), s.path("pointer-too")))
	one, two := lstat(t, s.path("one")), lstat(t, s.path("two"))
	if one.Ino != two.Ino || two.Nlink != 2 {
		t.Errorf("inodes %d and %d, %d links", one.Ino, two.Ino, two.Nlink)
	}
	if target, err := os.Readlink(s.path("pointer-too")); err != nil || target != "one" {
		t.Errorf("a link of a symbolic link leads to %q, %v", target, err)
	}
	if a, b := nodeOf(t, s, "one"), nodeOf(t, s, "two"); a != b {
		t.Error("two names of one inode have two nodes")
	}
	must(t, os.Remove(s.path("one")))
	if got := string(read(t, s.path("two"))); got != "data" {
		t.Errorf("after the removal of its other name it holds %q", got)
	}
}

// TestRenameOverOpen renames over a file that is open: the open one stays what
// it was, the name is the new one, and their nodes do not mix.
func TestRenameOverOpen(t *testing.T) {
	for _, options := range [][]serveOption{{}, {withoutPassthrough}, {withoutHandles}} {
		s := serveFolder(t, options...)
		must(t, os.WriteFile(s.path("old"), []byte("old"), 0o644))
		must(t, os.WriteFile(s.path("new"), []byte("new"), 0o644))
		f, err := os.OpenFile(s.path("old"), os.O_RDWR, 0)
		must(t, err)
		must(t, os.Rename(s.path("new"), s.path("old")))
		_, err = f.WriteAt([]byte("O"), 0)
		must(t, err)
		must(t, f.Sync())
		p := make([]byte, 3)
		_, err = f.ReadAt(p, 0)
		must(t, err)
		if string(p) != "Old" || string(read(t, s.path("old"))) != "new" {
			t.Errorf("the open file holds %q, the name leads to %q", p, read(t, s.path("old")))
		}
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		if st.Nlink != 0 {
			t.Errorf("the open file has %d links", st.Nlink)
		}
		must(t, f.Close())
	}
}

func TestRenameFlags(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.path("a"), []byte("a"), 0o644))
	must(t, os.WriteFile(s.path("b"), []byte("b"), 0o644))
	rename := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, s.path(from), unix.AT_FDCWD, s.path(to), flags)
	}
	if err := rename("a", "b", unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("RENAME_NOREPLACE: %v", err)
	}
	must(t, rename("a", "b", unix.RENAME_EXCHANGE))
	if got := string(read(t, s.path("a"))) + string(read(t, s.path("b"))); got != "ba" {
		t.Errorf("after RENAME_EXCHANGE: %q", got)
	}
	must(t, rename("a", "c", unix.RENAME_WHITEOUT))
	if st := lstat(t, s.path("a")); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("RENAME_WHITEOUT left mode %o, device %d", st.Mode, st.Rdev)
	}
}

// TestTmpfile makes a file without a name, writes to it, and names it.
func TestTmpfile(t *testing.T) {
	for _, options := range [][]serveOption{{}, {withoutHandles}} {
		s := serveFolder(t, options...)
		fd, err := unix.Open(s.point, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
		must(t, err)
		_, err = unix.Pwrite(fd, []byte("data"), 0)
		must(t, err)
		if names := namesIn(t, s.point); len(names) != 0 {
			t.Errorf("it has the names %q", names)
		}
		must(t, unix.Linkat(unix.AT_FDCWD, descriptorPath(fd), unix.AT_FDCWD, s.path("named"), unix.AT_SYMLINK_FOLLOW))
		_, err = unix.Pwrite(fd, []byte("D"), 0)
		must(t, err)
		must(t, unix.Close(fd))
		if got := string(read(t, s.path("named"))); got != "Data" {
			t.Errorf("it holds %q", got)
		}
		if st := lstat(t, s.path("named")); st.Mode&permissions != 0o640 || st.Nlink != 1 {
			t.Errorf("mode %o, %d links", st.Mode, st.Nlink)
		}
	}
}

// TestXattr has attributes of files, directories and symbolic links.
func TestXattr(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.path("file"), nil, 0o644))
	must(t, os.Mkdir(s.path("dir"), 0o755))
	must(t, os.Symlink("file", s.path("link")))
	for _, c := range []struct{ file, name string }{
		{"file", "user.one"}, {"dir", "user.one"}, {"link", "trusted.one"},
	} {
		path := s.path(c.file)
		must(t, unix.Lsetxattr(path, c.name, []byte("value"), unix.XATTR_CREATE))
		if err := unix.Lsetxattr(path, c.name, nil, unix.XATTR_CREATE); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: made twice: %v", c.file, err)
		}
		p := make([]byte, 100)
		k, err := unix.Lgetxattr(path, c.name, p)
		if err != nil || string(p[:k]) != "value" {
			t.Errorf("%s: %q, %v", c.file, p[:max(k, 0)], err)
		}
		if _, err := unix.Lgetxattr(path, c.name, p[:1]); !errors.Is(err, unix.ERANGE) {
			t.Errorf("%s: too little room: %v", c.file, err)
		}
		k, err = unix.Llistxattr(path, p)
		if err != nil || string(p[:k]) != c.name+"\x00" {
			t.Errorf("%s: list %q, %v", c.file, p[:max(k, 0)], err)
		}
		must(t, unix.Lremovexattr(path, c.name))
		if _, err := unix.Lgetxattr(path, c.name, p); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s: after the removal: %v", c.file, err)
		}
	}
}

// TestIdleDescriptors looks at more files than descriptors are kept for.
func TestIdleDescriptors(t *testing.T) {
	s := serveFolder(t, func(_ *Options, f *filter) {
		if f != nil {
			f.idle.limit = 10
		}
	})
	for i := range 200 {
		name := "file-" + strconv.Itoa(i)
		must(t, os.WriteFile(s.below(name), []byte(name), 0o644))
		if got := string(read(t, s.path(name))); got != name {
			t.Fatalf("%s holds %q", name, got)
		}
	}
	if stats := s.fs.Stats(); stats.IdleNodes > 50 {
		t.Errorf("%d nodes keep descriptors", stats.IdleNodes)
	}
	for i := range 200 {
		name := "file-" + strconv.Itoa(i)
		if got := string(read(t, s.path(name))); got != name {
			t.Fatalf("the second time, %s holds %q", name, got)
		}
	}
}

// TestNodeIDs removes and makes files, whose inode numbers the file system
// below uses again: node ids must not be.
func TestNodeIDs(t *testing.T) {
	s := serveFolder(t)
	seen := make(map[uint64]bool)
	inodes := make(map[uint64]bool)
	for range 50 {
		must(t, os.WriteFile(s.path("file"), []byte("x"), 0o644))
		n := nodeOf(t, s, "file")
		if seen[n.id] {
			t.Fatalf("node id %#x is used twice", n.id)
		}
		seen[n.id] = true
		inodes[n.key.file.Inode] = true
		must(t, os.Remove(s.path("file")))
	}
	if len(inodes) == 50 {
		t.Log("the file system below used no inode number twice")
	}
}

func lstat(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var s syscall.Stat_t
	must(t, syscall.Lstat(path, &s))
	return s
}
