package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Protocol is the version of what keeper and filter say to each other. A filter
// understands its own and none that is newer; a keeper says its own.
const Protocol = 1

// What a message says. It has 9 bytes, the kind and a number (mostly a node's
// id), behind them a text, if any, and may carry a descriptor.
const (
	// From the keeper to a filter that is started.
	sendProtocol = 'V' // the number is Protocol; the first message
	sendDevice   = 'D' // /dev/fuse
	sendFolder   = 'F' // the folder below
	sendState    = 'S' // the shared state; now the filter gets prepared
	sendHeld     = 'H' // a node's descriptor; any number of them
	sendGo       = 'G' // that is all, and no other filter lives
	// To one that serves. The number is that of the attempt.
	sendLetGo = 'L' // end what is under way, and begin nothing
	sendGoOn  = 'O' // never mind

	// From the filter.
	sayPrepared = 'p' // all is ready for sendGo
	sayRefused  = 'x' // it cannot take over: the text says why
	sayHold     = 'h' // hold this descriptor of the node
	sayDrop     = 'd' // the node is forgotten
	sayReady    = 'r' // requests are being answered
	sayLetGo    = 'l' // nothing is under way any more

	// From a filter to another keeper, with what else the first one sent; and
	// the answer.
	sendFilter = 'P' // a descriptor of the process, and its number
	sayKept    = 'k' // from now on it is kept
)

const (
	messageSize = 9
	// MaxText is the most bytes of a text that are sent.
	MaxText = 1000
	// patience bounds how long the other end may leave messages unread.
	patience = 5 * time.Second
)

// ErrClosed says that the other end is gone.
var ErrClosed = errors.New("handover: the other process is gone")

// Socket is one end of the connection between keeper and filter. What was sent
// arrives even if the sender dies.
type Socket struct{ fd int }

type message struct {
	kind byte
	n    uint64
	text string
	fd   int // -1 for none
}

// NewSocket takes over a descriptor of a socket of type SEQPACKET.
func NewSocket(fd int) *Socket {
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait) // what is no socket is found out soon
	return &Socket{fd}
}

// Pair makes a connection: a socket, and a descriptor for the process at the
// other end.
func Pair() (*Socket, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("handover: make a socket: %w", err)
	}
	return NewSocket(pair[0]), pair[1], nil
}

// Close closes it.
func (s *Socket) Close() { _ = unix.Close(s.fd) } // Linux frees the descriptor in any case

func (s *Socket) send(kind byte, n uint64, fd int) error {
	return s.sendMessage(message{kind: kind, n: n, fd: fd})
}

func (s *Socket) sendMessage(m message) error {
	if s == nil {
		return nil
	}
	bytes := make([]byte, messageSize, messageSize+MaxText)
	bytes[0] = m.kind
	binary.NativeEndian.PutUint64(bytes[1:], m.n)
	bytes = append(bytes, m.text[:min(len(m.text), MaxText)]...)
	var rights []byte
	if m.fd >= 0 {
		rights = unix.UnixRights(m.fd)
	}
	for {
		err := unix.Sendmsg(s.fd, bytes, rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *Socket) receive() (message, error) {
	bytes := make([]byte, messageSize+MaxText+1)
	control := make([]byte, unix.CmsgSpace(4))
	var size, rights, flags int
	var err error
	for {
		size, rights, flags, _, err = unix.Recvmsg(s.fd, bytes, control, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) || err == nil && size == 0 {
		return message{fd: -1}, ErrClosed
	}
	if err != nil {
		return message{fd: -1}, fmt.Errorf("handover: receive: %w", err)
	}
	fd := descriptorIn(control[:rights])
	if size < messageSize || size > messageSize+MaxText || flags&unix.MSG_CTRUNC != 0 {
		closeFD(fd)
		return message{fd: -1}, fmt.Errorf("handover: a message of %d bytes (flags %#x) is none", size, flags)
	}
	return message{bytes[0], binary.NativeEndian.Uint64(bytes[1:]), string(bytes[messageSize:size]), fd}, nil
}

// receiveWithin is receive for an answer that comes soon or never.
func (s *Socket) receiveWithin(limit time.Duration) (message, error) {
	poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll(poll, int(max(0, time.Until(end).Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return message{fd: -1}, fmt.Errorf("handover: wait for an answer: %w", err)
		case n == 0:
			return message{fd: -1}, fmt.Errorf("handover: no answer within %v", limit)
		default:
			return s.receive()
		}
	}
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

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // Linux frees the descriptor in any case
	}
}
