package integration

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"lifeboat/replica/blobstore/blobstoretest/azurite"
	"lifeboat/tracker/control"
)

// vm is the name of the VM that the tests protect.
const vm = "web01"

// site is a host of a test's own: a folder with disks, a filter, a sidecar, and
// a store.
type site struct {
	dir        string
	folder     string          // of the disks
	mountpoint string          // the folder itself, unless the test looks at both sides
	store      string          // URL
	azurite    *azurite.Server // nil if the store is a directory
	env        []string
	kept       bool   // the mount has a keeper
	program    string // what filter and sidecar are: raced, unless the test measures

	filter, sidecar *process
	processes       []*process // all that were ever started
	commands        atomic.Uint64
}

// newSite makes a site whose store is a directory. When the test ends, whatever
// still runs is stopped in good order, and what is left behind fails the test.
func newSite(t *testing.T) *site {
	t.Helper()
	requireFUSE(t)
	// Not t.TempDir: sockets have short paths, and what hangs must not be
	// walked through when the test ends.
	dir, err := os.MkdirTemp("", "lifeboat-it-")
	must(t, err)
	s := &site{dir: dir, folder: filepath.Join(dir, "vms"), store: "file://" + filepath.Join(dir, "store"), program: raced, kept: keptByDefault}
	s.mountpoint = s.folder
	for _, sub := range []string{"vms", "run", "state"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	s.env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LIFEBOAT_") || strings.HasPrefix(v, "AZURE_") || strings.HasPrefix(v, "GORACE=")
	})
	s.env = append(
		s.env, "LIFEBOAT_RUNTIME_DIR="+filepath.Join(dir, "run"), "LIFEBOAT_STATE_DIR="+filepath.Join(dir, "state"),
		"GORACE=atexit_sleep_ms=0",
	)
	t.Cleanup(func() { s.end(t) })
	return s
}

// requireFUSE fails the test where it cannot mount: a skipped one would hide
// that nothing was shown.
func requireFUSE(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Fatalf("this test mounts: it needs /dev/fuse and root (%v)", err)
	}
}

// newAzureSite makes a site whose store is a container in a real Azurite of the
// test's own.
func newAzureSite(t *testing.T) *site {
	t.Helper()
	server := azurite.Start(t) // first, so that it outlives the sidecar
	s := newSite(t)
	s.azurite, s.store = server, server.URL("vms")
	s.env = append(s.env, server.Environ()...)
	return s
}

// besideFolder has the filter mounted elsewhere, so that the test sees the
// backing files, too.
func (s *site) besideFolder(t *testing.T) {
	t.Helper()
	s.mountpoint = filepath.Join(s.dir, "mount")
	must(t, os.Mkdir(s.mountpoint, 0o700))
}

// disk returns a disk's path on the mount, below that in the folder.
func (s *site) disk(name string) string  { return filepath.Join(s.mountpoint, name) }
func (s *site) below(name string) string { return filepath.Join(s.folder, name) }

// makeDisk makes an empty, sparse disk image.
func (s *site) makeDisk(t *testing.T, name string, size int64) {
	t.Helper()
	f, err := os.Create(s.below(name))
	must(t, err)
	must(t, errors.Join(f.Truncate(size), f.Close()))
}

func (s *site) mount(t *testing.T) {
	t.Helper()
	args := []string{"mount", s.folder, s.mountpoint}
	if s.kept {
		args = slices.Insert(args, 1, "--keeper")
	}
	s.filter = startProcess(t, s, "filter", args...)
	if s.kept {
		s.filter.control = control.SocketPath(filepath.Join(s.dir, "run"), s.mountpoint)
	}
}

func (s *site) upload(t *testing.T, flags ...string) {
	t.Helper()
	args := []string{"upload", "--store", s.store, "--create"}
	s.sidecar = startProcess(t, s, "sidecar", append(args, flags...)...)
}

// end stops what runs and looks for what was left.
func (s *site) end(t *testing.T) {
	// The sidecar first: it would tell of a filter that is away.
	for _, p := range []*process{s.sidecar, s.filter} {
		if p != nil && p.running() {
			p.stop(t)
		} else if p != nil && !p.killed.Load() && p.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("%s ended by itself: %v", p.name, p.cmd.ProcessState)
		}
	}
	for _, p := range s.processes {
		if p.running() {
			t.Errorf("%s, process %d, was forgotten", p.name, p.cmd.Process.Pid)
			p.kill(t)
		}
	}
	for _, point := range mountsBelow(t, s.dir) {
		// One that a killed filter left is no leak of the product's, but a
		// test has to take it away.
		t.Errorf("leaked mount: %s", point)
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
	for _, leaked := range processesOf(t, s.dir) {
		t.Errorf("leaked process: %s", leaked)
	}
	for _, p := range s.processes {
		p.judge(t, p == s.filter || p == s.sidecar)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Error(err)
	}
}
