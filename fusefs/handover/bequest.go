package handover

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// keptWithin bounds how long a new keeper takes to come up.
const keptWithin = 20 * time.Second

// Bequeath starts another keeper when the one before has died, and gives it
// everything: from then on that one keeps the filter.
func (e *Estate) Bequeath() error {
	if e.NewKeeper == nil {
		return errors.New("handover: there is no other keeper to be had")
	}
	next, err := e.NewKeeper()
	if err != nil {
		return err
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		next.Close()
		return fmt.Errorf("handover: open the own process: %w", err)
	}
	defer closeFD(self)
	if err := e.bequeathTo(next, self); err != nil {
		next.Close()
		return fmt.Errorf("handover: give another keeper what it needs: %w", err)
	}
	m, err := next.receiveWithin(keptWithin)
	if err == nil && m.kind != sayKept {
		err = fmt.Errorf("it said %q", m.kind)
	}
	if err != nil {
		return fmt.Errorf("handover: another keeper does not come up: %w", err)
	}
	return nil
}

// bequeathTo makes the other socket the estate's own: what is held and dropped
// meanwhile waits and goes to the new keeper.
func (e *Estate) bequeathTo(next *Socket, self int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := next.send(sendProtocol, Protocol, -1)
	for _, m := range []message{
		{kind: sendFilter, n: uint64(os.Getpid()), fd: self},
		{kind: sendDevice, fd: e.device},
		{kind: sendFolder, fd: e.Folder},
		{kind: sendState, fd: e.state},
	} {
		if err == nil {
			err = next.sendMessage(m)
		}
	}
	for id, fd := range e.own {
		if err == nil {
			err = next.send(sendHeld, id, fd)
		}
	}
	if err == nil {
		err = next.send(sendGo, 0, -1)
	}
	if err == nil {
		e.socket.Close()
		e.socket = next
	}
	return err
}

// Orphan is what a keeper gets from a filter whose keeper has died: what it
// would have itself, and the filter.
type Orphan struct {
	Device, Folder, State int
	Held                  *Held
	Filter                int // a descriptor of the process
	PID                   int
	Socket                *Socket
}

// Adopt receives what Bequeath sent.
func Adopt(s *Socket) (*Orphan, error) {
	o := &Orphan{Device: -1, Folder: -1, State: -1, Filter: -1, Held: NewHeld(), Socket: s}
	if err := o.receive(); err != nil {
		return nil, fmt.Errorf("adopt a filter: %w", err)
	}
	return o, nil
}

func (o *Orphan) receive() error {
	m, err := o.Socket.receiveWithin(keptWithin)
	if err != nil {
		return err
	}
	if m.kind != sendProtocol || m.n != Protocol {
		closeFD(m.fd)
		return fmt.Errorf("the filter speaks another protocol: its first message is %q, %d", m.kind, m.n)
	}
	for {
		m, err := o.Socket.receiveWithin(keptWithin)
		if err != nil {
			return err
		}
		switch {
		case m.kind == sendGo && m.fd < 0 && o.Filter >= 0 && o.Device >= 0 && o.Folder >= 0 && o.State >= 0:
			return nil
		case m.fd < 0:
			return fmt.Errorf("a message %q without a descriptor", m.kind)
		case m.kind == sendFilter:
			o.Filter, o.PID = m.fd, int(m.n)
		case m.kind == sendDevice:
			o.Device = m.fd
		case m.kind == sendFolder:
			o.Folder = m.fd
		case m.kind == sendState:
			o.State = m.fd
		case m.kind == sendHeld:
			o.Held.hold(m.n, m.fd)
		default:
			closeFD(m.fd)
			return fmt.Errorf("a message %q", m.kind)
		}
	}
}

// Kept tells the filter that it has a keeper again.
func (o *Orphan) Kept() error { return o.Socket.send(sayKept, 0, -1) }
