package fusefs

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// renameScenes rename everything over everything.
func renameScenes(add adder) {
	flags := map[string]uint{
		"rename": 0, "noreplace": unix.RENAME_NOREPLACE, "exchange": unix.RENAME_EXCHANGE, "whiteout": unix.RENAME_WHITEOUT,
		"both": unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE, "unknown": 64,
	}
	for _, how := range sorted(flags) {
		for _, from := range kinds {
			for _, to := range kinds {
				if (how == "both" || how == "unknown" || how == "whiteout") && (from != "file" || to != "none" && to != "file") {
					continue
				}
				set := func(s *stage) {
					for _, dir := range []string{"a", "b"} {
						s.must(unix.Mkdir(dir, 0o755))
					}
					s.must(unix.Chdir("a"))
					s.put("from", from)
					s.must(unix.Chdir("../b"))
					s.put("to", to)
				}
				add("rename/"+how+"/"+from+"/"+to, set, func(s *stage) {
					s.must(unix.Chdir("a"))
					s.times(func() {
						s.tell(how, unix.Renameat2(unix.AT_FDCWD, s.x("from"), unix.AT_FDCWD, s.x("../b/to"), flags[how]))
					}, "from", "../b/to")
					s.look("from", "../b/to")
					s.suffix = ""
					s.look(".", "../b")
				})
			}
		}
	}
	for _, how := range []string{"rename", "noreplace", "exchange"} {
		for _, pair := range [][2]string{
			{"dir", "dir"},
			{"dir", "dir/below"},
			{"dir", "dir/deep/below"},
			{"dir/deep", "dir"},
			{"dir/.", "x"},
			{"dir/..", "x"},
			{".", "x"},
			{"dir/deep", "."},
			{"dir/deep", ".."},
			{"one", "two"},
			{"one", "one"},
			{"one", "dir/deep/two"},
			{"dir", "new/"},
			{"file", "other/"},
			{"file/", "other"},
			{"file", "/proc/x"},
			{"dir", "/proc/x"},
		} {
			set := func(s *stage) {
				s.must(os.MkdirAll("dir/deep", 0o755))
				for _, name := range []string{"file", "one"} {
					s.must(os.WriteFile(name, []byte(name), 0o644))
				}
				s.must(unix.Link("one", "two"))
			}
			add("rename/"+how+"/"+strings.ReplaceAll(pair[0]+" to "+pair[1], "/", ":"), set, func(s *stage) {
				s.tell("rename", unix.Renameat2(unix.AT_FDCWD, pair[0], unix.AT_FDCWD, pair[1], flags[how]))
				s.list(".")
				s.list("dir")
				s.suffix = ""
				s.look("one", "two", "dir", "file")
			})
		}
	}
	add("rename/over open", func(s *stage) { s.put("old", "file"); s.put("new", "file") }, func(s *stage) {
		s.open("old", unix.O_RDWR, func(fd int) {
			s.tell("rename", unix.Rename(s.x("new"), s.x("old")))
			s.usedOn(fd)
		})
		s.list(".")
		s.content("old")
	})
}

// linkScenes link everything to everything.
func linkScenes(add adder) {
	for _, from := range kinds {
		for _, to := range []string{"none", "file", "empty", "dangling"} {
			for _, flags := range []int{0, unix.AT_SYMLINK_FOLLOW, unix.AT_REMOVEDIR} {
				set := func(s *stage) { s.put("from", from); s.put("to", to) }
				add(fmt.Sprintf("link/%s/%s/%#x", from, to, flags), set, func(s *stage) {
					s.times(func() {
						s.tell("link", unix.Linkat(unix.AT_FDCWD, s.x("from"), unix.AT_FDCWD, s.x("to"), flags))
					}, "from", "from-target", "to")
					s.look("from", "to", "from-target")
				})
			}
		}
	}
	add("link/other file system", setKind("file"), func(s *stage) { s.tell("link", unix.Link(s.x("name"), "/proc/x")) })
}

