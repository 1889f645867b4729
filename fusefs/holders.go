package fusefs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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
		uses, reads := p.usesBelow(file)
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
