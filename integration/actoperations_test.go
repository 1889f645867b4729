package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// operation is a system call, or a few that are one thing, whose arguments are
// fixed. How it ended is the name of an error, or "ok", and what it returned.
type operation struct {
	name, what string
	do         func(p *place) (ended string)
}

// choose chooses an operation and its arguments.
func (a *actor) choose() operation {
	all := []struct {
		name   string
		weight int
		make   func(o *operation)
	}{
		{"open", 12, a.openFile},
		{"temporary", 4, a.openTemporary},
		{"open directory", 3, a.openDirectory},
		{"close", 5, a.closeOne},
		{"mkdir", 6, a.mkdir},
		{"mknod", 4, a.mknod},
		{"symlink", 4, a.symlink},
		{"link", 6, a.link},
		{"link open", 4, a.linkOpen},
		{"rename", 12, a.rename},
		{"unlink", 7, a.unlink},
		{"rmdir", 4, a.rmdir},
		{"write", 12, a.write},
		{"read", 6, a.read},
		{"ftruncate", 4, a.ftruncate},
		{"truncate", 3, a.truncate},
		{"fallocate", 4, a.fallocate},
		{"copy range", 2, a.copyRange},
		{"sync", 1, a.sync},
		{"fstat", 4, a.fstat},
		{"chmod", 4, a.chmod},
		{"chown", 4, a.chown},
		{"set times", 4, a.setTimes},
		{"set attribute", 6, a.setAttribute},
		{"remove attribute", 4, a.removeAttribute},
		{"look", 4, a.look},
		{"list", 2, a.list},
		{"churn", 40, a.churn},
	}
	sum := 0
	for _, c := range all {
		sum += c.weight
	}
	n, fewer := a.rng.IntN(sum), len(a.seen) > manyNames && a.rng.IntN(3) == 0
	for _, c := range all {
		if n -= c.weight; n < 0 && !fewer || fewer && c.name == "unlink" {
			o := operation{name: c.name}
			c.make(&o)
			o.what = c.name + " " + o.what
			return o
		}
	}
	panic("no operation was chosen")
}

// slot chooses a descriptor, mostly one that is open.
func (a *actor) slot() int {
	at := a.rng.IntN(keptOpen)
	for range keptOpen {
		if a.places[0].open[at] >= 0 {
			break
		}
		at = (at + 1) % keptOpen
	}
	return at
}

// keep puts a new descriptor in place of an old one.
func (p *place) keep(at, fd int, err error) string {
	if err != nil {
		return errno(err)
	}
	if p.open[at] >= 0 {
		_ = unix.Close(p.open[at])
	}
	p.open[at] = fd
	return "ok"
}

const always = unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY

func (a *actor) openFile(o *operation) {
	path, at, mode := a.any(), a.rng.IntN(keptOpen), uint32(a.rng.IntN(0o10000))
	flags := []int{unix.O_RDWR, unix.O_RDWR, unix.O_RDWR | unix.O_APPEND, unix.O_RDWR | unix.O_APPEND, unix.O_RDONLY, unix.O_WRONLY}[a.rng.IntN(6)]
	for _, f := range []struct{ flag, oneIn int }{{unix.O_CREAT, 2}, {unix.O_EXCL, 4}, {unix.O_TRUNC, 6}, {unix.O_NOFOLLOW, 8}} {
		if a.rng.IntN(f.oneIn) == 0 {
			flags |= f.flag
		}
	}
	if flags&unix.O_CREAT == 0 {
		path, flags = a.existing(), flags&^unix.O_EXCL
	}
	o.what = fmt.Sprintf("%d: %s, flags %#x, mode %o", at, path, flags, mode)
	o.do = func(p *place) string {
		fd, err := unix.Open(p.path(path), flags|always, mode)
		return p.keep(at, fd, err)
	}
}

