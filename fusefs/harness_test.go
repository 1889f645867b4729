package fusefs

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// served is a filter over a folder of its own, mounted beside it, so that tests
// can look at both sides.
type served struct {
	fs     *FS
	mount  *Mount
	folder string
	point  string
}

type serveOption func(*Options, *filter)

func withoutPassthrough(o *Options, _ *filter) { o.NoPassthrough = true }

// protectingAll gives every regular file a disk.
func protectingAll(make func(FileID) Disk) serveOption {
	return func(_ *Options, f *filter) {
		if f != nil {
			f.protect = make
		}
	}
}

// withoutHandles makes the filter work as where it may not open file handles.
func withoutHandles(_ *Options, f *filter) {
	if f != nil {
		f.handles = false
		root := f.nodes.get(1)
		delete(f.nodes.byKey, root.key)
		root.key.handle = ""
		f.nodes.byKey[root.key] = root
	}
}

// serveFolder mounts a fresh folder until the test ends. Descriptors that the
// filter leaks fail the test.
func serveFolder(t *testing.T, options ...serveOption) *served {
	t.Helper()
	if _, err := os.Stat(fuseDevicePath); err != nil || os.Geteuid() != 0 {
		t.Fatalf("these tests mount: they need %s and root (%v)", fuseDevicePath, err)
	}
	before := openDescriptors(t)
	s := &served{folder: filepath.Join(t.TempDir(), "folder"), point: filepath.Join(t.TempDir(), "mount")}
	for _, dir := range []string{s.folder, s.point} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Folder: s.folder, Logger: testLogger(t)}
	for _, option := range options {
		option(&o, nil)
	}
	var err error
	if s.fs, err = Open(o); err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		option(&o, s.fs.filter)
	}
	if s.mount, err = s.fs.Mount(s.point); err != nil {
		t.Fatal(err)
	}
	forgoPolling(t, s.path("poll"))
	t.Cleanup(func() {
		s.end(t)
		if after := openDescriptors(t); len(after) > len(before) {
			t.Errorf("descriptors leaked: %d before, %d after: %s", len(before), len(after), strings.Join(after, "\n"))
		}
	})
	return s
}

// forgoPolling lets the kernel ask, once, whether files can be polled. Go asks
// that of every file it opens, in a system call during which the scheduler
// cannot run the filter if it is in the same process, as it is in tests.
func forgoPolling(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	must(t, err)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	must(t, err)
	must(t, unix.Close(fd))
	must(t, unix.Unlink(path))
}

func (s *served) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := s.mount.Unmount(ctx); err != nil {
		t.Errorf("unmount: %v", err)
		if err := detach(s.point); err != nil {
			t.Errorf("detach: %v", err)
		}
		<-s.mount.Done()
	}
	if err := s.fs.Close(); err != nil {
		t.Error(err)
	}
}

// path names a file on the mount, below one in the folder.
func (s *served) path(name string) string  { return filepath.Join(s.point, name) }
func (s *served) below(name string) string { return filepath.Join(s.folder, name) }

func (s *served) count(operation string) uint64 { return s.fs.Stats().Operations[operation] }

// identify returns the inode of a file by its name.
func (s *served) identify(t *testing.T, name string) FileID {
	t.Helper()
	id, err := s.fs.Identify(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func openDescriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && !strings.Contains(target, "/proc/") && !strings.HasPrefix(target, "anon_inode:") {
			open = append(open, e.Name()+" -> "+target)
		}
	}
	return open
}

// testLogger writes into the test's log until the test is over.
func testLogger(t *testing.T) *slog.Logger {
	w := &logWriter{t: t}
	t.Cleanup(w.stop)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type logWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(string(bytes.TrimSpace(p)))
	}
	return len(p), nil
}

func (w *logWriter) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
