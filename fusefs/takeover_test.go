package fusefs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// succession is a mount that is kept while filters come and go. The keeper and
// the filters are processes of their own: this one uses the mount.
type succession struct {
	t       *testing.T
	dir     string // of everything
	keeper  *exec.Cmd
	orders  *json.Encoder
	close   func() error // the keeper's standard input
	events  *bufio.Scanner
	filters int  // that were started
	ready   bool // the last of them is
}

// succeed says at which request a filter dies.
type succeed struct {
	Opcode   uint32 // 0: of none
	Executed bool   // not before it did it, but before it answers
}

// order has the keeper kill the filter; those that follow die as said, and the
// one after them lives.
type order struct{ Next []succeed }

// startSuccession has a mount kept until the test ends.
func startSuccession(t *testing.T) *succession {
	t.Helper()
	s := &succession{t: t, dir: t.TempDir(), keeper: helper("keep")}
	for _, dir := range []string{"folder", "mount"} {
		must(t, os.Mkdir(filepath.Join(s.dir, dir), 0o755))
	}
	in, err := s.keeper.StdinPipe()
	must(t, err)
	out, err := s.keeper.StdoutPipe()
	must(t, err)
	must(t, s.keeper.Start())
	s.orders, s.close, s.events = json.NewEncoder(in), in.Close, bufio.NewScanner(out)
	t.Cleanup(func() {
		if err := errors.Join(s.close(), s.keeper.Wait()); err != nil {
			t.Errorf("the keeper: %v", err)
		}
	})
	must(t, s.orders.Encode(s.dir))
	s.await(1)
	forgoPolling(t, s.path("poll"))
	return s
}

func (s *succession) path(name string) string  { return filepath.Join(s.dir, "mount", name) }
func (s *succession) below(name string) string { return filepath.Join(s.dir, "folder", name) }

// await waits until so many filters were started and the last one is ready: one
// that dies at a request may do so before.
func (s *succession) await(n int) {
	s.t.Helper()
	for s.filters < n || !s.ready {
		s.event()
	}
}

// event waits for something to happen to a filter.
func (s *succession) event() {
	s.t.Helper()
	if !s.events.Scan() {
		s.t.Fatalf("the keeper ended after %d filters (%v)", s.filters, s.events.Err())
	}
	if s.ready = s.events.Text() == ready; !s.ready {
		s.filters++
	}
}

// order ends the filter, and returns when it is dead. The next, and those after
// it, die as said.
func (s *succession) order(next ...succeed) {
	s.t.Helper()
	must(s.t, s.orders.Encode(order{next}))
	for n := s.filters; s.filters == n; {
		s.event()
	}
}

// kill ends the filter and waits for the next.
func (s *succession) kill() {
	s.t.Helper()
	s.order()
	s.await(s.filters)
}

// helpKeep keeps a mount of dir/folder on dir/mount until its standard input is
// closed, and says a line when a filter is started and when it is ready.
func helpKeep(arguments json.RawMessage) error {
	var dir string
	if err := json.Unmarshal(arguments, &dir); err != nil {
		return err
	}
	mount, err := Establish(filepath.Join(dir, "folder"), filepath.Join(dir, "mount"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer mount.Close()
	if !mount.Resends {
		return errors.Join(errors.New("this kernel cannot send requests again: Linux 6.9 can"), mount.Abandon())
	}
	k := &testKeeper{mount: mount, held: handover.NewHeld(), deaths: make(chan succeed, 10)}
	kept := make(chan error, 1)
	go func() { kept <- k.keep() }()
	for orders := json.NewDecoder(os.Stdin); ; {
		var o order
		if err := orders.Decode(&o); err != nil {
			break // that is all
		}
		for _, d := range o.Next {
			k.deaths <- d
		}
		k.kill()
	}
	err = mount.Abandon()
	k.kill() // if the mount is in use
	return errors.Join(err, <-kept)
}

// testKeeper is a keeper without patience, pauses or mercy.
type testKeeper struct {
	mount   *Established
	held    *handover.Held
	deaths  chan succeed // of the next filters
	mu      sync.Mutex
	current *exec.Cmd
}

func (k *testKeeper) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		_ = k.current.Process.Kill() // it may have ended
	}
}

func (k *testKeeper) keep() error {
	for {
		d := succeed{}
		select {
		case d = <-k.deaths:
		default:
		}
		if err := k.serve(d); err != nil {
			return err
		}
		if top, ok, err := topMount(k.mount.Point); err != nil || !ok || top.fsType != mountType {
			return err
		}
	}
}

