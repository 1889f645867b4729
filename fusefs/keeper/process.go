package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs"
	"lifeboat/fusefs/handover"
)

// variable tells a filter the descriptor of its socket to the keeper.
const variable = "LIFEBOAT_KEEPER_FD"

// process is what the decisions can do to a filter. Whatever it cannot be told
// any more shows by its end.
type process interface {
	begin()
	letGo(attempt uint64)
	goOn()
	signal(unix.Signal)
	kill()
	// waitsForDisk tells whether some thread is in a sleep that even a kill does
	// not interrupt.
	waitsForDisk() bool
	pid() int
}

// hearing is who hears of a process, from any goroutine: ended is called last.
type hearing struct {
	said  func(w handover.Word, attempt uint64, text string)
	ended func(error)
}

// starter starts filters.
type starter struct {
	config Config
	mount  *fusefs.Established
	held   *handover.Held
	score  string // how soon the kernel may kill a filter when memory runs out
}

// start starts a filter and gives it what it needs to get prepared.
func (s *starter) start(program *Program, heard hearing) (process, error) {
	socket, theirs, err := handover.Pair()
	if err != nil {
		return nil, err
	}
	command := s.config.Filter(program.path())
	err = startWith(command, variable, theirs)
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("start the filter: %w", err)
	}
	c := &child{peer{socket, s.held}, command.Process}
	s.setScore(c.pid())
	if err := handover.Introduce(socket, s.mount.Device, s.mount.Folder, s.mount.State); err != nil {
		c.kill() // its end tells why
	}
	go func() {
		err := c.listen(heard, c.kill)
		socket.Close()
		heard.ended(errors.Join(command.Wait(), err))
	}()
	return c, nil
}

// startWith starts a process with a descriptor, which is closed here, and a
// variable that tells it the number.
func startWith(command *exec.Cmd, variable string, fd int) error {
	file := os.NewFile(uintptr(fd), "socket")
	command.ExtraFiles = append(command.ExtraFiles, file)
	if command.Env == nil {
		command.Env = os.Environ()
	}
	command.Env = append(command.Env, variable+"="+strconv.Itoa(2+len(command.ExtraFiles)))
	command.Dir = "/" // where this process is may be on the mount
	// A terminal's interrupt is for the keeper, who passes it on.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := command.Start()
	return errors.Join(err, file.Close())
}

// inherited returns the socket that a variable tells of, or nil.
func inherited(variable string) (*handover.Socket, error) {
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
	_ = os.WriteFile("/proc/self/comm", []byte("lifeboat"), 0) // or its name is a descriptor's number
	return handover.NewSocket(fd), nil
}

// Estate returns what the keeper that started this process gives, or nil if
// none did.
func Estate() (*handover.Estate, error) {
	socket, err := inherited(variable)
	if err != nil || socket == nil {
		return nil, err
	}
	estate, err := handover.Take(socket)
	if err != nil {
		return nil, err
	}
	estate.NewKeeper = startKeeper
	return estate, nil
}

// peer is a filter at the other end of a socket.
type peer struct {
	socket *handover.Socket
	held   *handover.Held
}

// listen hears what the filter says until it is dead. One that talks nonsense is
// killed.
func (p peer) listen(heard hearing, kill func()) error {
	err := handover.Keep(p.socket, p.held, heard.said)
	if err != nil {
		kill()
	}
	return err
}

func (p peer) letGo(attempt uint64) { _ = handover.AskToLetGo(p.socket, attempt) } // its end tells
func (p peer) goOn()                { _ = handover.AskToGoOn(p.socket) }           // likewise

// child is a filter that this process started.
type child struct {
	peer
	*os.Process
}

func (c *child) begin() {
	if handover.Begin(c.socket, c.held) != nil {
		c.kill() // its end tells
	}
}

func (c *child) signal(s unix.Signal) { _ = c.Signal(s) } // it may have ended
func (c *child) kill()                { _ = c.Kill() }    // likewise
func (c *child) pid() int             { return c.Pid }
func (c *child) waitsForDisk() bool   { return waitsForDisk(c.Pid) }

// noProcess is one that could not be started.
type noProcess struct{}

func (noProcess) begin()             {}
func (noProcess) letGo(uint64)       {}
func (noProcess) goOn()              {}
func (noProcess) signal(unix.Signal) {}
func (noProcess) kill()              {}
func (noProcess) pid() int           { return 0 }
func (noProcess) waitsForDisk() bool { return false }

func waitsForDisk(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false // the pattern is good
	}
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		at := bytes.LastIndex(stat, []byte(") ")) // behind the name
		if at >= 0 && bytes.HasPrefix(stat[at:], []byte(") D")) {
			return true
		}
	}
	return false
}
