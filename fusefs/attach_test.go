package fusefs

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// hold starts a process that keeps a file open as standard output until the
// test ends, and returns its pid.
func hold(t *testing.T, path string, flags int) int {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	must(t, err)
	pid := holdFile(t, f)
	must(t, f.Close())
	return pid
}

func holdFile(t *testing.T, f *os.File) int {
	t.Helper()
	holder := exec.Command("cat") // waits for its standard input
	holder.Stdout = f
	in, err := holder.StdinPipe()
	must(t, err)
	must(t, holder.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = holder.Wait()
	})
	return holder.Process.Pid
}

func wantBusy(t *testing.T, err error, pid int) {
	t.Helper()
	busy, ok := errors.AsType[*BusyError](err)
	if !ok {
		t.Fatalf("got %v, want a BusyError", err)
	}
	for _, h := range busy.Holders {
		if h.PID == pid && h.Command != "" {
			return
		}
	}
	t.Fatalf("%v does not name process %d", err, pid)
}

func TestAttachRefusesPassthrough(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("plain"), []byte("no disk"), 0o644))
	id := s.identify(t, "plain")
	f, err := os.OpenFile(s.path("plain"), os.O_RDWR, 0)
	must(t, err)
	pid := holdFile(t, f)
	must(t, f.Close())
	wantBusy(t, s.fs.Attach(id, &recorder{t: t}), pid)
}

func TestAttachRefusesForeignWriter(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("disk.raw"), []byte("data"), 0o644))
	id := s.identify(t, "disk.raw")
	t.Run("reader", func(t *testing.T) {
		hold(t, s.below("disk.raw"), os.O_RDONLY)
		must(t, s.fs.Attach(id, &recorder{t: t}))
		s.fs.Detach(id)
	})
	t.Run("mapping", func(t *testing.T) {
		l := startHelper(t, helper("map"), s.below("disk.raw"))
		wantBusy(t, s.fs.Attach(id, &recorder{t: t}), l.command.Process.Pid)
		must(t, l.end())
	})
	t.Run("writer", func(t *testing.T) {
		pid := hold(t, s.below("disk.raw"), os.O_RDWR)
		wantBusy(t, s.fs.Attach(id, &recorder{t: t}), pid)
	})
}

