package integration

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// setBefore is later than any time that actors set, and earlier than any at
// which something happened by itself.
var setBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// landscape tells, in lines, of all that an actor made in a folder, by its number,
// or of what all of them did.
func landscape(root, actor string) (lines []string) {
	for _, name := range everything(root, actor) {
		path := filepath.Join(root, name)
		lines = append(lines, name+": "+looks(path))
	}
	return lines
}

// looks tells of what a path stands for: attributes, extended ones, content.
func looks(path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return errno(err)
	}
	line := attributesOf(&st)
	if strings.HasPrefix(filepath.Base(path), plentiful) {
		return line
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		line += " -> " + linkAt(path)
	case unix.S_IFREG:
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return line + " open: " + errno(err)
		}
		line += " " + contentAt(fd, 0, int(st.Size))
		_ = unix.Close(fd) // only read
	}
	return line + extended(path)
}

// attributesOf are those that do not depend on when something was done. The
// size of a directory is the file system's own business, and what is written to
// a pipe is no matter of FUSE's.
func attributesOf(st *unix.Stat_t) string {
	size, changed := st.Size, "lately"
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	if at := time.Unix(st.Mtim.Unix()); st.Mode&unix.S_IFMT == unix.S_IFIFO {
		changed = "whenever"
	} else if at.Before(setBefore) {
		changed = at.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("mode %o, %d links, owner %d:%d, %d bytes, changed %s", st.Mode, st.Nlink, st.Uid, st.Gid, size, changed)
}

func linkAt(path string) string {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlink(path, target)
	if err != nil {
		return errno(err)
	}
	return string(target[:n])
}

// contentAt tells of n bytes of a file, by their checksum.
func contentAt(fd int, offset int64, n int) string {
	p := make([]byte, n)
	k, err := unix.Pread(fd, p, offset)
	if err != nil {
		return errno(err)
	}
	sum := sha256.Sum256(p[:k])
	return fmt.Sprintf("ok %d bytes, %x", k, sum[:6])
}

// extended tells of a path's extended attributes.
func extended(path string) (line string) {
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return ", attributes: " + errno(err)
	}
	names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return line + ", " + name + ": " + errno(err)
		}
		line += fmt.Sprintf(", %s=%x", name, value[:n])
	}
	return line
}

// everything are the paths of what an actor made, sorted.
func everything(root, actor string) (found []string) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path) // of one below root
		first, rest, inside := strings.Cut(name, "/")
		switch {
		case err != nil:
			found = append(found, name+": "+errno(err))
		case name == ".", name == common:
		case first == common && inside && strings.HasPrefix(rest, actor), first != common && strings.HasPrefix(first, "actor"+actor):
			found = append(found, name)
		case entry.IsDir():
			return fs.SkipDir // another one's
		}
		return nil
	})
	if err != nil {
		found = append(found, errno(err))
	}
	return found
}

// paths are those that operations are to be done on, and not the actor's
// directory itself.
func paths(root, actor string) []string {
	return slices.DeleteFunc(everything(root, actor), func(name string) bool {
		return !strings.Contains(name, "/") || strings.HasPrefix(filepath.Base(name), plentiful)
	})
}

// differing shows the lines that only one of two has.
func differing(want, is []string) string {
	var lines []string
	for _, line := range want {
		if !slices.Contains(is, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range is {
		if !slices.Contains(want, line) {
			lines = append(lines, "+ "+line)
		}
	}
	return strings.Join(lines, "\n")
}

// list tells the names in a directory that is open, and of what kind they are,
// without those of other actors.
func list(fd int, actor string) string {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return errno(err)
	}
	buffer := make([]byte, 4096)
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil {
			return errno(err)
		}
		if n == 0 {
			break
		}
		for rest := buffer[:n]; len(rest) > 0; {
			// inode and offset of 8 bytes each, length of 2, kind of 1, name
			length := int(rest[16]) | int(rest[17])<<8
			name, _, _ := strings.Cut(string(rest[19:length]), "\x00")
			if other := name[0] >= '0' && name[0] <= '9'; !other || strings.HasPrefix(name, actor) {
				names = append(names, fmt.Sprintf("%s:%d", name, rest[18]))
			}
			rest = rest[length:]
		}
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return fmt.Sprintf("ok %d names, %x: %.300v", len(names), sum[:6], slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, plentiful)
	}))
}
