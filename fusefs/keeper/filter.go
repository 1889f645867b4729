package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// variable tells a filter the descriptor of its socket to the keeper.
const variable = "LIFEBOAT_KEEPER_FD"

// filter is a process that was started to serve the mount.
type filter struct {
	command *exec.Cmd
	socket  *handover.Socket
}

func (k *keeper) start() (*filter, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket to the filter: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket to the keeper")
	command := k.Filter()
	command.ExtraFiles = append(command.ExtraFiles, theirs)
	if command.Env == nil {
		command.Env = os.Environ()
	}
	command.Env = append(command.Env, variable+"="+strconv.Itoa(2+len(command.ExtraFiles)))
	command.Dir = "/" // where the keeper is may be on the mount
	// A terminal's interrupt is for the keeper, who passes it on.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = command.Start()
	if err = errors.Join(err, theirs.Close()); err != nil {
		_ = unix.Close(pair[0]) // nothing was sent
		return nil, fmt.Errorf("start the filter: %w", err)
	}
	return &filter{command: command, socket: handover.NewSocket(pair[0])}, nil
}

// converse gives the filter what it needs and holds what it asks for, until it
// is dead.
func (f *filter) converse(k *keeper, ready func()) error {
	defer f.socket.Close()
	if err := handover.Give(f.socket, k.mount.Device, k.mount.Folder, k.mount.State, k.held); err != nil {
		return nil //nolint:nilerr // the filter is dead: its end tells why
	}
	return handover.Keep(f.socket, k.held, ready)
}

// Estate returns what the keeper that started this process gives, or nil if
// none did.
func Estate() (*handover.Estate, error) {
	value, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	fd, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil {
		return nil, fmt.Errorf("%s=%s is no descriptor: it is set by lifeboat mount for itself", variable, value)
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	return handover.Take(handover.NewSocket(fd))
}