func (a *actor) openTemporary(o *operation) {
	dir, at, mode, flags := a.dir, a.rng.IntN(keptOpen), uint32(a.rng.IntN(0o1000)), unix.O_TMPFILE|unix.O_RDWR
	if a.rng.IntN(3) == 0 {
		dir = a.existing()
	}
	if a.rng.IntN(4) == 0 {
		flags |= unix.O_EXCL
	}
	o.what = fmt.Sprintf("%d: in %s, flags %#x, mode %o", at, dir, flags, mode)
	o.do = func(p *place) string {
		fd, err := unix.Open(p.path(dir), flags|always, mode)
		return p.keep(at, fd, err)
	}
}

func (a *actor) openDirectory(o *operation) {
	dir, at := a.existing(), a.rng.IntN(keptOpen)
	o.what = fmt.Sprintf("%d: %s", at, dir)
	o.do = func(p *place) string {
		fd, err := unix.Open(p.path(dir), unix.O_RDONLY|unix.O_DIRECTORY|always, 0)
		return p.keep(at, fd, err)
	}
}

func (a *actor) closeOne(o *operation) {
	at := a.slot()
	o.what = fmt.Sprint(at)
	o.do = func(p *place) string {
		if p.open[at] < 0 {
			return "none"
		}
		err := unix.Close(p.open[at])
		p.open[at] = -1
		return errno(err)
	}
}

// onPath is an operation of which nothing but an error is seen.
func onPath(o *operation, what, path string, call func(path string) error) {
	o.what = path + " " + what
	o.do = func(p *place) string { return errno(call(p.path(path))) }
}

func (a *actor) mkdir(o *operation) {
	mode := uint32(a.rng.IntN(0o10000))
	onPath(o, fmt.Sprintf("%o", mode), a.fresh(), func(path string) error { return unix.Mkdir(path, mode) })
}

func (a *actor) mknod(o *operation) {
	mode := uint32(a.rng.IntN(0o10000)) | []uint32{unix.S_IFREG, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK}[a.rng.IntN(4)]
	onPath(o, fmt.Sprintf("%o", mode), a.fresh(), func(path string) error { return unix.Mknod(path, mode, 0) })
}

func (a *actor) symlink(o *operation) {
	target := a.own() + []string{"", "", "/" + a.own()}[a.rng.IntN(3)]
	onPath(o, "-> "+target, a.fresh(), func(path string) error { return unix.Symlink(target, path) })
}

func (a *actor) unlink(o *operation) { onPath(o, "", a.existing(), unix.Unlink) }
func (a *actor) rmdir(o *operation)  { onPath(o, "", a.existing(), unix.Rmdir) }

func (a *actor) link(o *operation) {
	from, to := a.existing(), a.fresh()
	o.what = from + " as " + to
	o.do = func(p *place) string { return errno(unix.Link(p.path(from), p.path(to))) }
}

// linkOpen names what may have no name, or not any more.
func (a *actor) linkOpen(o *operation) {
	at, to := a.slot(), a.fresh()
	o.what = fmt.Sprintf("%d as %s", at, to)
	o.do = func(p *place) string {
		return errno(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", p.open[at]), unix.AT_FDCWD, p.path(to), unix.AT_SYMLINK_FOLLOW))
	}
}

func (a *actor) rename(o *operation) {
	from, to := a.existing(), a.any()
	flags := []uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[a.rng.IntN(4)]
	if len(a.seen) > manyNames && flags == 0 {
		to = a.existing() // over it
	}
	o.what = fmt.Sprintf("%s to %s, flags %d", from, to, flags)
	o.do = func(p *place) string {
		return errno(unix.Renameat2(unix.AT_FDCWD, p.path(from), unix.AT_FDCWD, p.path(to), flags))
	}
}

// onOpen is an operation on a descriptor.
func (a *actor) onOpen(o *operation, what string, call func(fd int) string) {
	at := a.slot()
	o.what = fmt.Sprintf("%d %s", at, what)
	o.do = func(p *place) string { return call(p.open[at]) }
}

// written is what is written: the same each time it is made.
func written(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p) // it never fails
	return p
}

