package fusefs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// modeScenes change modes, and files whose suid and sgid bits some changes take
// away.
func modeScenes(add adder) {
	for _, kind := range []string{"file", "empty", "fifo"} {
		for _, user := range players {
			for _, group := range []int{ownerID, otherID} {
				set := func(s *stage) { s.put("name", kind); s.own("name", group, 0o600) }
				for _, mode := range []uint32{0, 0o644, 0o1755, 0o2755, 0o2745, 0o4755, 0o6777, 0o7777} {
					add(fmt.Sprintf("chmod/%s/%s/%d/%o", kind, user.name, group, mode), set, func(s *stage) {
						s.times(func() { s.as(user.id, func() { s.tell("chmod", unix.Chmod(s.x("name"), mode)) }) }, "name")
						s.look("name")
					})
				}
			}
		}
	}
	for _, kind := range kinds {
		add("chmod/nofollow/"+kind, setKind(kind), func(s *stage) {
			s.tell("chmod", unix.Fchmodat(unix.AT_FDCWD, s.x("name"), 0o640, unix.AT_SYMLINK_NOFOLLOW))
			s.look("name", "name-target")
		})
	}
	zero, eight := int64(0), int64(8)
	changes := map[string]func(fd int) error{
		"write":        func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err },
		"pwrite":       func(fd int) error { _, err := unix.Pwrite(fd, []byte("x"), 5000); return err },
		"no write":     func(fd int) error { _, err := unix.Write(fd, nil); return err },
		"truncate":     func(fd int) error { return unix.Ftruncate(fd, 3) },
		"same size":    func(fd int) error { return unix.Ftruncate(fd, int64(len(someContent))) },
		"allocate":     func(fd int) error { return unix.Fallocate(fd, 0, 0, 9000) },
		"allocate far": func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 9000) },
		"punch": func(fd int) error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 10)
		},
		"zero": func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 0, 10) },
		"copy": func(fd int) error {
			from, to := zero, eight
			_, err := unix.CopyFileRange(fd, &from, fd, &to, 4, 0)
			return err
		},
		"fsync": unix.Fsync,
		"chmod": func(fd int) error { return unix.Fchmod(fd, 0o6755) },
		"mapped": func(fd int) error {
			p, err := unix.Mmap(fd, 0, 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			p[0] = 'x'
			return unix.Munmap(p)
		},
	}
	for _, change := range sorted(changes) {
		for _, user := range players {
			for _, mode := range []uint32{0o4777, 0o2777, 0o6777, 0o2767, 0o6767, 0o777} {
				set := func(s *stage) { s.put("name", "file"); s.own("name", ownerID, mode) }
				add(fmt.Sprintf("setid/%s/%s/%o", change, user.name, mode), set, func(s *stage) {
					s.as(user.id, func() { s.open("name", unix.O_RDWR, func(fd int) { s.tell(change, changes[change](fd)) }) })
					s.look("name")
				})
			}
		}
	}
}

// ownerScenes give things away.
func ownerScenes(add adder) {
	for _, kind := range []string{"file", "empty", "link", "fifo"} {
		for _, user := range players {
			for _, to := range [][2]int{{-1, -1}, {ownerID, -1}, {-1, ownerID}, {otherID, -1}, {-1, otherID}, {0, 0}, {ownerID, ownerID}} {
				for _, mode := range []uint32{0o644, 0o6777} {
					set := func(s *stage) { s.put("name", kind); s.own("name", otherID, mode) }
					add(fmt.Sprintf("chown/%s/%s/%d/%o", kind, user.name, to, mode), set, func(s *stage) {
						s.times(func() {
							s.as(user.id, func() { s.tell("chown", unix.Lchown(s.x("name"), to[0], to[1])) })
						}, "name")
						s.as(user.id, func() { s.tell("followed", unix.Chown(s.x("name"), to[0], to[1])) })
						s.look("name", "name-target")
					})
				}
			}
		}
	}
	for _, to := range [][2]int{{ownerID, -1}, {-1, ownerID}, {ownerID, ownerID}} {
		set := func(s *stage) { s.put("name", "file"); s.own("name", otherID, 0o6767) }
		add(fmt.Sprintf("chown/sgid without execution/%d", to), set, func(s *stage) {
			s.as(ownerID, func() { s.tell("chown", unix.Chown(s.x("name"), to[0], to[1])) })
			s.look("name")
		})
	}
}

