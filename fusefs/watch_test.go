package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// witness remembers what it was told.
type witness struct {
	mu   sync.Mutex
	told []string
}

func (w *witness) OpenedBelow(by string) { w.note("opened by " + by) }
func (w *witness) ClosedBelow(by string) { w.note("closed by " + by) }

func (w *witness) note(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, text)
}

// since returns what was told since the last call.
func (w *witness) since(s *served) []string {
	s.fs.Look()
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

// want fails the test unless just that was told since the last call.
func (w *witness) want(t *testing.T, s *served, beginnings ...string) {
	t.Helper()
	told := w.since(s)
	if !slices.EqualFunc(told, beginnings, strings.HasPrefix) {
		t.Fatalf("told %q, want %q", told, beginnings)
	}
}

// wantLast is want for what was told last: whoever is quick may have been seen
// at work, or not.
func (w *witness) wantLast(t *testing.T, s *served, beginning string) {
	t.Helper()
	told := w.since(s)
	if n := len(told); n == 0 || !strings.HasPrefix(told[n-1], beginning) {
		t.Fatalf("told %q, want %q at the end", told, beginning)
	}
}

// watchDisk serves a folder with a disk that is protected and watched.
func watchDisk(t *testing.T) (*served, *witness) {
	t.Helper()
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("disk.raw"), make([]byte, 1<<20), 0o644))
	f, err := os.OpenFile(s.below("disk.raw"), os.O_RDWR, 0)
	must(t, err)
	w := &witness{}
	s.fs.Watch(f, w)
	id := s.identify(t, "disk.raw")
	must(t, s.fs.Attach(id, &recorder{t: t}))
	t.Cleanup(func() {
		s.fs.Detach(id)
		must(t, f.Close())
	})
	return s, w
}

func execute(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func patch(t *testing.T, path string) {
	t.Helper()
	execute(t, "dd", "if=/dev/zero", "of="+path, "bs=4096", "count=1", "conv=notrunc", "status=none")
}

// TestWatchTellsWriters: whoever opens the file for writing by another path than
// the mount is told of, also when he is done at once.
func TestWatchTellsWriters(t *testing.T) {
	s, w := watchDisk(t)
	patch(t, s.below("disk.raw"))
	w.wantLast(t, s, "closed by ")
	execute(t, "truncate", "--size=2M", s.below("disk.raw"))
	w.wantLast(t, s, "closed by ")
	link := s.below("link") // a name that the mount would show, too
	must(t, os.Link(s.below("disk.raw"), link))
	patch(t, link)
	w.wantLast(t, s, "closed by ")
	aside := t.TempDir()
	must(t, unix.Mount(s.folder, aside, "", unix.MS_BIND, ""))
	patch(t, filepath.Join(aside, "disk.raw"))
	w.wantLast(t, s, "closed by ")
	must(t, unix.Unmount(aside, 0)) // what the kernel tells holds on to the mount until it is read
	must(t, os.Remove(s.below("disk.raw")))
	patch(t, link)
	w.wantLast(t, s, "closed by ")
}

// TestWatchTellsNothingElse: reading is nothing to be told, and neither is what
// comes through the mount, or to a file that is protected no more.
func TestWatchTellsNothingElse(t *testing.T) {
	s, w := watchDisk(t)
	reader := startHelper(t, helper("hold"), held{Path: s.below("disk.raw")})
	for range 10 {
		execute(t, "cat", s.below("disk.raw"))
		w.want(t, s)
	}
	patch(t, s.path("disk.raw"))
	execute(t, "truncate", "--size=8M", s.path("disk.raw"))
	must(t, writeMapped(s.path("disk.raw"), 5000, []byte("mapped")))
	w.want(t, s)
	must(t, reader.end())
	w.want(t, s)
	s.fs.Detach(s.identify(t, "disk.raw"))
	patch(t, s.below("disk.raw"))
	w.want(t, s)
}

// TestWatchTellsHolders: who keeps the file open is told, however he does it, and
// the last one when he closes it.
func TestWatchTellsHolders(t *testing.T) {
	s, w := watchDisk(t)
	writing := held{Path: s.below("disk.raw"), Flags: os.O_WRONLY}
	reader := startHelper(t, helper("hold"), held{Path: s.below("disk.raw")})
	w.want(t, s)
	first := startHelper(t, helper("hold"), writing)
	w.want(t, s, fmt.Sprintf("opened by exe (pid %d: descriptor", first.command.Process.Pid))
	second := startHelper(t, helper("hold"), writing)
	w.since(s) // the two of them, unless the second one had no descriptor yet when it was looked for
	must(t, first.end())
	w.want(t, s, fmt.Sprintf("opened by exe (pid %d: descriptor", second.command.Process.Pid))
	second.kill(t)
	w.want(t, s, fmt.Sprintf("closed by exe (pid %d", second.command.Process.Pid))

	mapping := startHelper(t, helper("map"), s.below("disk.raw"))
	w.wantLast(t, s, "opened by exe")
	must(t, mapping.end())
	w.wantLast(t, s, "closed by ")
	must(t, reader.end())
	w.want(t, s)

	var hidden *lasting
	func() { // it is looked for when it has hidden
		s.fs.filter.watch.mu.Lock()
		defer s.fs.filter.watch.mu.Unlock()
		hidden = startHelper(t, helper("hold"), held{Path: s.below("disk.raw"), Flags: os.O_WRONLY, Hidden: true})
	}()
	w.want(t, s, "opened by somebody who cannot be seen")
	hidden.kill(t)
	w.want(t, s, "closed by ")
}

// TestWatchTellsLoopDevices: a loop device has its file open without any process.
func TestWatchTellsLoopDevices(t *testing.T) {
	s, w := watchDisk(t)
	device := execute(t, "losetup", "--find", "--show", "--read-only", s.below("disk.raw"))
	w.want(t, s)
	execute(t, "losetup", "--detach", device)
	w.want(t, s)
	device = execute(t, "losetup", "--find", "--show", s.below("disk.raw"))
	w.wantLast(t, s, "opened by the loop device "+device)
	id := s.identify(t, "disk.raw")
	s.fs.Detach(id)
	err := s.fs.Attach(id, &recorder{t: t})
	execute(t, "losetup", "--detach", device)
	if err == nil || !strings.Contains(err.Error(), device) {
		t.Errorf("protected while a loop device stands on it: %v", err)
	}
}

// TestWatchOverflows: when the kernel could not tell of everything, anybody may
// have written.
func TestWatchOverflows(t *testing.T) {
	s, w := watchDisk(t)
	f := s.fs.filter.watch
	f.mu.Lock()
	f.hear(unix.FAN_Q_OVERFLOW, unix.FAN_NOFD, 0)
	f.mu.Unlock()
	w.want(t, s, "closed by ")
}
