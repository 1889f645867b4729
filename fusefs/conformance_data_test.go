package fusefs

import (
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// sizeScenes change sizes.
func sizeScenes(add adder) {
	for _, size := range []int64{-1, 0, 1, 17, 4095, 4096, 4097, 1 << 20, 1 << 40, 1 << 44, 1<<44 - 4096, 1 << 50, math.MaxInt64} {
		add(fmt.Sprintf("truncate/%d", size), setKind("file"), func(s *stage) {
			s.times(func() { s.tell("truncate", unix.Truncate(s.x("name"), size)) }, "name")
			s.look("name")
			for _, how := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_APPEND, unix.O_PATH} {
				s.open("name", how, func(fd int) { s.tell(fmt.Sprintf("ftruncate %#x", how), unix.Ftruncate(fd, size)) })
			}
			if size <= 1<<20 {
				s.must(unix.Truncate(s.x("name"), 9000))
				s.content("name") // what was cut off is zero
			}
		})
		add(fmt.Sprintf("ftruncate/%d", size), setKind("file"), func(s *stage) {
			s.open("name", unix.O_RDWR, func(fd int) {
				s.times(func() { s.tell("ftruncate", unix.Ftruncate(fd, size)) }, "name")
			})
			s.look("name")
		})
	}
	for _, kind := range kinds {
		add("ftruncate/"+kind, setKind(kind), func(s *stage) {
			s.open("name", unix.O_RDONLY|unix.O_NONBLOCK, func(fd int) { s.tell("ftruncate", unix.Ftruncate(fd, 3)) })
			s.times(func() { s.open("name", unix.O_RDWR|unix.O_TRUNC|unix.O_NONBLOCK, nil) }, "name", "name-target")
		})
	}
	add("truncate/empty", func(s *stage) { s.must(openAndClose(s.x("name"), unix.O_CREAT|unix.O_RDWR)) }, func(s *stage) {
		s.times(func() { s.tell("truncate", unix.Truncate(s.x("name"), 0)) }, "name")
		s.times(func() { s.open("name", unix.O_RDWR|unix.O_TRUNC, nil) }, "name")
	})
}

// setSparse sets a file of 64 KiB with data in the second and fourth 16 KiB. It
// is in the page cache: what is allocated there counts as data on some file
// systems.
func setSparse(s *stage) {
	s.open("name", unix.O_CREAT|unix.O_RDWR, func(fd int) {
		s.must(unix.Ftruncate(fd, 64<<10))
		for _, at := range []int64{16 << 10, 48 << 10} {
			p := make([]byte, 16<<10)
			for i := range p {
				p[i] = byte(i/7 + int(at>>10) + 1)
			}
			_, err := unix.Pwrite(fd, p, at)
			s.must(err)
		}
		_, err := unix.Pread(fd, make([]byte, 64<<10), 0)
		s.must(err)
	})
}

// holes writes down where a file has data and where not.
func (s *stage) holes(fd int) {
	at, whence := int64(0), unix.SEEK_DATA
	for range 12 {
		next, err := unix.Seek(fd, at, whence)
		if err != nil {
			s.tell(fmt.Sprintf("from %d on", at), err)
			return
		}
		s.say("from %d on: %d", at, next)
		at, whence = next, unix.SEEK_DATA+unix.SEEK_HOLE-whence
	}
}

