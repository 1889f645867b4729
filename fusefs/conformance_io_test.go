package fusefs

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// writeScenes read and write where it is allowed and where not.
func writeScenes(add adder) {
	access := map[string]int{
		"rdonly": unix.O_RDONLY, "wronly": unix.O_WRONLY, "rdwr": unix.O_RDWR, "path": unix.O_PATH,
		"dsync": unix.O_RDWR | unix.O_DSYNC, "sync": unix.O_RDWR | unix.O_SYNC, "noatime": unix.O_RDWR | unix.O_NOATIME,
	}
	for _, how := range sorted(access) {
		for _, offset := range []int64{-1, 0, 16, 17, 18, 5000, 1 << 20, 1<<44 - 4097, 1<<44 - 4096, 1 << 44, 1 << 50, math.MaxInt64} {
			add(fmt.Sprintf("write/%s/%d", how, offset), setKind("file"), func(s *stage) {
				s.open("name", access[how], func(fd int) {
					s.times(func() {
						n, err := unix.Pwrite(fd, []byte("written"), offset)
						s.say("write: %d, %s", n, errorName(err))
					}, "name")
					p := make([]byte, 20)
					n, err := unix.Pread(fd, p, offset-2)
					s.say("read: %d %q, %s", n, p[:max(n, 0)], errorName(err))
					n, err = unix.Pwrite(fd, nil, offset)
					s.say("write nothing: %d, %s", n, errorName(err))
					s.tell("fsync", unix.Fsync(fd))
					s.tell("fdatasync", unix.Fdatasync(fd))
				})
				s.look("name")
			})
		}
	}
	for _, kind := range kinds {
		add("read/"+kind, setKind(kind), func(s *stage) {
			s.open("name", unix.O_RDONLY|unix.O_NONBLOCK, func(fd int) {
				var before, after unix.Stat_t
				s.must(unix.Fstat(fd, &before))
				n, err := unix.Read(fd, make([]byte, 100))
				s.must(unix.Fstat(fd, &after))
				s.say("read %d, %s; atime changed %v, mtime %v, ctime %v", n, errorName(err), after.Atim != before.Atim,
					after.Mtim != before.Mtim, after.Ctim != before.Ctim)
				_, err = unix.ReadDirent(fd, make([]byte, 1000))
				s.tell("list", err)
				s.tell("fsync", unix.Fsync(fd))
				_, err = unix.Write(fd, []byte("x"))
				s.tell("write", err)
				s.tell("advise", unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED))
			})
		})
	}
	// More than the limit of this process's files would send a signal as well:
	// the Go runtime takes it and goes on.
	add("write/limited", setKind("file"), func(s *stage) {
		var before unix.Rlimit
		s.must(unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
		s.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 5000, Max: before.Max}))
		s.open("name", unix.O_RDWR, func(fd int) {
			for _, offset := range []int64{0, 4999, 4990, 5000, 6000} {
				n, err := unix.Pwrite(fd, []byte(strings.Repeat("x", 20)), offset)
				s.say("write at %d: %d, %s", offset, n, errorName(err))
			}
			s.tell("truncate", unix.Ftruncate(fd, 5001))
			s.tell("allocate", unix.Fallocate(fd, 0, 0, 5001))
		})
		s.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &before))
		s.look("name")
	})
}

// useScenes map files, execute them, and list a directory while it is emptied.
func useScenes(add adder) {
	for name, flags := range map[string]int{"shared": unix.MAP_SHARED, "private": unix.MAP_PRIVATE} {
		add("map/"+name, setSparse, func(s *stage) {
			s.open("name", unix.O_RDWR, func(fd int) {
				s.times(func() {
					p, err := unix.Mmap(fd, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, flags)
					s.must(err)
					s.say("it holds %d and %d", p[0], p[50000])
					n, err := unix.Pwrite(fd, []byte("seen through the mapping"), 50000)
					s.say("wrote %d, %s; the mapping holds %d", n, errorName(err), p[50000])
					copy(p[20000:], "written through it")
					s.tell("msync", unix.Msync(p, unix.MS_SYNC))
					q := make([]byte, 18)
					n, err = unix.Pread(fd, q, 20000)
					s.say("read %d, %q, %s", n, q, errorName(err))
					s.must(unix.Munmap(p))
				}, "name")
			})
			s.content("name")
		})
		for access, how := range map[string]int{"rdonly": unix.O_RDONLY, "wronly": unix.O_WRONLY, "path": unix.O_PATH} {
			add("map/"+name+"/"+access, setSparse, func(s *stage) {
				s.open("name", how, func(fd int) {
					for _, protection := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_READ | unix.PROT_WRITE} {
						p, err := unix.Mmap(fd, 0, 4096, protection, flags)
						s.tell(fmt.Sprint("map ", protection), err)
						if err == nil {
							s.must(unix.Munmap(p))
						}
					}
				})
			})
		}
	}
	program := func(s *stage) {
		cat, err := exec.LookPath("cat")
		s.must(err)
		text, err := os.ReadFile(cat)
		s.must(err)
		s.must(os.WriteFile(s.x("name"), text, 0o755))
	}
	add("execute", program, func(s *stage) {
		c := exec.Command("./" + s.x("name"))
		in, err := c.StdinPipe()
		s.must(err)
		s.open("name", unix.O_RDWR, func(int) { s.tell("execute while open", exec.Command("./"+s.x("name"), "/dev/null").Run()) })
		s.tell("start", c.Start())
		s.open("name", unix.O_RDWR, nil)
		s.open("name", unix.O_RDONLY|unix.O_TRUNC, nil)
		s.tell("truncate", unix.Truncate(s.x("name"), 0))
		s.tell("unlink", unix.Unlink(s.x("name")))
		s.must(in.Close())
		s.tell("end", c.Wait())
	})
	many := func(s *stage) {
		s.must(unix.Mkdir("dir", 0o755))
		for i := range 200 {
			s.must(openAndClose(s.x(fmt.Sprint("dir/", strings.Repeat("x", i), i)), unix.O_CREAT|unix.O_RDWR))
		}
	}
	add("list/while emptied", many, func(s *stage) {
		d, err := os.Open("dir")
		s.must(err)
		total := 0
		for err == nil {
			var names []string
			names, err = d.Readdirnames(7)
			for _, name := range names {
				s.must(unix.Unlink("dir/" + name))
			}
			total += len(names)
		}
		if err != io.EOF { //nolint:errorlint // as it is documented
			s.must(err)
		}
		s.must(d.Close())
		s.say("%d names", total)
		s.tell("rmdir", unix.Rmdir("dir"))
	})
}

