package keeper

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs"
)

// SocketPath returns where the keeper of a mount point, an absolute path, takes
// orders.
func SocketPath(runtimeDir, point string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(point)))
	return filepath.Join(runtimeDir, socketPrefix+hex.EncodeToString(sum[:6])+socketSuffix)
}

const (
	socketPrefix = "keeper-"
	socketSuffix = ".sock"
	// orders is the version of what is said there: the keeper greets, is given an
	// order with the descriptor of a program, and answers, each in a line of JSON.
	orders = 1
	// orderWithin bounds how long who connects may take to give his order.
	orderWithin = 10 * time.Second
	maxOrder    = 4096
)

type greeting struct {
	Orders     int    `json:"orders"`
	Folder     string `json:"folder"`
	Mountpoint string `json:"mountpoint"`
	PID        int    `json:"pid"`
}

type order struct {
	Replace bool `json:"replace"`
}

type answer struct {
	Error        string  `json:"error,omitempty"`
	PID          int     `json:"pid,omitempty"` // of the filter that serves now
	PauseSeconds float64 `json:"pause_seconds,omitempty"`
}

// listen takes orders until the mount ends. A keeper that has adopted a filter
// keeps it in any case.
func (k *keeper) listen(mount *fusefs.Established, adopted bool) error {
	if k.Listen == nil {
		return nil
	}
	listener, err := k.Listen(mount.Point)
	if err != nil {
		if !adopted {
			return err
		}
		k.Logger.Error("the filter cannot be replaced on demand", "error", err)
		return nil
	}
	hello := greeting{Orders: orders, Folder: mount.Below, Mountpoint: mount.Point, PID: os.Getpid()}
	go func() {
		<-k.ended
		_ = listener.Close() // it was for reading
	}()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					k.Logger.Error("no orders are taken any more", "error", err)
				}
				return
			}
			go k.converse(c, hello)
		}
	}()
	return nil
}

// converse greets who has connected and does what he orders.
func (k *keeper) converse(c net.Conn, hello greeting) {
	defer c.Close() //nolint:errcheck // he sees it by what he has read
	out := json.NewEncoder(c)
	if err := out.Encode(hello); err != nil {
		return
	}
	program, err := receiveOrder(c)
	if errors.Is(err, errNoOrder) {
		return // another mount's keeper was looked for
	}
	said := make(chan answer, 1)
	if err == nil {
		r := request{program, func(r Replaced, err error) {
			a := answer{PID: r.PID, PauseSeconds: r.Pause.Seconds()}
			if err != nil {
				a.Error = err.Error()
			}
			said <- a
		}}
		select {
		case k.requests <- r:
		case <-k.ended:
			program.Close()
			err = errors.New("the mount has ended")
		}
	}
	if err != nil {
		said <- answer{Error: err.Error()}
	}
	_ = out.Encode(<-said) // who has gone finds it in the log
}

var errNoOrder = errors.New("no order was given")

func receiveOrder(c net.Conn) (*Program, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("orders come over a Unix socket, not a %T", c)
	}
	if err := socket.SetReadDeadline(time.Now().Add(orderWithin)); err != nil {
		return nil, err
	}
	text, control := make([]byte, maxOrder), make([]byte, unix.CmsgSpace(4))
	n, rights, _, _, err := socket.ReadMsgUnix(text, control)
	if err != nil || n == 0 {
		return nil, errNoOrder
	}
	fd := -1
	if messages, err := unix.ParseSocketControlMessage(control[:rights]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}
	if fd < 0 {
		return nil, errors.New("the order comes without a program")
	}
	unix.CloseOnExec(fd)
	program, err := programOf(fd)
	if err != nil {
		return nil, fmt.Errorf("open the program that was sent: %w", err)
	}
	var o order
	if err := json.Unmarshal(text[:n], &o); err != nil || !o.Replace {
		program.Close()
		return nil, errors.New("the order is not understood")
	}
	return program, nil
}