// write appends to what was opened so, and goes on at the descriptor's position
// or at an offset otherwise.
func (a *actor) write(o *operation) {
	content, at := written(a.rng.Uint64(), 1+a.rng.IntN(9000)), a.rng.Int64N(64<<10)
	call := func(fd int) (int, error) { return unix.Write(fd, content) }
	what := fmt.Sprintf("%d bytes", len(content))
	if a.rng.IntN(3) == 0 {
		what += fmt.Sprintf(" at %d", at)
		call = func(fd int) (int, error) { return unix.Pwrite(fd, content, at) }
	}
	a.onOpen(o, what, func(fd int) string {
		n, err := call(fd)
		return fmt.Sprintf("%s %d", errno(err), n)
	})
}

func (a *actor) read(o *operation) {
	at, n := a.rng.Int64N(64<<10), 1+a.rng.IntN(32<<10)
	a.onOpen(o, fmt.Sprintf("%d bytes at %d", n, at), func(fd int) string { return contentAt(fd, at, n) })
}

func (a *actor) ftruncate(o *operation) {
	size := a.rng.Int64N(96 << 10)
	a.onOpen(o, fmt.Sprint(size), func(fd int) string { return errno(unix.Ftruncate(fd, size)) })
}

func (a *actor) truncate(o *operation) {
	size := a.rng.Int64N(96 << 10)
	onPath(o, fmt.Sprint(size), a.existing(), func(path string) error { return unix.Truncate(path, size) })
}

func (a *actor) fallocate(o *operation) {
	mode := []uint32{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
	}[a.rng.IntN(5)]
	at, n := a.rng.Int64N(64<<10), 1+a.rng.Int64N(32<<10)
	a.onOpen(o, fmt.Sprintf("%d bytes at %d, mode %d", n, at, mode), func(fd int) string { return errno(unix.Fallocate(fd, mode, at, n)) })
}

func (a *actor) copyRange(o *operation) {
	from, to := a.slot(), a.slot()
	source, target, n := a.rng.Int64N(32<<10), a.rng.Int64N(64<<10), 1+a.rng.IntN(16<<10)
	o.what = fmt.Sprintf("%d bytes at %d of %d to %d of %d", n, source, from, target, to)
	o.do = func(p *place) string {
		source, target := source, target
		k, err := unix.CopyFileRange(p.open[from], &source, p.open[to], &target, n, 0)
		return fmt.Sprintf("%s %d", errno(err), k)
	}
}

func (a *actor) sync(o *operation) {
	a.onOpen(o, "", func(fd int) string { return errno(unix.Fsync(fd)) })
}

func (a *actor) fstat(o *operation) {
	a.onOpen(o, "", func(fd int) string {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return errno(err)
		}
		return "ok " + attributesOf(&st)
	})
}

func (a *actor) chmod(o *operation) {
	mode := uint32(a.rng.IntN(0o10000))
	if a.rng.IntN(2) == 0 {
		a.onOpen(o, fmt.Sprintf("%o", mode), func(fd int) string { return errno(unix.Fchmod(fd, mode)) })
		return
	}
	onPath(o, fmt.Sprintf("%o", mode), a.existing(), func(path string) error { return unix.Chmod(path, mode) })
}

func (a *actor) chown(o *operation) {
	user, group := a.rng.IntN(3), a.rng.IntN(3)-1 // -1: not changed
	if a.rng.IntN(2) == 0 {
		a.onOpen(o, fmt.Sprintf("%d:%d", user, group), func(fd int) string { return errno(unix.Fchown(fd, user, group)) })
		return
	}
	onPath(o, fmt.Sprintf("%d:%d", user, group), a.existing(), func(path string) error { return unix.Lchown(path, user, group) })
}