// lockScenes lock a file by two descriptors.
func lockScenes(add adder) {
	locks := map[string]int{"shared": unix.LOCK_SH, "exclusive": unix.LOCK_EX, "none": unix.LOCK_UN, "unknown": 64}
	for _, kind := range []string{"file", "empty", "fifo"} {
		for _, first := range sorted(locks) {
			for _, second := range sorted(locks) {
				add("flock/"+kind+"/"+first+"/"+second, setKind(kind), func(s *stage) {
					s.open("name", unix.O_RDONLY|unix.O_NONBLOCK, func(a int) {
						s.open("name", unix.O_RDONLY|unix.O_NONBLOCK, func(b int) {
							s.tell(first, unix.Flock(a, locks[first]|unix.LOCK_NB))
							s.tell(second, unix.Flock(b, locks[second]|unix.LOCK_NB))
							s.tell("first again", unix.Flock(a, locks[second]|unix.LOCK_NB))
						})
						s.tell("alone", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
					})
				})
			}
		}
	}
	types := map[string]int16{"read": unix.F_RDLCK, "write": unix.F_WRLCK, "none": unix.F_UNLCK}
	access := map[string]int{"rdwr": unix.O_RDWR, "rdonly": unix.O_RDONLY, "wronly": unix.O_WRONLY}
	for name, command := range map[string]int{"OFD": unix.F_OFD_SETLK, "POSIX": unix.F_SETLK} {
		for _, how := range sorted(access) {
			for _, first := range sorted(types) {
				for _, second := range sorted(types) {
					add("lock/"+name+"/"+how+"/"+first+"/"+second, setKind("file"), func(s *stage) {
						s.open("name", access[how], func(a int) {
							s.open("name", unix.O_RDWR, func(b int) { s.locks(command, a, b, types[first], types[second]) })
						})
					})
				}
			}
		}
	}
}

func (s *stage) locks(command, a, b int, first, second int16) {
	for _, r := range [][2]int64{{0, 0}, {5, 10}, {10, 5}, {9, 1}, {0, 10}, {20, -5}, {3, -5}, {-1, 1}} {
		s.tell("first", unix.FcntlFlock(uintptr(a), command, &unix.Flock_t{Type: first, Start: 5, Len: 5}))
		s.tell(fmt.Sprint("second ", r), unix.FcntlFlock(uintptr(b), command, &unix.Flock_t{Type: second, Start: r[0], Len: r[1]}))
		ask := unix.Flock_t{Type: second, Start: r[0], Len: r[1]}
		s.tell("ask", unix.FcntlFlock(uintptr(a), command-1, &ask)) // F_GETLK and F_OFD_GETLK
		s.say("asked: %d from %d, %d bytes", ask.Type, ask.Start, ask.Len)
		for _, fd := range []int{a, b} {
			s.must(unix.FcntlFlock(uintptr(fd), command, &unix.Flock_t{Type: unix.F_UNLCK}))
		}
	}
}

// attributeScenes set extended attributes.
func attributeScenes(add adder) {
	attributes := []string{
		"user.a", "user.", "user", "trusted.a", "security.a", "nowhere.a", "", "user." + strings.Repeat("x", 250), "user." + strings.Repeat("x", 251),
		"system.posix_acl_access",
	}
	for _, kind := range []string{"file", "empty", "link", "dangling", "fifo"} {
		for _, user := range players {
			set := func(s *stage) {
				s.put("name", kind)
				s.must(unix.Lchown(s.x("name"), ownerID, ownerID))
			}
			for i, name := range attributes {
				add(fmt.Sprintf("xattr/%s/%s/%d", kind, user.name, i), set, func(s *stage) {
					at := s.x("name")
					s.say("%.30q", name)
					for _, size := range []int{0, 10, 65537} {
						for _, flags := range []int{unix.XATTR_REPLACE, 0, unix.XATTR_CREATE, 9} {
							s.as(user.id, func() {
								s.tell(fmt.Sprintf("%d bytes with %d", size, flags), unix.Lsetxattr(at, name, make([]byte, size), flags))
							})
						}
					}
					for _, size := range []int{0, 5, 100} {
						s.as(user.id, func() {
							n, err := unix.Lgetxattr(at, name, make([]byte, size))
							s.say("get: %d, %s", n, errorName(err))
						})
					}
					for _, size := range []int{0, 5, 1000} {
						n, err := unix.Llistxattr(at, make([]byte, size))
						s.say("list of %d bytes, %s", n, errorName(err))
					}
					s.times(func() { s.as(user.id, func() { s.tell("remove", unix.Lremovexattr(at, name)) }) }, "name")
				})
			}
		}
	}
}
