package integration

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire is a TCP connection to a service that can be cut and mended.
type wire struct {
	to      string
	address string

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	broken   bool
	done     sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	w := &wire{to: to, address: "127.0.0.1:0", open: map[net.Conn]bool{}}
	w.mend(t)
	w.address = w.listener.Addr().String()
	t.Cleanup(func() { w.cut(t) })
	return w
}

func (w *wire) port() string {
	_, port, _ := net.SplitHostPort(w.address)
	return port
}

// mend lets connections through again.
func (w *wire) mend(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", w.address)
	must(t, err)
	w.listener = l
	w.mu.Lock()
	w.broken = false
	w.mu.Unlock()
	w.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.done.Go(func() { w.carry(conn) })
		}
	})
}

// cut breaks all connections and refuses others.
func (w *wire) cut(t *testing.T) {
	t.Helper()
	if w.listener == nil {
		return
	}
	must(t, w.listener.Close())
	w.listener = nil
	w.mu.Lock()
	w.broken = true
	for conn := range w.open {
		_ = conn.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

func (w *wire) carry(a net.Conn) {
	b, err := net.Dial("tcp", w.to)
	if err != nil {
		_ = a.Close()
		return
	}
	w.mu.Lock()
	if w.broken {
		w.mu.Unlock()
		_, _ = a.Close(), b.Close()
		return
	}
	w.open[a], w.open[b] = true, true
	w.mu.Unlock()
	end := func() {
		_, _ = a.Close(), b.Close()
		w.mu.Lock()
		delete(w.open, a)
		delete(w.open, b)
		w.mu.Unlock()
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(a, b); end() })
	both.Go(func() { _, _ = io.Copy(b, a); end() })
	both.Wait()
}
