package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// orphanVariable tells a keeper the descriptor of its socket to the filter that
// started it, since it had lost its own.
const orphanVariable = "LIFEBOAT_ORPHAN_FD"

// startKeeper starts a keeper for this filter: the same program with the same
// arguments.
func startKeeper() (*handover.Socket, error) {
	socket, theirs, err := handover.Pair()
	if err != nil {
		return nil, err
	}
	command := exec.Command("/proc/self/exe")
	command.Args = os.Args
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := startWith(command, orphanVariable, theirs); err != nil {
		socket.Close()
		return nil, fmt.Errorf("start another keeper: %w", err)
	}
	go func() { _ = command.Wait() }() // its socket tells of its end
	return socket, nil
}

// orphaned returns what the filter that started this process gives, or nil if
// none did.
func orphaned() (*handover.Orphan, error) {
	socket, err := inherited(orphanVariable)
	if err != nil || socket == nil {
		return nil, err
	}
	return handover.Adopt(socket)
}

// adopt has the filter serve as if this process had started it.
func (k *keeper) adopt(o *handover.Orphan) {
	a := &adopted{peer{o.Socket, k.held}, o.Filter, o.PID}
	f := &filter{process: a, program: k.program, prepared: true, ready: true, since: time.Now()}
	k.alive++
	k.serving, k.kept = f, true
	k.beats = k.mount.beats()
	tell := func(event func()) { k.events <- event }
	heard := hearing{
		said:  func(w handover.Word, attempt uint64, text string) { tell(func() { k.heard(f, w, attempt, text) }) },
		ended: func(err error) { tell(func() { k.gone(f, err) }) },
	}
	go func() {
		err := a.listen(heard, a.kill)
		err = errors.Join(a.wait(), err)
		o.Socket.Close()
		heard.ended(err)
	}()
}

// adopted is a filter that another process started.
type adopted struct {
	peer
	fd     int // of the process
	number int
}

func (a *adopted) begin() {} // it has

func (a *adopted) signal(s unix.Signal) { _ = unix.PidfdSendSignal(a.fd, s, nil, 0) } // it may have ended
func (a *adopted) kill()                { a.signal(unix.SIGKILL) }
func (a *adopted) pid() int             { return a.number }
func (a *adopted) waitsForDisk() bool   { return waitsForDisk(a.number) }

// wait returns when all of its threads have ended. How cannot be known.
func (a *adopted) wait() error {
	for {
		poll := []unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, -1)
		switch {
		case n == 1:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for the filter: %w", err)
		}
	}
}