// rangeScenes allocate, punch, zero and move ranges, and look for data.
func rangeScenes(add adder) {
	const keep = unix.FALLOC_FL_KEEP_SIZE
	all := map[string]uint32{
		"allocate": 0, "keep": keep, "punch": unix.FALLOC_FL_PUNCH_HOLE | keep, "punch without keep": unix.FALLOC_FL_PUNCH_HOLE,
		"zero": unix.FALLOC_FL_ZERO_RANGE, "zero and keep": unix.FALLOC_FL_ZERO_RANGE | keep,
		"collapse": unix.FALLOC_FL_COLLAPSE_RANGE, "insert": unix.FALLOC_FL_INSERT_RANGE,
		"unshare": unix.FALLOC_FL_UNSHARE_RANGE, "punch and zero": unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE | keep,
		"no hide stale": unix.FALLOC_FL_NO_HIDE_STALE, "unknown": 1 << 20,
	}
	for _, mode := range sorted(all) {
		for _, r := range [][2]int64{
			{0, 4096},
			{4096, 8192},
			{16 << 10, 16 << 10},
			{20000, 100},
			{20000, 30000},
			{100, 4096},
			{60 << 10, 8 << 10},
			{64 << 10, 4096},
			{128 << 10, 4096},
			{0, 128 << 10},
			{60 << 10, 4 << 10},
		} {
			add(fmt.Sprintf("fallocate/%s/%d+%d", mode, r[0], r[1]), setSparse, func(s *stage) {
				s.open("name", unix.O_RDWR, func(fd int) {
					s.times(func() { s.tell("fallocate", unix.Fallocate(fd, all[mode], r[0], r[1])) }, "name")
					s.must(unix.Fsync(fd))
					s.holes(fd)
				})
				s.look("name")
				s.content("name")
			})
		}
		add("fallocate/"+mode+"/no range", setSparse, func(s *stage) {
			s.open("name", unix.O_RDWR, func(fd int) {
				for _, r := range [][2]int64{{0, 0}, {0, -1}, {-1, 4096}, {math.MaxInt64, 1}} {
					s.tell(fmt.Sprint(r), unix.Fallocate(fd, all[mode], r[0], r[1]))
				}
			})
		})
		if strings.Contains("allocate, keep, punch, zero", mode) {
			add("fallocate/"+mode+"/too far", setSparse, func(s *stage) {
				s.open("name", unix.O_RDWR, func(fd int) { s.tell("fallocate", unix.Fallocate(fd, all[mode], 1<<50, 4096)) })
			})
		}
		others := func(s *stage) {
			for _, kind := range []string{"file", "empty", "fifo"} {
				s.put(kind, kind)
			}
		}
		add("fallocate/"+mode+"/others", others, func(s *stage) {
			for _, how := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_APPEND, unix.O_PATH} {
				s.open("file", how, func(fd int) { s.tell(fmt.Sprintf("fallocate %#x", how), unix.Fallocate(fd, all[mode], 0, 4096)) })
			}
			s.open("fifo", unix.O_RDWR|unix.O_NONBLOCK, func(fd int) { s.tell("fifo", unix.Fallocate(fd, all[mode], 0, 4096)) })
			s.open("empty", unix.O_RDONLY, func(fd int) { s.tell("directory", unix.Fallocate(fd, all[mode], 0, 4096)) })
		})
	}
	for name, whence := range map[string]int{
		"set": unix.SEEK_SET, "current": unix.SEEK_CUR, "end": unix.SEEK_END, "data": unix.SEEK_DATA, "hole": unix.SEEK_HOLE, "unknown": 7,
	} {
		add("seek/"+name, setSparse, func(s *stage) {
			s.open("name", unix.O_RDWR, func(fd int) {
				s.must(unix.Fsync(fd))
				for _, offset := range []int64{math.MinInt64, -1, 0, 1, 4096, 16 << 10, 20000, 32 << 10, 48<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1} {
					at, err := unix.Seek(fd, offset, whence)
					s.say("%d: %d, %s", offset, at, errorName(err))
				}
				s.must(unix.Ftruncate(fd, 0))
				at, err := unix.Seek(fd, 0, whence)
				s.say("empty: %d, %s", at, errorName(err))
			})
		})
		add("seek far/"+name, setSparse, func(s *stage) {
			s.open("name", unix.O_RDWR, func(fd int) {
				for _, offset := range []int64{1 << 45, math.MaxInt64} {
					at, err := unix.Seek(fd, offset, whence)
					s.say("%d: %d, %s", offset, at, errorName(err))
				}
			})
		})
	}
}

// copyScenes copy ranges inside of a file and between two.
func copyScenes(add adder) {
	for _, to := range []string{"name", "to"} {
		for _, c := range [][3]int64{
			{0, 0, 4096},
			{0, 0, 0},
			{16 << 10, 0, 16 << 10},
			{16 << 10, 17 << 10, 4096},
			{17 << 10, 16 << 10, 4096},
			{16 << 10, 32 << 10, 16 << 10},
			{20000, 3, 12345},
			{60 << 10, 0, 16 << 10},
			{64 << 10, 0, 1},
			{1 << 40, 0, 1},
			{0, 64 << 10, 64 << 10},
			{0, 1 << 20, 4096},
			{-1, 0, 1},
			{0, -1, 1},
			{0, math.MaxInt64, 1},
			{0, 1 << 50, 4096},
			{48 << 10, 0, math.MaxInt32},
		} {
			set := func(s *stage) { setSparse(s); s.put("to", "file") }
			add(fmt.Sprintf("copy/%s/%d-%d+%d", to, c[0], c[1], c[2]), set, func(s *stage) {
				s.open("name", unix.O_RDWR, func(a int) {
					s.open(to, unix.O_RDWR, func(b int) {
						from, dest := c[0], c[1]
						s.times(func() {
							n, err := unix.CopyFileRange(a, &from, b, &dest, int(c[2]), 0)
							s.say("copied %d, %s, at %d and %d", n, errorName(err), from, dest)
						}, to)
					})
				})
				s.look("name", "to")
				s.content("name")
				s.content("to")
			})
		}
	}
	others := func(s *stage) {
		for _, name := range []string{"file", "to"} {
			s.put(name, "file")
		}
		s.put("dir", "empty")
		s.put("fifo", "fifo")
	}
	add("copy/others", others, func(s *stage) {
		for _, from := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_PATH} {
			for _, to := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_APPEND, unix.O_PATH} {
				s.open("file", from, func(a int) {
					s.open("to", to, func(b int) {
						for _, flags := range []int{0, 1} {
							n, err := unix.CopyFileRange(a, nil, b, nil, 5, flags)
							s.say("%#x to %#x with %d: %d, %s", from, to, flags, n, errorName(err))
						}
					})
				})
			}
		}
		for _, name := range []string{"dir", "fifo"} {
			s.open(name, unix.O_RDONLY|unix.O_NONBLOCK, func(a int) {
				s.open("to", unix.O_RDWR, func(b int) {
					_, err := unix.CopyFileRange(a, nil, b, nil, 5, 0)
					s.tell("from "+name, err)
					_, err = unix.CopyFileRange(b, nil, a, nil, 5, 0)
					s.tell("to "+name, err)
				})
			})
		}
		s.content("to")
	})
}
