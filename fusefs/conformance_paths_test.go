package fusefs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// pathCalls are the system calls that take a path. other is a file that is
// there, or a directory, or a name that is free.
var pathCalls = []struct {
	name, other string
	call        func(path, other string) error
}{
	{"open", "none", func(p, _ string) error { return openAndClose(p, unix.O_RDONLY|unix.O_NONBLOCK) }},
	{"open for writing", "none", func(p, _ string) error { return openAndClose(p, unix.O_WRONLY|unix.O_NONBLOCK) }},
	{"create", "none", func(p, _ string) error { return openAndClose(p, unix.O_CREAT|unix.O_RDWR|unix.O_NONBLOCK) }},
	{"create exclusively", "none", func(p, _ string) error { return openAndClose(p, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR) }},
	{"open directory", "none", func(p, _ string) error { return openAndClose(p, unix.O_DIRECTORY|unix.O_RDONLY) }},
	{"mkdir", "none", func(p, _ string) error { return unix.Mkdir(p, 0o755) }},
	{"mkfifo", "none", func(p, _ string) error { return unix.Mkfifo(p, 0o644) }},
	{"mknod", "none", func(p, _ string) error { return unix.Mknod(p, unix.S_IFREG|0o644, 0) }},
	{"symlink", "none", func(p, _ string) error { return unix.Symlink("somewhere", p) }},
	{"link from", "none", unix.Link},
	{"link to", "file", func(p, other string) error { return unix.Link(other, p) }},
	{"link followed", "none", func(p, other string) error {
		return unix.Linkat(unix.AT_FDCWD, p, unix.AT_FDCWD, other, unix.AT_SYMLINK_FOLLOW)
	}},
	{"rename from", "none", unix.Rename},
	{"rename to", "file", func(p, other string) error { return unix.Rename(other, p) }},
	{"rename directory to", "empty", func(p, other string) error { return unix.Rename(other, p) }},
	{"unlink", "none", func(p, _ string) error { return unix.Unlink(p) }},
	{"rmdir", "none", func(p, _ string) error { return unix.Rmdir(p) }},
	{"chmod", "none", func(p, _ string) error { return unix.Chmod(p, 0o751) }},
	{"chown", "none", func(p, _ string) error { return unix.Chown(p, ownerID, otherID) }},
	{"lchown", "none", func(p, _ string) error { return unix.Lchown(p, ownerID, otherID) }},
	{"truncate", "none", func(p, _ string) error { return unix.Truncate(p, 7) }},
	{"utimensat", "none", func(p, _ string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1}, {Sec: 2}}, 0)
	}},
	{"stat", "none", func(p, _ string) error { return unix.Stat(p, new(unix.Stat_t)) }},
	{"lstat", "none", func(p, _ string) error { return unix.Lstat(p, new(unix.Stat_t)) }},
	{"readlink", "none", func(p, _ string) error { _, err := unix.Readlink(p, make([]byte, 100)); return err }},
	{"statfs", "none", func(p, _ string) error { return unix.Statfs(p, new(unix.Statfs_t)) }},
	{"access", "none", func(p, _ string) error {
		return unix.Faccessat(unix.AT_FDCWD, p, unix.R_OK|unix.W_OK, unix.AT_EACCESS)
	}},
	{"setxattr", "none", func(p, _ string) error { return unix.Setxattr(p, "user.x", []byte("x"), 0) }},
	{"getxattr", "none", func(p, _ string) error { _, err := unix.Getxattr(p, "user.x", make([]byte, 9)); return err }},
}

// ways are what a path may have behind the name that it leads through.
var ways = map[string]string{"it": "", "with a slash": "/", "below it": "/below", "its dot": "/.", "its parent": "/.."}

// strange are paths of their own.
var strange = map[string]string{
	"empty":                       "",
	"dot":                         ".",
	"dot dot":                     "..",
	"missing parent":              "missing/name",
	"255 bytes":                   strings.Repeat("n", 255),
	"256 bytes":                   strings.Repeat("n", 256),
	"256 bytes below":             "directory/" + strings.Repeat("n", 256) + "/x",
	"255 bytes below":             "directory/" + strings.Repeat("n", 255),
	"path of 4095 bytes":          longPath(4095, "x"),
	"path of 4096 bytes":          longPath(4096, "y"),
	"present by 4095 bytes":       longPath(4095, "present"),
	"40 links":                    strings.Repeat("here/", 40) + "present",
	"41 links":                    strings.Repeat("here/", 41) + "present",
	"not UTF-8":                   "\xff\xfe\x01",
	"new line":                    "a\nb",
	"hidden elsewhere":            ".lifeboat",
	"in a closed directory":       "closed/name",
	"in a directory not writable": "readonly/name",
}

// longPath leads in n bytes to a name in the working directory.
func longPath(n int, name string) string {
	pad := n - len(name)
	if pad%2 == 1 {
		return ".//" + strings.Repeat("./", (pad-3)/2) + name
	}
	return strings.Repeat("./", pad/2) + name
}

// setStrange sets what strange paths lead through or to.
func setStrange(s *stage) {
	s.must(unix.Mkdir("in", 0o777))
	s.must(unix.Chdir("in"))
	for name, mode := range map[string]uint32{"closed": 0o700, "readonly": 0o755} {
		s.must(unix.Mkdir(name, mode))
		s.must(openAndClose(name+"/name", unix.O_CREAT|unix.O_RDWR))
	}
	s.must(unix.Mkdir("directory", 0o755))
	s.must(openAndClose("present", unix.O_CREAT|unix.O_RDWR))
	s.must(unix.Symlink(".", "here"))
}

// playersOf are who tries a strange path: all, if it leads where not all may go.
func playersOf(way string) []player {
	if strings.HasPrefix(way, "in a") {
		return players
	}
	return players[:1]
}

// pathScenes call with all kinds of names, and by strange paths.
func pathScenes(add adder) {
	for _, c := range pathCalls {
		for _, kind := range kinds {
			set := func(s *stage) {
				for _, way := range sorted(ways) {
					s.put(way, kind)
					s.put(way+" other", c.other)
				}
			}
			add("path/"+c.name+"/"+kind, set, func(s *stage) {
				for _, way := range sorted(ways) {
					s.tell(way, c.call(s.x(way)+ways[way], s.x(way+" other")))
					s.look(way)
				}
			})
		}
		set := func(s *stage) {
			setStrange(s)
			for i, way := range sorted(strange) {
				for _, user := range playersOf(way) {
					s.put(fmt.Sprint("other", i, user.name), c.other)
				}
			}
		}
		add("path/"+c.name+"/strange", set, func(s *stage) {
			s.must(unix.Chdir("in"))
			for i, way := range sorted(strange) {
				for _, user := range playersOf(way) {
					other := s.x(fmt.Sprint("other", i, user.name))
					s.as(user.id, func() { s.tell(way+" as "+user.name, c.call(strange[way], other)) })
				}
			}
			s.list(".")
		})
	}
}
