package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lifeboat/tracker/control"
)

func TestClientFindsTheNextFilter(t *testing.T) {
	path := filepath.Join(socketDir(t), "c.sock")
	c := control.NewClient(path)
	defer c.Close()
	for i := range 4 {
		if _, err := c.VMs(t.Context()); !errors.Is(err, control.ErrUnavailable) {
			t.Fatalf("without a filter: got %v", err)
		}
		f := &fake{}
		stop := serve(t, path, f, control.Info{})
		if _, err := c.Rollover(t.Context(), "a1", uint64(i)); err != nil {
			t.Fatalf("filter %d: %v", i, err)
		}
		stop()
	}
}

func TestManyAtOnce(t *testing.T) {
	_, c := start(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			got, want := make([]byte, 300_000), make([]byte, 300_000)
			for j := range 20 {
				offset := int64(i*1_000_003 + j*4099)
				if err := c.ReadDisk(t.Context(), "a1", "d1", got, offset); err != nil {
					t.Error(err)
					return
				}
				if pattern(want, offset, 0); !bytes.Equal(got, want) {
					t.Errorf("reader %d got another's bytes", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestContextEndsACall(t *testing.T) {
	path := filepath.Join(socketDir(t), "c.sock")
	entered := make(chan struct{})
	serve(t, path, &hanging{entered: entered}, control.Info{})
	c := control.NewClient(path)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if err := c.Unprotect(ctx, "a1"); !errors.Is(err, context.Canceled) || errors.Is(err, control.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// hanging does not answer before the request is given up.
type hanging struct {
	fake
	entered chan struct{}
}

func (h *hanging) Unprotect(ctx context.Context, _ string) error {
	close(h.entered)
	<-ctx.Done()
	return ctx.Err()
}

func TestSocketModesAndReplacement(t *testing.T) {
	dir := filepath.Join(socketDir(t), "run")
	path := filepath.Join(dir, "c.sock")
	first, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, path: 0o600 | os.ModeSocket} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	if _, err := control.Listen(path); !errors.Is(err, control.ErrInUse) {
		t.Errorf("a second listener: got %v", err)
	}
	// Whoever removes a live socket loses its name to the next listener only.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the first listener removed the second's socket: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket is left after Close: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "c.sock")
	stale(t, path)
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// stale leaves a socket at path that nobody listens at, as a process does
// that is killed.
func stale(t *testing.T, path string) {
	t.Helper()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenRefusesWhatIsNoSocket(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "c.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path); err == nil {
		t.Error("a file was replaced")
	}
	_, err := control.Listen(filepath.Join(dir, strings.Repeat("x", 120)))
	if err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("a path that is too long: got %v", err)
	}
}

func TestDiscover(t *testing.T) {
	dir := socketDir(t)
	if found, err := control.Discover(t.Context(), filepath.Join(dir, "none")); err != nil || len(found) != 0 {
		t.Errorf("no directory: %v, %v", found, err)
	}
	for i, mountpoint := range []string{"/vm/b", "/vm/a"} {
		path := control.SocketPath(dir, mountpoint)
		serve(t, path, &fake{}, control.Info{Version: fmt.Sprint(i), Folder: "/below" + mountpoint, Mountpoint: mountpoint})
	}
	stale(t, control.SocketPath(dir, "/vm/dead"))
	found, err := control.Discover(t.Context(), dir)
	if err != nil || len(found) != 2 {
		t.Fatalf("got %+v, %v", found, err)
	}
	if found[0].Mountpoint != "/vm/a" || found[0].Folder != "/below/vm/a" || found[0].Socket != control.SocketPath(dir, "/vm/a/") {
		t.Errorf("got %+v", found[0])
	}
	if name := filepath.Base(control.SocketPath(dir, "/vm/a")); len(name) != len("filter-0123456789ab.sock") {
		t.Errorf("name of the socket: %s", name)
	}
}
