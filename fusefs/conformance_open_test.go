package fusefs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openScenes open what there is and is not.
func openScenes(add adder) {
	const (
		creat, excl, trunc      = unix.O_CREAT, unix.O_EXCL, unix.O_TRUNC
		nofollow, dir, appended = unix.O_NOFOLLOW, unix.O_DIRECTORY, unix.O_APPEND
	)
	all := []int{
		0, creat, creat | excl, trunc, creat | trunc, creat | excl | trunc, nofollow, creat | nofollow, trunc | nofollow,
		creat | excl | nofollow, dir, dir | creat, dir | nofollow, dir | trunc, appended, creat | appended, excl,
	}
	access := map[string]int{"rdonly": unix.O_RDONLY, "wronly": unix.O_WRONLY, "rdwr": unix.O_RDWR, "path": unix.O_PATH, "both": 3}
	name := func(flags int) string { return fmt.Sprintf("with %#x", flags) }
	for _, kind := range kinds {
		set := func(s *stage) {
			for _, flags := range all {
				s.put(name(flags), kind)
			}
		}
		for _, how := range sorted(access) {
			add("open/"+kind+"/"+how, set, func(s *stage) {
				for _, flags := range all {
					s.open(name(flags), flags|access[how]|unix.O_NONBLOCK, func(fd int) {
						n, err := unix.Write(fd, []byte("more"))
						s.say("wrote %d, %s", n, errorName(err))
						s.seenOpen(fd)
					})
					s.look(name(flags))
				}
			})
		}
	}
	for _, user := range players {
		add("tmpfile/"+user.name, func(s *stage) { s.put("taken", "file") }, func(s *stage) { s.tmpfiles(user.id) })
	}
	add("append", setKind("file"), (*stage).appends)
	add("append no more", setKind("file"), func(s *stage) {
		s.open("name", unix.O_RDWR|unix.O_APPEND, func(fd int) {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0)
			s.tell("without O_APPEND", err)
			_, err = unix.Pwrite(fd, []byte("X"), 1)
			s.tell("pwrite", err)
		})
		s.content("name")
	})
	add("device", func(s *stage) { s.must(unix.Mknod(s.x("name"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3)))) }, func(s *stage) {
		s.open("name", unix.O_RDWR, nil)
	})
}

// createScenes make files of all modes in directories of all kinds.
func createScenes(add adder) {
	for _, mode := range []uint32{0, 0o400, 0o644, 0o4755, 0o6777} {
		for _, user := range players {
			for _, parent := range []uint32{0o777, 0o2777} {
				set := func(s *stage) {
					s.must(unix.Chown(".", ownerID, otherID))
					s.must(unix.Chmod(".", parent))
				}
				add(fmt.Sprintf("create/%o/%s/%o", mode, user.name, parent), set, func(s *stage) {
					for _, mask := range []int{0, 0o022, 0o777} {
						name := func(what string) string { return fmt.Sprintf("%s %o", what, mask) }
						s.as(user.id, func() {
							unix.Umask(mask)
							fd, err := unix.Open(s.x(name("file")), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, mode)
							s.tell("create", err)
							if err == nil {
								n, err := unix.Write(fd, []byte("data"))
								s.say("wrote %d, %s", n, errorName(err))
								s.must(unix.Close(fd))
							}
							s.tell("mkdir", unix.Mkdir(s.x(name("dir")), mode))
							s.tell("mknod", unix.Mknod(s.x(name("node")), unix.S_IFREG|mode, 0))
							s.tell("mkfifo", unix.Mkfifo(s.x(name("fifo")), mode))
							unix.Umask(0)
						})
						s.look(name("file"), name("dir"), name("node"), name("fifo"))
					}
				})
			}
		}
	}
}

// tmpfiles makes files without a name, and gives them one.
func (s *stage) tmpfiles(user int) {
	for i, flags := range []int{unix.O_RDWR, unix.O_WRONLY, unix.O_RDONLY, unix.O_RDWR | unix.O_EXCL, unix.O_RDWR | unix.O_CREAT} {
		named, again := fmt.Sprint("named", i), fmt.Sprint("again", i)
		var fd int
		var err error
		s.as(user, func() { fd, err = unix.Open(".", unix.O_TMPFILE|flags|unix.O_CLOEXEC, 0o640) })
		s.tell(fmt.Sprintf("with %#x", flags), err)
		if err != nil {
			continue
		}
		_, err = unix.Write(fd, []byte("data"))
		s.tell("write", err)
		s.seenOpen(fd)
		link := func(name string) error {
			return unix.Linkat(unix.AT_FDCWD, descriptorPath(fd), unix.AT_FDCWD, s.x(name), unix.AT_SYMLINK_FOLLOW)
		}
		s.tell("link over", link("taken"))
		s.tell("link", link(named))
		s.tell("link again", link(again))
		s.tell("unlink", unix.Unlink(s.x(named)))
		s.tell("empty path", unix.Linkat(fd, "", unix.AT_FDCWD, s.x(named), unix.AT_EMPTY_PATH))
		s.must(unix.Close(fd))
		s.look(named, again)
		s.content(named)
	}
	s.open("taken", unix.O_TMPFILE|unix.O_RDWR, nil)
}

// appends writes at the end, whoever made the file longer.
func (s *stage) appends() {
	s.open("name", unix.O_WRONLY|unix.O_APPEND, func(a int) {
		s.open("name", unix.O_RDWR|unix.O_APPEND, func(b int) {
			for i, fd := range []int{a, b, a, b} {
				n, err := unix.Write(fd, fmt.Appendf(nil, "line %d\n", i))
				s.say("wrote %d, %s", n, errorName(err))
				at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
				s.say("at %d, %s", at, errorName(err))
			}
			n, err := unix.Pwrite(a, []byte("placed"), 3) // on Linux, at the end all the same
			s.say("pwrite %d, %s", n, errorName(err))
			s.tell("truncate", unix.Ftruncate(b, 4))
			_, err = unix.Write(a, []byte("after"))
			s.tell("write", err)
		})
	})
	text, err := os.ReadFile(s.x("name"))
	s.say("%q, %s", text, errorName(err))
}