// makeScenes make nodes, links and directories.
func makeScenes(add adder) {
	nodes := map[string]uint32{
		"file": unix.S_IFREG, "fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "character": unix.S_IFCHR, "block": unix.S_IFBLK,
		"directory": unix.S_IFDIR, "link": unix.S_IFLNK, "nothing": 0, "unknown": 0o170000,
	}
	for _, kind := range sorted(nodes) {
		add("mknod/"+kind, nothingSet, func(s *stage) {
			for _, user := range players {
				for _, device := range []uint64{0, unix.Mkdev(1, 3), unix.Mkdev(4095, 1<<20-1)} {
					name := fmt.Sprint(user.name, device)
					s.as(user.id, func() { s.tell(name, unix.Mknod(s.x(name), nodes[kind]|0o666, int(device))) })
					s.look(name)
				}
			}
		})
	}
	add("symlink", nothingSet, func(s *stage) {
		for _, n := range []int{0, 1, 59, 60, 255, 256, 1023, 4094, 4095, 4096} {
			name := fmt.Sprint("to", n)
			s.tell(name, unix.Symlink(strings.Repeat("x", n), s.x(name)))
			s.look(name)
			target, err := os.Readlink(s.x(name))
			s.say("it leads to %d bytes, %s", len(target), errorName(err))
			p := make([]byte, 5)
			k, err := unix.Readlink(s.x(name), p)
			s.say("cut short %q, %s", p[:max(k, 0)], errorName(err))
		}
	})
	add("directories", func(s *stage) { s.must(unix.Mkdir("in", 0o755)) }, func(s *stage) {
		s.suffix = ""
		s.times(func() { s.tell("mkdir", unix.Mkdir("in/d0", 0o7777)) }, "in")
		s.tell("mkdir", unix.Mkdir("in/d1", 0o7777))
		s.look("in", "in/d0")
		s.tell("move", unix.Rename("in/d0", "in/d1/d0"))
		s.look("in", "in/d1", "in/d1/d0", "in/d1/d0/..")
		s.tell("rmdir", unix.Rmdir("in/d1/d0"))
		s.look("in", "in/d1")
		s.list("in")
	})
	for call, do := range map[string]func(name string) error{
		"create":  func(name string) error { return openAndClose(name, unix.O_CREAT|unix.O_RDWR) },
		"mkfifo":  func(name string) error { return unix.Mkfifo(name, 0o644) },
		"symlink": func(name string) error { return unix.Symlink("x", name) },
		"link":    func(name string) error { return unix.Link("in/there", name) },
		"unlink":  func(string) error { return unix.Unlink("in/there") },
		"rmdir":   func(string) error { return unix.Rmdir("in/empty") },
	} {
		set := func(s *stage) {
			s.must(os.MkdirAll("in/empty", 0o755))
			s.must(os.WriteFile("in/there", nil, 0o644))
		}
		add("times of directory/"+call, set, func(s *stage) {
			name := s.x("in/name")
			s.suffix = ""
			s.times(func() { s.tell(call, do(name)) }, "in", "in/there")
		})
	}
}

// removeScenes remove names, and use what lost its name.
func removeScenes(add adder) {
	calls := map[string]func(string) error{"unlink": unix.Unlink, "rmdir": unix.Rmdir}
	for _, call := range sorted(calls) {
		for _, kind := range kinds {
			add(call+"/"+kind, setKind(kind), func(s *stage) {
				s.times(func() { s.tell(call, calls[call](s.x("name"))) }, "name", "name-target")
				s.look("name", "name-target")
				s.tell("again", calls[call](s.x("name")))
			})
		}
	}
	linked := func(s *stage) { s.put("one", "file"); s.must(unix.Link(s.x("one"), s.x("two"))) }
	add("unlink/linked", linked, func(s *stage) {
		s.times(func() { s.tell("unlink", unix.Unlink(s.x("one"))) }, "two")
		s.look("one", "two")
	})
	add("unlink/open", setKind("file"), func(s *stage) {
		s.open("name", unix.O_RDWR, func(fd int) {
			s.tell("unlink", unix.Unlink(s.x("name")))
			s.put("name", "empty") // the name is free
			s.usedOn(fd)
		})
		s.list(".")
	})
	add("rmdir/used", func(s *stage) { s.must(unix.Mkdir("dir", 0o755)) }, func(s *stage) {
		fd, err := unix.Open("dir", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		s.must(err)
		s.tell("rmdir", unix.Rmdir("dir"))
		s.seenOpen(fd)
		s.tell("make in it", unix.Mkdirat(fd, "x", 0o755))
		_, err = unix.Openat(fd, "x", unix.O_CREAT|unix.O_RDWR, 0o644)
		s.tell("create in it", err)
		_, err = unix.ReadDirent(fd, make([]byte, 1000))
		s.tell("list it", err)
		s.must(unix.Close(fd))
	})
}

// usedOn uses a file that has no name any more, and gives it none back.
func (s *stage) usedOn(fd int) {
	n, err := unix.Pwrite(fd, []byte("on"), 100)
	s.say("wrote %d, %s", n, errorName(err))
	s.tell("chmod", unix.Fchmod(fd, 0o4701))
	s.tell("chown", unix.Fchown(fd, ownerID, otherID))
	s.tell("truncate", unix.Ftruncate(fd, 101))
	s.tell("allocate", unix.Fallocate(fd, 0, 0, 9000))
	s.tell("times", unix.UtimesNanoAt(unix.AT_FDCWD, descriptorPath(fd), []unix.Timespec{{Sec: 1}, {Sec: 2}}, 0))
	s.tell("attribute", unix.Fsetxattr(fd, "user.x", []byte("x"), 0))
	s.tell("sync", unix.Fsync(fd))
	s.seenOpen(fd)
	p := make([]byte, 200)
	n, err = unix.Pread(fd, p, 0)
	s.say("it holds %q, %s", p[:max(n, 0)], errorName(err))
	s.tell("link", unix.Linkat(unix.AT_FDCWD, descriptorPath(fd), unix.AT_FDCWD, s.x("back"), unix.AT_SYMLINK_FOLLOW))
}
