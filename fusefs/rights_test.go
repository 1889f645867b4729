package fusefs

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const somebody = 54321 // a user and group that own nothing

// as runs a shell command as an ordinary user.
func as(t *testing.T, id uint32, command string) string {
	t.Helper()
	c := exec.Command("sh", "-c", "umask 022; "+command)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// openToAll makes the test's directories passable for ordinary users.
func openToAll(t *testing.T, s *served) {
	t.Helper()
	for _, dir := range []string{s.point, s.folder} {
		must(t, os.Chmod(dir, 0o777))
		for d := dir; d != "/tmp" && d != "/"; d = d[:strings.LastIndex(d, "/")] {
			if info, err := os.Stat(d); err == nil {
				must(t, os.Chmod(d, info.Mode()|0o755))
			}
		}
	}
}

// TestOwners makes things as an ordinary user: they are his, with his modes.
func TestOwners(t *testing.T) {
	s := serveFolder(t)
	openToAll(t, s)
	as(t, somebody, "cd "+s.point+" && : > file && mkdir dir && ln -s file link && mkfifo fifo")
	must(t, os.Mkdir(s.path("team"), 0o777))
	must(t, os.Chown(s.path("team"), 0, 4321))
	must(t, os.Chmod(s.path("team"), 0o777|os.ModeSetgid))
	as(t, somebody, "cd "+s.path("team")+" && : > file && mkdir dir")
	for name, want := range map[string]struct{ gid, mode uint32 }{
		"file":      {somebody, unix.S_IFREG | 0o644},
		"dir":       {somebody, unix.S_IFDIR | 0o755},
		"link":      {somebody, unix.S_IFLNK | 0o777},
		"fifo":      {somebody, unix.S_IFIFO | 0o644},
		"team/file": {4321, unix.S_IFREG | 0o644},
		"team/dir":  {4321, unix.S_IFDIR | unix.S_ISGID | 0o755},
	} {
		for _, side := range []string{s.path(name), s.below(name)} {
			st := lstat(t, side)
			if st.Uid != somebody || st.Gid != want.gid || st.Mode != want.mode {
				t.Errorf("%s: owner %d:%d, mode %o, want %d:%d, %o", side, st.Uid, st.Gid, st.Mode, somebody, want.gid, want.mode)
			}
		}
	}
}

// TestRightsAreChecked: the kernel checks rights by owner and mode.
func TestRightsAreChecked(t *testing.T) {
	s := serveFolder(t)
	openToAll(t, s)
	must(t, os.WriteFile(s.path("private"), []byte("x"), 0o600))
	if out := as(t, somebody, "cat "+s.path("private")+" 2>&1 || true"); !strings.Contains(out, "denied") {
		t.Errorf("an ordinary user reads a private file: %q", out)
	}
	// A file without rights for its owner can be written by who makes it.
	as(t, somebody, "umask 777; echo data > "+s.path("none"))
	if got := string(read(t, s.path("none"))); got != "data\n" {
		t.Errorf("it holds %q", got)
	}
}

// TestSetidBits: a write or a truncation by an ordinary user takes them away, a
// write by root does not, a change of owner does.
func TestSetidBits(t *testing.T) {
	for name, options := range map[string][]serveOption{"passthrough": {}, "filter": {withoutPassthrough}} {
		t.Run(name, func(t *testing.T) {
			s := serveFolder(t, options...)
			openToAll(t, s)
			file := s.path("file")
			must(t, os.WriteFile(file, []byte("x"), 0o777))
			set := func() {
				must(t, os.Chmod(file, 0o777|os.ModeSetuid|os.ModeSetgid))
			}
			want := func(what string, mode uint32) {
				t.Helper()
				if st := lstat(t, s.below("file")); st.Mode&permissions != mode {
					t.Errorf("after %s the mode is %o, want %o", what, st.Mode&permissions, mode)
				}
			}
			set()
			must(t, opened(os.O_WRONLY|os.O_APPEND, func(f *os.File) error {
				_, err := f.WriteString("root")
				return err
			})(file))
			want("a write of root", 0o6777)
			as(t, somebody, "echo more >> "+file)
			want("a write", 0o777)
			set()
			as(t, somebody, ": > "+file)
			want("a truncation", 0o777)
			set()
			must(t, os.Chown(file, somebody, -1))
			want("a change of owner", 0o777)
		})
	}
}

// TestLocks has two processes lock a file: the kernel keeps the locks.
func TestLocks(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.path("file"), nil, 0o644))
	f, err := os.OpenFile(s.path("file"), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	if out := as(t, 0, "flock -n "+s.path("file")+" true || echo locked"); out != "locked" {
		t.Errorf("another process: %q", out)
	}
	second, err := os.OpenFile(s.path("file"), os.O_RDWR, 0)
	must(t, err)
	lock := &unix.Flock_t{Type: unix.F_WRLCK}
	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, lock))
	if err := unix.FcntlFlock(second.Fd(), unix.F_OFD_SETLK, lock); err != unix.EAGAIN {
		t.Errorf("a second lock of an open file description: %v", err)
	}
	must(t, second.Close())
	must(t, f.Close())
	if n := s.count("OPERATION_31") + s.count("OPERATION_32"); n != 0 {
		t.Errorf("%d lock requests came to the filter", n)
	}
}