// rightScenes try what the mode of a file, that of its directory, and the
// sticky bit allow to whom.
func rightScenes(add adder) {
	for _, user := range players {
		for _, group := range []int{ownerID, otherID} {
			for _, bits := range []uint32{0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600, 0o700, 0o070, 0o007, 0o555, 0o666} {
				set := func(s *stage) {
					s.must(unix.Mkdir("dir"+s.suffix, 0o777))
					s.put("dir"+s.suffix+"/file", "file")
					s.put("plain", "file")
					s.own("dir", group, bits)
					s.own("plain", group, bits)
				}
				add(fmt.Sprintf("rights/%s/%d/%o", user.name, group, bits), set, func(s *stage) {
					plain, dir := s.x("plain"), s.x("dir")
					access := func(path string, mode uint32) error {
						return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
					}
					s.as(user.id, func() {
						for _, how := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC, unix.O_NOATIME, unix.O_PATH} {
							s.tell(fmt.Sprintf("open %#x", how), openAndClose(plain, how))
						}
						s.tell("truncate", unix.Truncate(plain, 1))
						for _, mode := range []uint32{unix.R_OK, unix.W_OK, unix.X_OK} {
							s.tell(fmt.Sprint("access file ", mode), access(plain, mode))
							s.tell(fmt.Sprint("access directory ", mode), access(dir, mode))
						}
						s.tell("list", openAndClose(dir, unix.O_DIRECTORY))
						s.tell("search", openAndClose(dir+s.x("/file"), unix.O_RDONLY))
						s.tell("make", openAndClose(dir+s.x("/new"), unix.O_CREAT|unix.O_WRONLY))
						s.tell("link", unix.Link(plain, dir+s.x("/link")))
						s.tell("rename", unix.Rename(dir+s.x("/file"), dir+s.x("/renamed")))
						s.tell("unlink", unix.Unlink(dir+s.x("/renamed")))
					})
				})
			}
		}
	}
	for _, sticky := range []uint32{0o777, 0o1777} {
		for _, dir := range []int{0, ownerID, otherID} {
			for _, file := range []int{0, ownerID, otherID} {
				for _, kind := range []string{"file", "empty", "link"} {
					set := func(s *stage) {
						s.must(unix.Mkdir("free", 0o777))
						s.must(unix.Mkdir("dir", 0o777))
						for _, name := range []string{"rename", "remove", "move", "over", "swap", "other"} {
							s.put("dir/"+name, kind)
							s.must(unix.Lchown(s.x("dir/"+name), file, file))
						}
						s.put("mine", kind)
						s.must(unix.Lchown(s.x("mine"), ownerID, ownerID))
						s.must(unix.Chown("dir", dir, dir))
						s.must(unix.Chmod("dir", sticky))
					}
					add(fmt.Sprintf("sticky/%o/%d/%d/%s", sticky, dir, file, kind), set, func(s *stage) {
						s.as(ownerID, func() {
							s.tell("rename", unix.Rename(s.x("dir/rename"), s.x("dir/renamed")))
							s.tell("move", unix.Rename(s.x("dir/move"), s.x("free/moved")))
							s.tell("rename over", unix.Rename(s.x("mine"), s.x("dir/over")))
							s.tell("swap", unix.Renameat2(unix.AT_FDCWD, s.x("dir/swap"), unix.AT_FDCWD, s.x("dir/other"), unix.RENAME_EXCHANGE))
							s.tell("unlink", unix.Unlink(s.x("dir/remove")))
							s.tell("rmdir", unix.Rmdir(s.x("dir/remove")))
						})
						s.list("dir")
						s.list("free")
					})
				}
			}
		}
	}
}

// timeScenes set times.
func timeScenes(add adder) {
	const now, omit = unix.UTIME_NOW, unix.UTIME_OMIT
	for _, kind := range []string{"file", "empty", "link"} {
		for _, user := range players {
			for _, mode := range []uint32{0o644, 0o666} {
				for i, times := range [][2]unix.Timespec{
					{{Nsec: now}, {Nsec: now}},
					{{Nsec: omit}, {Nsec: omit}},
					{{Nsec: now}, {Nsec: omit}},
					{{Nsec: omit}, {Nsec: now}},
					{{Sec: 1, Nsec: 5}, {Sec: 2, Nsec: 999999999}},
					{{Sec: 1}, {Nsec: omit}},
					{{Nsec: omit}, {Sec: 1}},
					{{Sec: 1}, {Nsec: 1000000000}},
					{{Nsec: -1}, {Sec: 1}},
					{{Sec: -1}, {Sec: -1000}},
					{{Sec: 1 << 32}, {Sec: 1<<34 - 1}},
					{{Sec: 3}, {Nsec: now}},
					{{Sec: -1 << 31}, {Sec: -1 << 33}},
					{{Sec: 1 << 34}, {Sec: 1 << 40}},
				} {
					set := func(s *stage) {
						s.put("name", kind)
						s.must(unix.Lchown(s.x("name"), ownerID, ownerID))
						if kind != "link" {
							s.must(unix.Chmod(s.x("name"), mode))
						}
					}
					add(fmt.Sprintf("utimensat/%s/%s/%o/%d", kind, user.name, mode, i), set, func(s *stage) {
						s.times(func() {
							s.as(user.id, func() {
								s.tell(fmt.Sprint(times), unix.UtimesNanoAt(unix.AT_FDCWD, s.x("name"), times[:], unix.AT_SYMLINK_NOFOLLOW))
							})
						}, "name")
						var st unix.Stat_t
						s.must(unix.Lstat(s.x("name"), &st))
						for _, at := range []unix.Timespec{st.Atim, st.Mtim} {
							if at.Sec < 1<<30 || at.Sec >= 1<<31 {
								s.say("it is %v", at)
							}
						}
					})
				}
			}
		}
	}
}
