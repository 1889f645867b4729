package keeper

import (
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Program is an executable file that stays the same whatever becomes of its
// path.
type Program struct{ fd int }

// lowest is above the descriptors that a process that is started is given, which
// take the places of others before the program is executed.
const lowest = 64

// OpenProgram opens what lies at a path now.
func OpenProgram(path string) (*Program, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open program %s: %w", path, err)
	}
	p, err := programOf(fd)
	if err != nil {
		return nil, fmt.Errorf("open program %s: %w", path, err)
	}
	return p, nil
}

// programOf takes over a descriptor.
func programOf(fd int) (*Program, error) {
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowest)
	_ = unix.Close(fd) // nothing was written
	if err != nil {
		return nil, err
	}
	var s unix.Stat_t
	if err = unix.Fstat(high, &s); err == nil && s.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EACCES // as the kernel says of what is no file
	}
	if err != nil {
		_ = unix.Close(high)
		return nil, err
	}
	return &Program{high}, nil
}

// path leads to the program in this process and in one that it is just starting.
func (p *Program) path() string { return filepath.Join("/proc/self/fd", strconv.Itoa(p.fd)) }

// Close lets go of it.
func (p *Program) Close() {
	if p != nil {
		_ = unix.Close(p.fd) // nothing was written
	}
}