// serve has one filter serve the mount until it is dead.
func (k *testKeeper) serve(d succeed) error {
	ours, fd, err := handover.Pair()
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(fd), "socket")
	defer ours.Close()
	argument, err := json.Marshal(d)
	if err != nil {
		return err
	}
	c := helper("succeed")
	c.ExtraFiles, c.Stdin = []*os.File{theirs}, bytes.NewReader(argument)
	k.mu.Lock()
	err = errors.Join(c.Start(), theirs.Close())
	k.current = c
	k.mu.Unlock()
	if err != nil {
		return err
	}
	fmt.Println("started")
	err = handover.Introduce(ours, k.mount.Device, k.mount.Folder, k.mount.State)
	if err == nil {
		err = handover.Keep(ours, k.held, func(w handover.Word, _ uint64, _ string) {
			switch w {
			case handover.Prepared:
				_ = handover.Begin(ours, k.held) // or it is dead
			case handover.Ready:
				fmt.Println(ready)
			}
		})
	}
	end := c.Wait()
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return nil
	}
	return errors.Join(err, end)
}

// helpSucceed is a filter that a test keeps.
func helpSucceed(arguments json.RawMessage) error {
	var d succeed
	if err := json.Unmarshal(arguments, &d); err != nil {
		return err
	}
	estate, err := handover.Take(handover.NewSocket(3))
	if err != nil {
		return err
	}
	fs, err := Open(Options{Estate: estate})
	if err != nil {
		return err
	}
	if d.Opcode != 0 {
		fs.filter.spy = func(executed bool, header *fuse.InHeader) {
			if header.Opcode == d.Opcode && executed == d.Executed {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until it arrives
			}
		}
	}
	m, err := fs.Mount("")
	if err != nil {
		return err
	}
	if err := estate.Ready(); err != nil {
		return err
	}
	return errors.Join(m.Wait(), fs.Close())
}

// opcodes of what changes something.
var opcodeOf = func() map[string]uint32 {
	codes := map[string]uint32{}
	for code, name := range operationNames {
		codes[name] = code
	}
	return codes
}()

// TestReplay has a filter killed at a request, before it executed it or before
// it answered, and the next one, too: whoever asked sees nothing of it.
func TestReplay(t *testing.T) {
	for name, c := range replays {
		for _, executed := range []bool{false, true} {
			stage := map[bool]string{false: " received", true: " executed"}[executed]
			t.Run(name+stage, func(t *testing.T) {
				t.Parallel()
				s := startSuccession(t)
				must(t, os.WriteFile(s.below("file.img"), []byte("content"), 0o644))
				must(t, os.WriteFile(s.below("other"), []byte("another"), 0o600))
				must(t, os.Mkdir(s.below("dir"), 0o755))
				d := succeed{Opcode: opcodeOf[c.operation], Executed: executed}
				if d.Opcode == 0 {
					t.Fatalf("there is no operation %s", c.operation)
				}
				do := c.prepare(s)
				s.order(d, succeed{Opcode: d.Opcode}) // the one after the next dies before it executes it
				must(t, do())
				s.await(4)
				if names := namesIn(t, s.below("")); !slices.Equal(names, c.names) {
					t.Errorf("below there are %q, want %q", names, c.names)
				}
			})
		}
	}
}

type replay struct {
	operation string
	names     []string // in the folder afterwards
	prepare   func(s *succession) (do func() error)
}

var asBefore = []string{"dir", "file.img", "other"}

