package handover

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// BeatInterval is how often a filter that was told to begin gives a sign of
// life in the shared state.
const BeatInterval = 200 * time.Millisecond

// ErrDismissed says that a filter that stood by is not needed: its keeper is
// gone.
var ErrDismissed = errors.New("the keeper is gone before this filter was needed")

// Estate is what a filter gets from the keeper. A nil Estate is that of a filter
// without one, and one that was not taken from a socket takes everything.
type Estate struct {
	Device int            // /dev/fuse
	Folder int            // the folder below
	State  *State         // shared with the keeper and the filter that will follow
	Held   map[uint64]int // after Await: descriptors of nodes that cannot be opened otherwise
	// NewKeeper, unless nil, starts another keeper, for when this one dies.
	NewKeeper func() (*Socket, error)

	device, state int // the estate's own descriptors, for Bequeath
	mu            sync.Mutex
	socket        *Socket
	own           map[uint64]int // duplicates of what the keeper holds
}

// Take receives what Introduce sent. The filter that cannot take over says so.
func Take(s *Socket) (*Estate, error) {
	e := &Estate{Device: -1, Folder: -1, Held: make(map[uint64]int), socket: s, own: make(map[uint64]int), device: -1}
	err := e.take()
	if err != nil {
		e.Refuse(err)
		return nil, fmt.Errorf("take over from the keeper: %w", err)
	}
	return e, nil
}

func (e *Estate) take() error {
	m, err := e.socket.receive()
	switch {
	case err != nil:
		return err
	case m.kind != sendProtocol || m.fd >= 0:
		closeFD(m.fd)
		return fmt.Errorf("it speaks another protocol: its first message is %q", m.kind)
	case m.n > Protocol:
		return fmt.Errorf("it speaks version %d of the protocol, and this build %d: this build is older than the keeper", m.n, Protocol)
	}
	for _, want := range []struct {
		kind byte
		fd   *int
	}{{sendDevice, &e.Device}, {sendFolder, &e.Folder}, {sendState, &e.state}} {
		m, err := e.socket.receive()
		if err != nil {
			return err
		}
		if m.kind != want.kind || m.fd < 0 {
			closeFD(m.fd)
			return fmt.Errorf("a message %q, not %q with a descriptor", m.kind, want.kind)
		}
		*want.fd = m.fd
	}
	if e.device, err = duplicate(e.Device); err != nil {
		return err
	}
	e.State, err = Map(e.state)
	return err
}

// Refuse tells the keeper why this filter cannot take over.
func (e *Estate) Refuse(cause error) {
	if e != nil {
		_ = e.socket.sendMessage(message{kind: sayRefused, text: cause.Error(), fd: -1}) // it dies, which tells, too
	}
}

// Await says that the filter is prepared and returns when it shall begin, with
// Held as of then, or with ErrDismissed. What node table, journal and folder
// hold means nothing before. From then on the filter gives signs of life until
// its process ends, and must not unmap the state.
func (e *Estate) Await() error {
	if e.socket == nil {
		return nil
	}
	err := e.socket.send(sayPrepared, 0, -1)
	for err == nil {
		var m message
		if m, err = e.socket.receive(); err != nil {
			break
		}
		switch {
		case m.kind == sendGo && m.fd < 0:
			go e.beat()
			return nil
		case m.kind == sendHeld && m.fd >= 0:
			e.Held[m.n] = m.fd
			if e.own[m.n], err = duplicate(m.fd); err != nil {
				delete(e.own, m.n)
			}
		default:
			closeFD(m.fd)
			err = fmt.Errorf("a message %q", m.kind)
		}
	}
	if errors.Is(err, ErrClosed) || errors.Is(err, unix.EPIPE) {
		return ErrDismissed
	}
	return fmt.Errorf("take over from the keeper: %w", err)
}

func (e *Estate) beat() {
	for {
		e.State.Beat()
		time.Sleep(BeatInterval)
	}
}

// Hold has the keeper hold a descriptor of a node, from before this returns, and
// every keeper that follows.
func (e *Estate) Hold(id uint64, fd int) error {
	if e == nil || e.own == nil {
		return nil
	}
	own, err := duplicate(fd)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	drop(e.own, id)
	e.own[id] = own
	return e.tell(sayHold, id, fd)
}

// Drop ends what Hold began.
func (e *Estate) Drop(id uint64) error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	drop(e.own, id)
	return e.tell(sayDrop, id, -1)
}

// Ready tells the keeper that requests are being answered.
func (e *Estate) Ready() error { return e.say(sayReady, 0) }

// LetGo tells the keeper, who asked for it by this number, that nothing is under
// way any more. It kills the filter.
func (e *Estate) LetGo(attempt uint64) error { return e.say(sayLetGo, attempt) }

func (e *Estate) say(kind byte, n uint64) error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tell(kind, n, -1)
}

// tell wants mu held. A keeper that has died is no failure: the next one is told
// all that matters.
func (e *Estate) tell(kind byte, n uint64, fd int) error {
	err := e.socket.send(kind, n, fd)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

// Order is what a keeper wants of a filter that serves.
type Order struct {
	LetGo   bool   // or else to go on
	Attempt uint64 // for Estate.LetGo
}

// Hear returns the keeper's next order, and ErrClosed when the keeper has died.
func (e *Estate) Hear() (Order, error) {
	m, err := e.socket.receive()
	if err != nil {
		return Order{}, err
	}
	closeFD(m.fd)
	if m.kind != sendLetGo && m.kind != sendGoOn {
		return Order{}, fmt.Errorf("handover: the keeper said %q", m.kind)
	}
	return Order{m.kind == sendLetGo, m.n}, nil
}

// Kept tells whether there is, or was, a keeper to hear.
func (e *Estate) Kept() bool { return e != nil && e.socket != nil }

func duplicate(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

func drop(held map[uint64]int, id uint64) {
	if fd, ok := held[id]; ok {
		closeFD(fd)
		delete(held, id)
	}
}