func (a *actor) setTimes(o *operation) {
	at := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: a.rng.Int64N(setBefore.Unix()), Nsec: a.rng.Int64N(1e9)}}
	if a.rng.IntN(4) == 0 {
		at[1] = unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	onPath(o, fmt.Sprint(at[1]), a.existing(), func(path string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, slices.Clone(at), unix.AT_SYMLINK_NOFOLLOW)
	})
}

var attributes = []string{"user.x", "user.y", "trusted.z"}

func (a *actor) setAttribute(o *operation) {
	name, value := attributes[a.rng.IntN(len(attributes))], written(a.rng.Uint64N(4), a.rng.IntN(2)*64)
	flags := []int{0, unix.XATTR_CREATE, unix.XATTR_REPLACE}[a.rng.IntN(3)]
	onPath(o, fmt.Sprintf("%s of %d bytes, flags %d", name, len(value), flags), a.existing(), func(path string) error {
		return unix.Lsetxattr(path, name, value, flags)
	})
}

func (a *actor) removeAttribute(o *operation) {
	name := attributes[a.rng.IntN(len(attributes))]
	onPath(o, name, a.existing(), func(path string) error { return unix.Lremovexattr(path, name) })
}

// churn makes, moves and takes names that nobody else has: a filter that dies
// meanwhile has mostly done something that it has not answered.
func (a *actor) churn(o *operation) {
	dir := []string{a.dir, common}[a.rng.IntN(2)]
	o.what = "in " + dir
	o.do = func(p *place) string {
		path := func(name string) string { return p.path(dir + "/" + a.number + "-" + name) }
		content := func(name string) error { return unix.Truncate(path(name), 5) }
		for i, err := range []error{
			unix.Mknod(path("new"), unix.S_IFREG|0o600, 0), content("new"),
			unix.Link(path("new"), path("link")),
			unix.Rename(path("new"), path("moved")),
			unix.Mkdir(path("dir"), 0o700),
			unix.Renameat2(unix.AT_FDCWD, path("dir"), unix.AT_FDCWD, path("moved"), unix.RENAME_EXCHANGE),
			unix.Symlink("nowhere", path("new")),
			unix.Rename(path("new"), path("link")),
			unix.Rmdir(path("moved")),
			unix.Unlink(path("link")),
			unix.Setxattr(path("dir"), "user.x", []byte("y"), unix.XATTR_CREATE),
			unix.Removexattr(path("dir"), "user.x"),
			unix.Unlink(path("dir")),
		} {
			if err != nil {
				return fmt.Sprintf("%s at step %d", errno(err), i)
			}
		}
		return appended(path("log.img"))
	}
}

// appended appends to a new file, a little at a time, and tells what it holds.
func appended(path string) string {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_APPEND|always, 0o600)
	if err != nil {
		return errno(err)
	}
	defer unix.Close(fd) //nolint:errcheck // every write has been answered
	for i := range 20 {
		if _, err := unix.Write(fd, written(uint64(i), 50)); err != nil {
			return errno(err)
		}
	}
	holds := contentAt(fd, 0, 4096)
	if err := unix.Unlink(path); err != nil {
		return errno(err)
	}
	return holds
}

func (a *actor) look(o *operation) {
	path := a.any()
	o.what = path
	o.do = func(p *place) string {
		how := looks(p.path(path))
		if strings.HasPrefix(how, "mode") {
			return "ok " + how
		}
		return how
	}
}

// list lists a directory by its path or by a descriptor that may have been
// opened long ago.
func (a *actor) list(o *operation) {
	if a.rng.IntN(2) == 0 {
		at := a.slot()
		o.what = fmt.Sprint(at)
		o.do = func(p *place) string { return list(p.open[at], a.number) }
		return
	}
	dir := []string{a.dir, common, a.existing()}[a.rng.IntN(3)]
	o.what = dir
	o.do = func(p *place) string {
		fd, err := unix.Open(p.path(dir), unix.O_RDONLY|unix.O_DIRECTORY|always, 0)
		if err != nil {
			return errno(err)
		}
		defer unix.Close(fd) //nolint:errcheck // only read
		return list(fd, a.number)
	}
}
