package handover

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a message between keeper and filter says. It has 9 bytes, the kind and a
// node's id, and may carry a descriptor.
const (
	// From the keeper, once, in this order.
	sendDevice = 'D' // /dev/fuse
	sendFolder = 'F' // the folder below
	sendState  = 'S' // the shared state
	sendHeld   = 'H' // a node's descriptor; any number of them
	sendGo     = 'G' // that is all, and no other filter lives

	// From the filter.
	sayHold  = 'h' // hold this descriptor of the node
	sayDrop  = 'd' // the node is forgotten
	sayReady = 'r' // requests are being answered
)

const messageSize = 9

// Socket is one end of the connection between keeper and filter. What was sent
// arrives even if the sender dies.
type Socket struct{ fd int }

// NewSocket takes over a descriptor of a socket of type SEQPACKET.
func NewSocket(fd int) *Socket { return &Socket{fd} }

// Close closes it.
func (s *Socket) Close() { _ = unix.Close(s.fd) } // Linux frees the descriptor in any case

func (s *Socket) send(kind byte, id uint64, fd int) error {
	if s == nil {
		return nil
	}
	var message [messageSize]byte
	message[0] = kind
	binary.NativeEndian.PutUint64(message[1:], id)
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err := unix.Sendmsg(s.fd, message[:], rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// errClosed says that the other end is gone.
var errClosed = errors.New("handover: the other process is gone")

// receive returns -1 for fd if the message carries none.
func (s *Socket) receive() (kind byte, id uint64, fd int, err error) {
	var message [messageSize + 1]byte
	control := make([]byte, unix.CmsgSpace(4))
	var size, rights, flags int
	for {
		size, rights, flags, _, err = unix.Recvmsg(s.fd, message[:], control, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) || err == nil && size == 0 {
		return 0, 0, -1, errClosed
	}
	if err != nil {
		return 0, 0, -1, fmt.Errorf("handover: receive: %w", err)
	}
	fd = descriptorIn(control[:rights])
	if size != messageSize || flags&unix.MSG_CTRUNC != 0 {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return 0, 0, -1, fmt.Errorf("handover: a message of %d bytes (flags %#x) is none", size, flags)
	}
	return message[0], binary.NativeEndian.Uint64(message[1:]), fd, nil
}

func descriptorIn(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

// Estate is what a filter gets from the keeper.
type Estate struct {
	Device int            // /dev/fuse
	Folder int            // the folder below
	State  *State         // shared with the keeper and the filter that will follow
	Held   map[uint64]int // descriptors of nodes that cannot be opened otherwise

	socket *Socket
}

// Give sends all that a filter needs. It returns when the filter has been told
// to begin, or is dead.
func Give(s *Socket, device, folder, state int, held map[uint64]int) error {
	err := errors.Join(s.send(sendDevice, 0, device), s.send(sendFolder, 0, folder), s.send(sendState, 0, state))
	for id, fd := range held {
		if err != nil {
			break
		}
		err = s.send(sendHeld, id, fd)
	}
	if err == nil {
		err = s.send(sendGo, 0, -1)
	}
	if err != nil {
		return fmt.Errorf("handover: give the filter what it needs: %w", err)
	}
	return nil
}

// Take receives what Give sent.
func Take(s *Socket) (*Estate, error) {
	e := &Estate{Device: -1, Folder: -1, Held: make(map[uint64]int), socket: s}
	for {
		kind, id, fd, err := s.receive()
		if err != nil {
			return nil, fmt.Errorf("take over from the keeper: %w", err)
		}
		switch {
		case kind == sendGo && e.Device >= 0 && e.Folder >= 0 && e.State != nil:
			return e, nil
		case fd < 0:
			return nil, fmt.Errorf("take over from the keeper: a message %q without a descriptor", kind)
		case kind == sendDevice:
			e.Device = fd
		case kind == sendFolder:
			e.Folder = fd
		case kind == sendHeld:
			e.Held[id] = fd
		case kind == sendState:
			e.State, err = Map(fd)
			_ = unix.Close(fd) // the mapping stays
			if err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("take over from the keeper: a message %q", kind)
		}
	}
}

// Hold has the keeper hold a descriptor of a node, from before this returns.
// A nil Estate has no keeper.
func (e *Estate) Hold(id uint64, fd int) error {
	if e == nil {
		return nil
	}
	return e.socket.send(sayHold, id, fd)
}

// Drop ends what Hold began.
func (e *Estate) Drop(id uint64) error {
	if e == nil {
		return nil
	}
	return e.socket.send(sayDrop, id, -1)
}

// Ready tells the keeper that requests are being answered.
func (e *Estate) Ready() error {
	if e == nil {
		return nil
	}
	return e.socket.send(sayReady, 0, -1)
}

// Keep receives what a filter says until it is dead. held is the keeper's own
// record of descriptors; ready is called when the filter is.
func Keep(s *Socket, held map[uint64]int, ready func()) error {
	for {
		kind, id, fd, err := s.receive()
		if errors.Is(err, errClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case kind == sayReady && fd < 0:
			ready()
		case kind == sayHold && fd >= 0:
			drop(held, id)
			held[id] = fd
		case kind == sayDrop && fd < 0:
			drop(held, id)
		default:
			if fd >= 0 {
				_ = unix.Close(fd)
			}
			return fmt.Errorf("handover: the filter said %q", kind)
		}
	}
}

func drop(held map[uint64]int, id uint64) {
	if fd, ok := held[id]; ok {
		_ = unix.Close(fd)
		delete(held, id)
	}
}
