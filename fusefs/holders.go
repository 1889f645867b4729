package fusefs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// BusyError says which processes are in the way.
type BusyError struct {
	What    string   // what cannot be had, and why
	Holders []Holder // may be empty: a kernel user, or a process that cannot be seen
}

// Holder is a process that uses a file or a mount.
type Holder struct {
	PID     int
	Command string
	Uses    []string // descriptors, cwd, root, exe, mapping
}

// hiddenHolder stands for somebody whom /proc does not show.
var hiddenHolder = Holder{}

func (h Holder) String() string {
	switch {
	case h.Command == "":
		return "somebody who cannot be seen from here (the kernel, another container?)"
	case h.PID == 0:
		return h.Command
	case len(h.Uses) == 0:
		return fmt.Sprintf("%s (pid %d)", h.Command, h.PID)
	}
	return fmt.Sprintf("%s (pid %d: %s)", h.Command, h.PID, strings.Join(h.Uses, ", "))
}

func (e *BusyError) Error() string {
	if len(e.Holders) == 0 {
		return "fusefs: " + e.What + ", by no process that can be seen from here (a loop device, another mount, another user's process?)"
	}
	return "fusefs: " + e.What + ", by " + holderNames(e.Holders) + ": close it first"
}

func holderNames(holders []Holder) string {
	names := make([]string, len(holders))
	for i, h := range holders {
		names[i] = h.String()
	}
	return strings.Join(names, "; ")
}

// holderOf names a process, which may be gone.
func holderOf(pid int) Holder {
	if pid == 0 {
		return hiddenHolder
	}
	p := processOf(pid)
	if !p.alive() {
		return Holder{PID: pid, Command: "a process that has ended"}
	}
	return Holder{PID: pid, Command: p.command()}
}

// holdersBelow finds the processes, but this one, and the loop devices that can
// change the file without the filter seeing it, and those that can only read it.
func holdersBelow(file FileID) (writers, readers []Holder, err error) {
	writers, err = scanProcesses(func(p process) []string {
		var uses, reads []string
		p.descriptors(func(number string, at FileID) {
			switch {
			case at != file:
			case p.canWrite(number):
				uses = append(uses, "descriptor "+number)
			default:
				reads = append(reads, "descriptor "+number)
			}
		})
		p.mappings(func(at FileID, rights string) {
			switch {
			case at != file:
			case strings.HasPrefix(rights[1:], "w") && strings.HasSuffix(rights, "s"):
				uses = append(uses, "mapping")
			default:
				reads = append(reads, "mapping")
			}
		})
		if len(reads) > 0 {
			readers = append(readers, Holder{PID: p.pid(), Command: p.command(), Uses: reads})
		}
		return uses
	})
	if err != nil {
		return nil, nil, err
	}
	loopWriters, loopReaders := loopsOn(file)
	return append(writers, loopWriters...), append(readers, loopReaders...), nil
}

// usersAbove finds the processes that have the file open through the mount.
func (f *filter) usersAbove(file FileID) ([]Holder, error) {
	device := f.mountDevice.Load()
	if device == 0 {
		return nil, nil
	}
	want := FileID{Device: device, Inode: f.inode(file.Device, file.Inode)}
	return scanProcesses(func(p process) []string {
		var uses []string
		p.descriptors(func(number string, at FileID) {
			if at == want {
				uses = append(uses, "descriptor "+number)
			}
		})
		return uses
	})
}

// usersOf finds the processes that keep a mount busy.
func usersOf(device uint64) ([]Holder, error) {
	return scanProcesses(func(p process) []string {
		var uses []string
		for _, link := range []string{"cwd", "root", "exe"} {
			if at, ok := p.at(link); ok && at.Device == device {
				uses = append(uses, link)
			}
		}
		p.descriptors(func(number string, at FileID) {
			if at.Device == device {
				uses = append(uses, "descriptor "+number)
			}
		})
		p.mappings(func(at FileID, _ string) {
			if at.Device == device {
				uses = append(uses, "mapping")
			}
		})
		return uses
	})
}

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

// scanProcesses asks of every process but this one how it uses something.
func scanProcesses(uses func(process) []string) ([]Holder, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	var holders []Holder
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p := processOf(pid)
		if u := uses(p); len(u) > 0 {
			holders = append(holders, Holder{PID: pid, Command: p.command(), Uses: u})
		}
	}
	return holders, nil
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

// mappings calls for each file mapped into the process's memory, with its
// rights as /proc/PID/maps writes them, such as rw-s.
func (p process) mappings(found func(at FileID, rights string)) {
	maps, err := os.ReadFile(filepath.Join(string(p), "maps"))
	if err != nil {
		return
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
}

// command is the process's name.
func (p process) command() string {
	name, err := os.ReadFile(filepath.Join(string(p), "comm"))
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}
