package fusefs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOverItself mounts over the folder itself: the mount must reach what it
// covers.
func TestOverItself(t *testing.T) {
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "file"), []byte("below"), 0o644))
	fs, err := Open(Options{Folder: folder, Logger: testLogger(t)})
	must(t, err)
	m, err := fs.Mount("")
	must(t, err)
	s := &served{fs: fs, mount: m, folder: fs.Folder(), point: folder}
	forgoPolling(t, s.path("poll"))
	if got := string(read(t, s.path("file"))); got != "below" {
		t.Errorf("read %q", got)
	}
	must(t, os.WriteFile(s.path("new"), []byte("through the mount"), 0o644))
	if got := string(read(t, s.below("new"))); got != "through the mount" {
		t.Errorf("below there is %q", got)
	}
	if e, ok, err := topMount(folder); err != nil || !ok || e.fsType != "fuse.lifeboat" {
		t.Errorf("the mount table has %+v, %v, %v", e, ok, err)
	}
	if _, err := Open(Options{Folder: folder}); !errors.Is(err, ErrServed) {
		t.Errorf("a second filter on the folder: %v", err)
	}
	s.end(t)
	if got := string(read(t, filepath.Join(folder, "new"))); got != "through the mount" {
		t.Errorf("after the unmount there is %q", got)
	}
}

// TestDeadMount kills a filter and mounts again, more than once in case dead
// mounts pile up.
func TestDeadMount(t *testing.T) {
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "file"), []byte("data"), 0o644))
	for range 2 {
		startHelper(t, helper("serve"), folder).kill(t)
		if _, err := os.ReadDir(folder); !errors.Is(err, unix.ENOTCONN) {
			t.Fatalf("a dead mount gives %v", err)
		}
	}
	fs, err := Open(Options{Folder: folder, Logger: testLogger(t)})
	must(t, err)
	if got := string(read(t, filepath.Join(folder, "file"))); got != "data" {
		t.Errorf("the folder is not what it was: %q", got)
	}
	m, err := fs.Mount("")
	must(t, err)
	(&served{fs: fs, mount: m, point: folder}).end(t)
	if _, ok, err := topMount(folder); ok || err != nil {
		t.Errorf("something is mounted still (%v)", err)
	}
}

func TestUnmountBusy(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.path("file"), nil, 0o644))
	f, err := os.Open(s.path("file"))
	must(t, err)
	pid := holdFile(t, f)
	must(t, f.Close())
	err = s.mount.Unmount(t.Context())
	wantBusy(t, err, pid)
	if !strings.Contains(err.Error(), s.point) {
		t.Errorf("%q does not name the mount", err)
	}
	if got := read(t, s.path("file")); len(got) != 0 { // it still works
		t.Error("the refused unmount broke the mount")
	}
}

// TestUnmountElsewhere has somebody else unmount.
func TestUnmountElsewhere(t *testing.T) {
	s := serveFolder(t)
	must(t, unix.Unmount(s.point, 0))
	must(t, s.mount.Wait())
	must(t, s.mount.Unmount(t.Context()))
}

func TestUnmountCovered(t *testing.T) {
	s := serveFolder(t)
	must(t, unix.Mount("lifeboat-test", s.point, "tmpfs", 0, "size=64k"))
	if err := s.mount.Unmount(t.Context()); err == nil || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("unmounting under another mount: %v", err)
	}
	must(t, unix.Unmount(s.point, 0))
}

func TestBadOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for name, o := range map[string]Options{
		"no folder":       {},
		"missing folder":  {Folder: "/nonexistent/folder"},
		"file":            {Folder: file},
		"readers":         {Folder: t.TempDir(), Readers: -1},
		"bad pattern":     {Folder: t.TempDir(), Excluded: []string{"[x"}},
		"pattern of path": {Folder: t.TempDir(), Excluded: []string{"a/b"}},
	} {
		if fs, err := Open(o); err == nil {
			t.Errorf("%s: no error", name)
			must(t, fs.Close())
		}
	}
}

func TestParseMount(t *testing.T) {
	line := `36 35 0:52 / /srv/my\040vms\134x rw,nosuid shared:1 master:2 - fuse.lifeboat lifeboat rw` + "\n"
	e, ok := parseMount(line)
	if want := (mountEntry{device: unix.Mkdev(0, 52), point: `/srv/my vms\x`, fsType: "fuse.lifeboat"}); !ok || e != want {
		t.Errorf("got %+v, %v", e, ok)
	}
	for _, bad := range []string{"", "36 35 0:52 / /x rw", "36 35 zero / /x rw - ext4", "a b - "} {
		if _, ok := parseMount(bad); ok {
			t.Errorf("%q is taken for a mount", bad)
		}
	}
}
