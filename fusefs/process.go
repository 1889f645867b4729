package fusefs

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a directory of /proc.
type process string

func processOf(pid int) process { return process(filepath.Join("/proc", strconv.Itoa(pid))) }

func (p process) pid() int {
	pid, err := strconv.Atoi(filepath.Base(string(p)))
	if err != nil {
		return 0
	}
	return pid
}

// alive tells whether it still runs.
func (p process) alive() bool {
	_, err := os.Stat(string(p))
	return !errors.Is(err, os.ErrNotExist)
}

// at tells where a link leads, from what the kernel has in memory: without that
// restriction the question would go to this very file system.
func (p process) at(link string) (FileID, bool) {
	var s unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, filepath.Join(string(p), link), unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &s)
	if err != nil {
		return FileID{}, false
	}
	return FileID{Device: unix.Mkdev(s.Dev_major, s.Dev_minor), Inode: s.Ino}, true
}

// descriptors calls for each open descriptor. Those that cannot be seen, or are
// closed meanwhile, are left out.
func (p process) descriptors(found func(number string, at FileID)) {
	dir, err := os.Open(filepath.Join(string(p), "fd"))
	if err != nil {
		return
	}
	defer dir.Close() //nolint:errcheck // only read
	numbers, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, number := range numbers {
		if at, ok := p.at(filepath.Join("fd", number)); ok {
			found(number, at)
		}
	}
}

// canWrite tells whether a descriptor was opened for writing.
func (p process) canWrite(number string) bool {
	info, err := os.ReadFile(filepath.Join(string(p), "fdinfo", number))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(info)) {
		value, ok := strings.CutPrefix(line, "flags:")
		if !ok {
			continue
		}
		flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 64)
		return err == nil && flags&unix.O_PATH == 0 && flags&unix.O_ACCMODE != unix.O_RDONLY
	}
	return false
}

// processInquiries are those for memory maps, each by its path. Everything else
// of a process is read without waiting for it.
var processInquiries = newInquiries(time.Second)

// mappings calls for each file mapped into the process's memory, with its
// rights as /proc/PID/maps writes them, such as rw-s. It returns false if the
// kernel does not tell: the process hangs with its memory map locked.
func (p process) mappings(found func(at FileID, rights string)) bool {
	var maps []byte
	path := filepath.Join(string(p), "maps")
	answered := processInquiries.ask(path, func() {
		// Who cannot be asked has ended, or is a task of the kernel's.
		maps, _ = os.ReadFile(path)
	})
	if !answered {
		return false
	}
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		// 7f0c8a000000-7f0c8a021000 rw-s 00000000 fe:00 131 /path
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || len(fields[1]) != 4 {
			continue
		}
		major, minor, _ := strings.Cut(fields[3], ":")
		maj, err1 := strconv.ParseUint(major, 16, 32)
		min, err2 := strconv.ParseUint(minor, 16, 32)
		inode, err3 := strconv.ParseUint(fields[4], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil || inode == 0 {
			continue
		}
		found(FileID{Device: unix.Mkdev(uint32(maj), uint32(min)), Inode: inode}, fields[1])
	}
	return true
}

// command is the process's name.
func (p process) command() string {
	name, err := os.ReadFile(filepath.Join(string(p), "comm"))
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

// hangs is how a process uses a file for all that is known of it.
const hangs = "perhaps a mapping, which it does not show while it hangs"

// usesBelow tells how a process can change the file, and how it can only read it.
func (p process) usesBelow(file FileID) (uses, reads []string) {
	p.descriptors(func(number string, at FileID) {
		switch {
		case at != file:
		case p.canWrite(number):
			uses = append(uses, "descriptor "+number)
		default:
			reads = append(reads, "descriptor "+number)
		}
	})
	seen := p.mappings(func(at FileID, rights string) {
		switch {
		case at != file:
		case strings.HasPrefix(rights[1:], "w") && strings.HasSuffix(rights, "s"):
			uses = append(uses, "mapping")
		default:
			reads = append(reads, "mapping")
		}
	})
	if !seen {
		uses = append(uses, hangs)
	}
	return uses, reads
}
