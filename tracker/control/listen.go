package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// ErrInUse: another process answers at the socket's path.
var ErrInUse = errors.New("another process answers there")

// maxSocketPath is what sockaddr_un has room for, less the final zero.
const maxSocketPath = 107

// Listen opens a Unix socket of mode 0600 at path. The directory is made with
// mode 0700 if it is missing. A socket that a dead process left is replaced;
// one that answers is an error that matches ErrInUse. Closing the listener
// removes the socket, unless another has taken its place.
//
// The socket is bound in a private directory and moved to path with its mode
// set, so there is no moment at which others could connect, whatever the
// umask.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("open socket %s: %w", path, err)
	}
	return l, nil
}

func listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := refuseIfAnswered(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(dir, ".s")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }()
	bound := filepath.Join(private, "s")
	if n := max(len(bound), len(path)); n > maxSocketPath {
		return nil, fmt.Errorf("its path needs %d bytes and the kernel allows %d: choose a shorter runtime directory", n, maxSocketPath)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(bound, 0o600)
	var identity os.FileInfo
	if err == nil {
		identity, err = os.Lstat(bound)
	}
	if err == nil {
		err = os.Rename(bound, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{UnixListener: l, path: path, identity: identity}, nil
}

// refuseIfAnswered fails when path is not free for a new socket: when somebody
// listens there, or when it is something else than a socket.
func refuseIfAnswered(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file of that name that is no socket: remove it if it is not needed")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("%w: is it running already?", ErrInUse)
	case nobodyListens(err):
		return nil
	}
	return err
}

// nobodyListens tells whether err means that no process is behind the socket.
func nobodyListens(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}

// socket is a listener that removes its path when closed.
type socket struct {
	*net.UnixListener
	path     string
	identity os.FileInfo
	once     sync.Once
}

func (s *socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.identity) {
			_ = os.Remove(s.path)
		}
	})
	return s.UnixListener.Close()
}
