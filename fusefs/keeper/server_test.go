package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs"
)

// TestOrdersTaken has a real keeper replace its filter by this very program,
// found by its folder and by its mount point, and end in good order.
func TestOrdersTaken(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := 0
	c := config(t, &started, "serve")
	run := t.TempDir()
	c.Standby, c.Listen = true, listenIn(run)
	ready := make(chan struct{})
	c.Ready = func() error { close(ready); return nil }
	kept := make(chan error, 1)
	go func() { kept <- Run(ctx, c) }()
	<-ready
	for _, path := range []string{c.Folder, c.Mountpoint} {
		if r, err := Replace(ctx, run, path); err != nil || r.PID == 0 || r.Pause <= 0 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
	if _, err := Replace(ctx, run, run); !errors.Is(err, ErrNoKeeper) {
		t.Errorf("another folder: %v", err)
	}
	cancel()
	if err := <-kept; err != nil {
		t.Error(err)
	}
}

func listenIn(run string) func(string) (net.Listener, error) {
	return func(point string) (net.Listener, error) { return net.Listen("unix", SocketPath(run, point)) }
}

// TestOrdersRefused gives orders that are none.
func TestOrdersRefused(t *testing.T) {
	run := t.TempDir()
	k := &keeper{
		Config:   Config{Logger: slog.New(slog.DiscardHandler), Listen: listenIn(run)},
		requests: make(chan request), ended: make(chan struct{}),
	}
	defer close(k.ended)
	if err := k.listen(&fusefs.Established{Below: "/below", Point: "/point"}, false); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only sent
	for name, c := range map[string]struct {
		text   string
		rights []byte
		why    string
	}{
		"no program":   {`{"replace":true}`, nil, "without a program"},
		"no file":      {`{"replace":true}`, unix.UnixRights(int(file.Fd())), "permission denied"},
		"no order":     {`{}`, unix.UnixRights(programFD(t)), "not understood"},
		"not even one": {`x`, unix.UnixRights(programFD(t)), "not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			c1, in, err := connect(t.Context(), run, "/point")
			if err != nil {
				t.Fatal(err)
			}
			defer c1.Close() //nolint:errcheck // all was read
			if _, _, err := c1.WriteMsgUnix([]byte(c.text), c.rights, nil); err != nil {
				t.Fatal(err)
			}
			var a answer
			if err := readLine(in, &a); err != nil || !strings.Contains(a.Error, c.why) {
				t.Errorf("the answer is %+v (%v)", a, err)
			}
		})
	}
}

func programFD(t *testing.T) int {
	t.Helper()
	p, err := OpenProgram("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p.fd
}

// TestProgram shows that a program stays what it was, and that not everything is
// one.
func TestProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("old"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := OpenProgram(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("new"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(p.path()); err != nil || string(got) != "old" {
		t.Errorf("it is %q (%v)", got, err)
	}
	for _, path := range []string{filepath.Dir(path), os.DevNull, path + ".missing"} {
		if p, err := OpenProgram(path); err == nil {
			p.Close()
			t.Errorf("%s is a program", path)
		}
	}
}
