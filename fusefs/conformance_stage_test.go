package fusefs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stage is where a scene plays, the working directory, with what was seen.
type stage struct {
	suffix string // of the names of files
	lines  []string
	err    error // what went wrong that is no finding, but a mistake of the scene
}

// Who plays: root, an owner, and somebody else.
const (
	ownerID = 54001
	otherID = 54002
)

type player struct {
	name string
	id   int
}

var players = []player{{"root", 0}, {"owner", ownerID}, {"other", otherID}}

// kinds are what a name can lead to.
var kinds = []string{"none", "file", "empty", "full", "link", "dirlink", "dangling", "loop", "fifo"}

// someContent is what files hold that were put.
const someContent = "some content"

func nothingSet(*stage) {}

// setKind sets one name of a kind.
func setKind(kind string) func(*stage) { return func(s *stage) { s.put("name", kind) } }

// x gives a path the suffix that the names of files have.
func (s *stage) x(path string) string { return path + s.suffix }

func (s *stage) say(format string, arguments ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, arguments...))
}

// tell writes down how a system call ended.
func (s *stage) tell(what string, err error) { s.say("%s: %s", what, errorName(err)) }

func errorName(err error) string {
	var e unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return unix.ErrnoName(e)
	default:
		return err.Error()
	}
}

func (s *stage) must(err error) {
	if s.err == nil && err != nil {
		s.err = err
	}
}

// put makes a name of some kind, and what it leads to.
func (s *stage) put(name, kind string) {
	at := s.x(name)
	switch kind {
	case "none":
	case "file":
		s.must(os.WriteFile(at, []byte(someContent), 0o644))
	case "empty":
		s.must(unix.Mkdir(at, 0o755))
	case "full":
		s.must(unix.Mkdir(at, 0o755))
		s.must(os.WriteFile(at+"/inside", nil, 0o644))
	case "link":
		s.put(name+"-target", "file")
		s.must(unix.Symlink(s.x(name+"-target"), at))
	case "dirlink":
		s.put(name+"-target", "full")
		s.must(unix.Symlink(s.x(name+"-target"), at))
	case "dangling":
		s.must(unix.Symlink(s.x(name+"-nowhere"), at))
	case "loop":
		s.must(unix.Symlink(at, at))
	case "fifo":
		s.must(unix.Mkfifo(at, 0o644))
	case "device":
		s.must(unix.Mknod(at, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
	default:
		s.must(fmt.Errorf("there is no kind %q", kind))
	}
}

// own gives a name to the owner, and to a group.
func (s *stage) own(name string, group int, mode uint32) {
	s.must(unix.Lchown(s.x(name), ownerID, group))
	s.must(unix.Chmod(s.x(name), mode))
}

// look writes down the attributes of names.
func (s *stage) look(names ...string) {
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Lstat(s.x(name), &st); err != nil {
			s.tell(name, err)
			continue
		}
		s.seen(name, &st)
	}
}

func (s *stage) seen(name string, st *unix.Stat_t) {
	size := st.Size
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFLNK || kind == unix.S_IFDIR {
		size = 0 // the suffix is in it
	}
	s.say("%s: mode %o, %d links, owner %d:%d, %d bytes, device %d", name, st.Mode, st.Nlink, st.Uid, st.Gid, size, st.Rdev)
}

// seenOpen writes down the attributes of an open file.
func (s *stage) seenOpen(fd int) {
	var st unix.Stat_t
	s.tell("fstat", unix.Fstat(fd, &st))
	s.seen("open", &st)
}

// list writes down the names of a directory and their kinds.
func (s *stage) list(dir string) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), s.suffix)
		names = append(names, fmt.Sprintf("%.20s %v", name, e.Type()))
	}
	slices.Sort(names) // by the names without the suffix
	s.say("%s holds %s, %s", dir, strings.Join(names, ", "), errorName(err))
}

// content writes down what a file holds, of a huge one the start.
func (s *stage) content(name string) {
	f, err := os.Open(s.x(name))
	if err != nil {
		s.tell("open "+name, err)
		return
	}
	defer f.Close() //nolint:errcheck // only read
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, 2<<20))
	s.say("%s: %d bytes, %x, %s", name, n, sum.Sum(nil)[:6], errorName(err))
}

// times writes down whose mtime and ctime an action changes, and which inodes
// they are.
func (s *stage) times(action func(), names ...string) {
	before := make([]unix.Stat_t, len(names))
	for i, name := range names {
		_ = unix.Lstat(s.x(name), &before[i]) // zero if there is none
		waitFor(later(before[i].Ctim, before[i].Mtim))
	}
	action()
	for _, name := range names {
		var after unix.Stat_t
		if err := unix.Lstat(s.x(name), &after); err != nil {
			s.tell(name, err)
			continue
		}
		was := slices.IndexFunc(before, func(b unix.Stat_t) bool { return b.Ino == after.Ino })
		if was < 0 {
			s.say("%s: an inode that was not there", name)
			continue
		}
		b := before[was]
		s.say("%s: it was %s; mtime changed %v, ctime changed %v", name, names[was], after.Mtim != b.Mtim, after.Ctim != b.Ctim)
	}
}

func later(a, b unix.Timespec) unix.Timespec {
	if a.Nano() > b.Nano() && a.Sec < 1<<33 {
		return a
	}
	return b
}

// waitFor returns when the clock by which files are stamped has passed an
// instant of the last moment. What the scenes were set with is older.
func waitFor(instant unix.Timespec) {
	for {
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) // it cannot fail
		if ahead := instant.Nano() - now.Nano(); ahead < 0 || ahead > int64(time.Second) {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// as acts as a user whose group has the same number.
func (s *stage) as(id int, action func()) {
	if id != 0 {
		s.must(become(id))
		defer func() { s.must(become(0)) }()
	}
	action()
}

// become changes the effective ids of this thread alone.
func become(id int) error {
	calls := []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID}
	if id == 0 {
		slices.Reverse(calls) // who is nobody may not choose a group
	}
	const asIs = ^uintptr(0)
	for _, call := range calls {
		if _, _, errno := unix.RawSyscall(call, asIs, uintptr(id), asIs); errno != 0 {
			return errno
		}
	}
	return nil
}

// open opens a file, and acts on it if that can be done.
func (s *stage) open(name string, flags int, action func(fd int)) {
	fd, err := unix.Open(s.x(name), flags|unix.O_CLOEXEC, 0o640)
	if err != nil {
		s.tell(fmt.Sprintf("open %.20s with %#x", name, flags), err)
		return
	}
	if action != nil {
		action(fd)
	}
	s.must(unix.Close(fd))
}

func openAndClose(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