// TestAttachAllowsUsers has a disk protected while a VM has it open on the
// mount: that must go without closing it, and all later writes be told.
func TestAttachAllowsUsers(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("disk.vhdx"), make([]byte, 8192), 0o644))
	f, err := os.OpenFile(s.path("disk.vhdx"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close() //nolint:errcheck // the writes are checked
	d := &recorder{t: t}
	must(t, s.fs.Attach(s.identify(t, "disk.vhdx"), d))
	_, err = f.WriteAt([]byte("x"), 5000)
	must(t, err)
	if told := d.take(); len(told) != 1 || told[0] != (span{5000, 5001}) {
		t.Errorf("told %v", told)
	}
	if err := s.fs.Attach(s.identify(t, "disk.vhdx"), d); !errors.Is(err, ErrAttached) {
		t.Errorf("a second disk: %v", err)
	}
	s.fs.Detach(s.identify(t, "disk.vhdx"))
	_, err = f.WriteAt([]byte("x"), 5000)
	must(t, err)
	if told := d.take(); len(told) != 0 {
		t.Errorf("told %v after the end of protection", told)
	}
}

// TestAttachQuiesces has writers at work on a file all the time while a disk is
// attached. After Attach every change must be told: the file is copied when it
// returns, and what differs later must be in the ranges told.
func TestAttachQuiesces(t *testing.T) {
	s := serveFolder(t, withoutPassthrough)
	const size = 1 << 20
	must(t, os.WriteFile(s.below("disk"), make([]byte, size), 0o644))
	id := s.identify(t, "disk")
	for round := range 8 {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				f, err := os.OpenFile(s.path("disk"), os.O_RDWR, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close() //nolint:errcheck // the writes are checked
				p := make([]byte, 64<<10)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					for k := range p {
						p[k] = byte(round + i + w)
					}
					if _, err := f.WriteAt(p, int64(i*7919*4096+w)%(size-int64(len(p)))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		d := &recorder{t: t}
		must(t, s.fs.Attach(id, d))
		// The copy is taken while writers go on: what they write from now on is
		// told. A change that was in flight at Attach would tear it unseen.
		d.mu.Lock()
		before := read(t, s.below("disk"))
		d.mu.Unlock()
		for d.count() < 20 {
			unix.Getpid()
		}
		close(stop)
		writers.Wait()
		if at := untold(before, read(t, s.below("disk")), d.take()); at >= 0 {
			t.Fatalf("round %d: byte %d changed after Attach and was not told", round, at)
		}
		d.idle(t)
		s.fs.Detach(id)
	}
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// porter is a Disk that makes changes wait at their beginning.
type porter struct {
	recorder
	came chan struct{}
	let  chan struct{}
}

func (p *porter) BeginChange(offset, length int64) uint64 {
	p.came <- struct{}{}
	<-p.let
	return p.recorder.BeginChange(offset, length)
}

// TestAnticipate: an early disk is told of changes until another one takes its
// place, which is not before they are over.
func TestAnticipate(t *testing.T) {
	s := serveFolder(t, withoutPassthrough)
	must(t, os.WriteFile(s.below("disk"), make([]byte, 8192), 0o644))
	id := s.identify(t, "disk")
	early, d := &porter{recorder{t: t}, make(chan struct{}), make(chan struct{})}, &recorder{t: t}
	s.fs.Anticipate(id, early)
	f, err := os.OpenFile(s.path("disk"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close() //nolint:errcheck // the writes are checked
	written, attached := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := f.WriteAt([]byte("early"), 100)
		written <- err
	}()
	<-early.came
	go func() { attached <- s.fs.Attach(id, d) }()
	close(early.let)
	must(t, <-attached)
	early.idle(t)
	must(t, <-written)
	if told := early.take(); len(told) != 1 || told[0] != (span{100, 105}) {
		t.Errorf("the early disk was told %v", told)
	}
	_, err = f.WriteAt([]byte("late"), 200)
	must(t, err)
	if told := d.take(); len(told) != 1 || told[0] != (span{200, 204}) {
		t.Errorf("its successor was told %v", told)
	}
	if err := s.fs.Attach(id, early); !errors.Is(err, ErrAttached) {
		t.Errorf("a second successor: %v", err)
	}
	s.fs.Anticipate(id, early)
	s.fs.Detach(id)
	_, err = f.WriteAt([]byte("nobody"), 300)
	must(t, err)
	must(t, s.fs.Attach(id, d))
}

func TestAttachBeforeFirstLookup(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("disk"), []byte("data"), 0o644))
	d := &recorder{t: t}
	must(t, s.fs.Attach(s.identify(t, "disk"), d))
	must(t, os.Truncate(s.path("disk"), 2))
	if told := d.take(); len(told) != 1 || told[0].from != 2 {
		t.Errorf("told %v", told)
	}
}

func TestNameRemoved(t *testing.T) {
	s := serveFolder(t)
	protect := func(name string) *recorder {
		must(t, os.WriteFile(s.path(name), []byte(name), 0o644))
		d := &recorder{t: t}
		must(t, s.fs.Attach(s.identify(t, name), d))
		return d
	}
	want := func(what string, d *recorder, removals int) {
		t.Helper()
		if got := d.removed(); got != removals {
			t.Errorf("%s: told of %d removed names, want %d", what, got, removals)
		}
	}
	a, b := protect("a"), protect("b")
	must(t, os.Rename(s.path("a"), s.path("c")))
	want("rename", a, 0)
	must(t, unix.Renameat2(unix.AT_FDCWD, s.path("c"), unix.AT_FDCWD, s.path("b"), unix.RENAME_EXCHANGE))
	want("exchange", a, 0)
	want("exchange", b, 0)
	must(t, os.Link(s.path("b"), s.path("again")))
	must(t, os.Rename(s.path("b"), s.path("again"))) // does nothing
	want("rename over a link of its own", a, 0)
	must(t, os.Remove(s.path("again")))
	want("unlink of one of two names", a, 1)
	must(t, os.WriteFile(s.path("new"), []byte("new"), 0o644))
	must(t, os.Rename(s.path("new"), s.path("b")))
	want("rename over", a, 2)
	must(t, os.Remove(s.path("c")))
	want("unlink", b, 1)
	if err := unix.Renameat2(unix.AT_FDCWD, s.path("nothing"), unix.AT_FDCWD, s.path("b"), 0); !errors.Is(err, unix.ENOENT) {
		t.Errorf("rename of nothing: %v", err)
	}
}

// TestDiskEndsWithItsInode: when a protected file is gone for good, its inode
// number may become another file's, which has nothing to do with the disk.
func TestDiskEndsWithItsInode(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.path("disk"), []byte("data"), 0o644))
	id := s.identify(t, "disk")
	d := &recorder{t: t}
	must(t, s.fs.Attach(id, d))
	f, err := os.OpenFile(s.path("disk"), os.O_RDWR, 0)
	must(t, err)
	must(t, os.Remove(s.path("disk")))
	_, err = f.WriteAt([]byte("more"), 0)
	must(t, err)
	if told := d.take(); len(told) != 1 {
		t.Errorf("a write to the removed file was told as %v", told)
	}
	must(t, f.Close())
	forgotten := func() bool { return len(s.fs.filter.nodes.of(id)) == 0 }
	for i := 0; i < 1000 && !forgotten(); i++ {
		_, _ = os.ReadDir(s.point) // the kernel forgets in its own time
	}
	if !forgotten() {
		t.Fatal("the kernel never forgot the removed file")
	}
	if s.fs.filter.nodes.disk(id, false) != nil {
		t.Error("the disk outlives its inode")
	}
}

func TestBusyErrorText(t *testing.T) {
	err := &BusyError{What: "x is in use", Holders: []Holder{{PID: 7, Command: "qemu", Uses: []string{"cwd"}}}}
	for _, part := range []string{"x is in use", "qemu", "7", "cwd"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}