var replays = map[string]replay{
	"create": {"CREATE", []string{"dir", "file.img", "new", "other"}, func(s *succession) func() error {
		return func() error {
			f, err := os.OpenFile(s.path("new"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 0)
			return errors.Join(err, f.Close())
		}
	}},
	"mkdir": {"MKDIR", []string{"dir", "file.img", "new", "other"}, func(s *succession) func() error {
		return func() error { return os.Mkdir(s.path("new"), 0o700) }
	}},
	"mknod": {"MKNOD", []string{"dir", "file.img", "new", "other"}, func(s *succession) func() error {
		return func() error { return unix.Mkfifo(s.path("new"), 0o700) }
	}},
	"symlink": {"SYMLINK", []string{"dir", "file.img", "new", "other"}, func(s *succession) func() error {
		return func() error { return os.Symlink("file.img", s.path("new")) }
	}},
	"link": {"LINK", []string{"dir", "file.img", "new", "other"}, func(s *succession) func() error {
		return func() error { return os.Link(s.path("file.img"), s.path("new")) }
	}},
	"rmdir": {"RMDIR", []string{"file.img", "other"}, func(s *succession) func() error {
		return func() error { return unix.Rmdir(s.path("dir")) }
	}},
	"unlink": {"UNLINK", []string{"dir", "other"}, func(s *succession) func() error {
		return whileOpen(s, "file.img", func() error { return unix.Unlink(s.path("file.img")) })
	}},
	"rename": {"RENAME2", []string{"dir", "new", "other"}, func(s *succession) func() error {
		return func() error {
			return unix.Renameat2(unix.AT_FDCWD, s.path("file.img"), unix.AT_FDCWD, s.path("new"), unix.RENAME_NOREPLACE)
		}
	}},
	"rename over": {"RENAME", []string{"dir", "file.img"}, func(s *succession) func() error {
		return whileOpen(s, "file.img", func() error { return os.Rename(s.path("other"), s.path("file.img")) })
	}},
	"exchange": {"RENAME2", asBefore, func(s *succession) func() error {
		return func() error {
			err := unix.Renameat2(unix.AT_FDCWD, s.path("file.img"), unix.AT_FDCWD, s.path("other"), unix.RENAME_EXCHANGE)
			return errors.Join(err, holds(s.below("file.img"), "another"), holds(s.below("other"), "content"))
		}
	}},
	"write": {"WRITE", asBefore, func(s *succession) func() error {
		return func() error {
			f, err := os.OpenFile(s.path("file.img"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("+more")
			return errors.Join(err, f.Close(), holds(s.below("file.img"), "content+more"))
		}
	}},
	"truncate": {"SETATTR", asBefore, func(s *succession) func() error {
		return func() error {
			return errors.Join(os.Truncate(s.path("file.img"), 3), holds(s.below("file.img"), "con"))
		}
	}},
	"set attribute": {"SETXATTR", asBefore, func(s *succession) func() error {
		return func() error { return unix.Setxattr(s.path("file.img"), "user.x", []byte("y"), unix.XATTR_CREATE) }
	}},
	"remove attribute": {"REMOVEXATTR", asBefore, func(s *succession) func() error {
		must(s.t, unix.Setxattr(s.below("file.img"), "user.x", []byte("y"), 0))
		return func() error { return unix.Removexattr(s.path("file.img"), "user.x") }
	}},
	"open": {"OPEN", asBefore, func(s *succession) func() error {
		return func() error { return holds(s.path("file.img"), "content") }
	}},
	"release": {"RELEASE", asBefore, func(s *succession) func() error {
		return func() error { return holds(s.path("file.img"), "content") }
	}},
	"list": {"READDIRPLUS", asBefore, func(s *succession) func() error {
		return func() error {
			if names := namesIn(s.t, s.path("")); !slices.Equal(names, asBefore) {
				s.t.Errorf("the root lists %q", names)
			}
			return nil
		}
	}},
}

// whileOpen opens a file, does what takes its name, and looks whether the file
// can still be read and written, after another death, too.
func whileOpen(s *succession, name string, do func() error) func() error {
	f, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
	must(s.t, err)
	use := func() error {
		got := make([]byte, 4)
		if _, err := f.WriteAt([]byte("used"), 0); err != nil {
			return err
		}
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != "used" {
			s.t.Errorf("a file without a name holds %q (%v)", got, err)
		}
		return nil
	}
	return func() error {
		err := errors.Join(do(), use())
		return errors.Join(err, use(), f.Close())
	}
}

func holds(path, want string) error {
	got, err := os.ReadFile(path)
	if err == nil && string(got) != want {
		err = errors.New(path + " holds " + string(got) + ", want " + want)
	}
	return err
}

// TestPassthroughSurvives shows that files that the kernel serves stay so: who
// has one open and who opens it anew are served the same way, and it is not
// protected unseen.
func TestPassthroughSurvives(t *testing.T) {
	s := startSuccession(t)
	must(t, os.WriteFile(s.below("other"), []byte("another"), 0o644))
	f, err := os.OpenFile(s.path("other"), os.O_RDWR, 0)
	must(t, err)
	for i := range 3 {
		s.kill()
		g, err := os.OpenFile(s.path("other"), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte{byte('a' + i)}, int64(2*i))
		must(t, err)
		_, err = g.WriteAt([]byte{byte('A' + i)}, int64(2*i+1))
		must(t, errors.Join(err, g.Close()))
	}
	must(t, f.Close())
	must(t, holds(s.path("other"), "aAbBcCr"))
	must(t, holds(s.below("other"), "aAbBcCr"))
}

// TestHeldSurvive has files and directories lose their names while they are in
// use, then the filter dies, several times.
func TestHeldSurvive(t *testing.T) {
	s := startSuccession(t)
	must(t, os.Mkdir(s.path("dir"), 0o755))
	dir, err := unix.Open(s.path("dir"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	must(t, unix.Rmdir(s.path("dir")))
	temporary, err := unix.Open(s.path(""), unix.O_TMPFILE|unix.O_RDWR, 0o600)
	must(t, err)
	locked, err := os.OpenFile(s.path("locked"), os.O_CREATE|os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Flock(int(locked.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	must(t, unix.Unlink(s.path("locked")))
	for i := range 3 {
		s.kill()
		_, err = unix.Pwrite(temporary, []byte{byte('a' + i)}, int64(i))
		must(t, err)
		_, err = locked.WriteAt([]byte{byte('A' + i)}, int64(i))
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Fstat(dir, &st))
	}
	got := make([]byte, 4)
	if k, err := unix.Pread(temporary, got, 0); err != nil || string(got[:k]) != "abc" {
		t.Errorf("the temporary file holds %q (%v)", got, err)
	}
	if k, err := unix.Pread(int(locked.Fd()), got, 0); err != nil || string(got[:k]) != "ABC" {
		t.Errorf("the file without a name holds %q (%v)", got, err)
	}
	must(t, unix.Linkat(unix.AT_FDCWD, descriptorPath(temporary), unix.AT_FDCWD, s.path("named"), unix.AT_SYMLINK_FOLLOW))
	s.kill()
	must(t, holds(s.path("named"), "abc"))
	must(t, errors.Join(unix.Close(dir), unix.Close(temporary), locked.Close()))
}

// initRequest is a kernel's INIT.
func initRequest() []byte {
	in := fuse.InitIn{InHeader: fuse.InHeader{Opcode: opInit, Unique: 2}, Major: 7, Minor: 40, Flags: 1 << 30}
	in.Length = uint32(unsafe.Sizeof(in))
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)))
}

// TestOpenCountedOnce has requests come again that were executed: the file is
// open as often as the kernel thinks.
func TestOpenCountedOnce(t *testing.T) {
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "disk.img"), nil, 0o644))
	fd, err := handover.Create(folder, folder, initRequest())
	must(t, err)
	defer closeFD(fd)
	const again = 1 << 63
	var id uint64
	open := func(unique uint64) func(*filter) fuse.Status {
		return func(f *filter) fuse.Status {
			return f.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: id, Unique: unique}}, &fuse.OpenOut{})
		}
	}
	release := func(unique uint64) func(*filter) fuse.Status {
		return func(f *filter) fuse.Status {
			f.Release(nil, &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: id, Unique: unique}})
			return fuse.OK
		}
	}
	lookup := func(f *filter) fuse.Status {
		var out fuse.EntryOut
		st := f.Lookup(nil, &fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID, Unique: 2}, "disk.img", &out)
		id = out.NodeId
		return st
	}
	for i, step := range []struct {
		do    func(*filter) fuse.Status
		opens int64
	}{
		{lookup, 0},
		{open(4), 1},
		{open(4 | again), 1},
		{open(6), 2},
		{release(8), 1},
		{release(8 | again), 1},
		{open(6 | again), 1}, // not what the kernel does, but what was counted stays so
		{release(10), 0},
	} {
		// Each by a filter of its own, which finds what the one before left.
		state, err := handover.Map(fd)
		must(t, err)
		root, err := unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		fs, err := Open(Options{Estate: &handover.Estate{Folder: root, State: state}, Logger: testLogger(t), Readers: 1})
		must(t, err)
		freeAll(fs.filter.prepared.buffers)
		if st := step.do(fs.filter); !st.Ok() {
			t.Fatalf("step %d: %v", i, st)
		}
		n := fs.filter.nodes.get(id)
		if n == nil || n.opens.Load() != step.opens || n.lookups != 1 {
			t.Errorf("step %d: %+v, want it to be open %d times", i, n, step.opens)
		}
		must(t, errors.Join(fs.filter.watch.close(), unix.Close(root)))
		for _, n := range fs.filter.nodes.all() {
			if n.id != fuse.FUSE_ROOT_ID {
				n.drop()
			}
		}
		state.Unmap()
	}
}
