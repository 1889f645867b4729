package control_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// socketDir returns a directory whose path is short enough for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// serve serves the backend at path; the function returned stops it.
func serve(t *testing.T, path string, backend control.Backend, info control.Info) (stop func()) {
	t.Helper()
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	go func() { ended <- control.Serve(ctx, l, control.NewHandler(backend, info, log), log) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func start(t *testing.T) (*fake, *control.Client) {
	t.Helper()
	f := &fake{}
	path := filepath.Join(socketDir(t), "run", "c.sock")
	serve(t, path, f, control.Info{Version: "1.2.3", Folder: "/a", Mountpoint: "/b"})
	c := control.NewClient(path)
	t.Cleanup(c.Close)
	return f, c
}

func TestEveryCallArrives(t *testing.T) {
	f, c := start(t)
	ctx := t.Context()
	f.vms = []tracker.VM{{
		ID: "a1", Name: "web", Open: 3, Disks: []tracker.Disk{{ID: "d1", Path: "x/y.img", Size: 12}},
		Sealed: []tracker.Epoch{{Number: 2, SealedAt: time.Unix(1, 2).UTC(), Disks: []tracker.EpochDisk{{ID: "d1", Size: 5, Floor: 4, Blocks: 9}}}},
		Walk:   tracker.Walk{Number: 1, Required: true, Reason: "new", Since: time.Unix(3, 0).UTC()},
	}}
	f.events = []tracker.Event{{Sequence: 9, Time: time.Unix(7, 0).UTC(), VM: "a1", Code: tracker.EventMerged, Text: "t"}}
	f.extents = tracker.Extents{{Start: 0, Count: 3}, {Start: 1 << 40, Count: 1}}

	check := func(name, call string, err error, got, want any) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if f.last() != call {
			t.Errorf("%s: backend was asked %q, want %q", name, f.last(), call)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	vms, err := c.VMs(ctx)
	check("VMs", "vms", err, vms, f.vms)
	vm, err := c.VM(ctx, "a1")
	check("VM", "vm a1", err, vm, f.vms[0])
	spec := tracker.Spec{ID: "a2", Name: "db", Disks: []tracker.DiskSpec{{ID: "d2", Path: "db.vhd"}}}
	vm, err = c.Protect(ctx, spec)
	check("Protect", "protect db", err, vm, tracker.VM{ID: "a2", Name: "db", Open: 1})
	check("Protect", "protect db", nil, f.spec, spec)
	check("Unprotect", "unprotect a2", c.Unprotect(ctx, "a2"), 0, 0)
	epoch, err := c.Rollover(ctx, "a1", 4)
	check("Rollover", "rollover a1 4", err, epoch.Number, uint64(7))
	changed, err := c.Changed(ctx, "a1", 2, "d1")
	check("Changed", "changed a1 2 d1", err, changed, f.extents)
	x, err := c.Allocated(ctx, "a1", "d1", 5)
	check("Allocated", "allocated a1 d1 5", err, x, f.extents[1])
	x, err = c.Allocated(ctx, "a1", "d1", 1<<40+1)
	check("Allocated", "allocated a1 d1 1099511627777", err, x, disk.Extent{})
	check("Acknowledge", "acknowledge a1 2 1", c.Acknowledge(ctx, "a1", 2, 1), 0, 0)
	check("RequireWalk", "require-walk a1 why not", c.RequireWalk(ctx, "a1", "why not"), 0, 0)
	events, err := c.Events(ctx, 8)
	check("Events", "events 8", err, events, f.events)
	info, err := c.Filter(ctx)
	check("Filter", "events 8", err, [3]string{info.Version, info.Folder, info.Mountpoint}, [3]string{"1.2.3", "/a", "/b"})
	if info.PID != os.Getpid() || info.Started.IsZero() {
		t.Errorf("Filter: %+v lacks process or start", info)
	}
}

func TestBytesOfDisks(t *testing.T) {
	f, c := start(t)
	ctx := t.Context()
	for _, n := range []int{0, 1, 4096, 5000, control.MaxRead, 2*control.MaxRead + 77} {
		got, want := make([]byte, n), make([]byte, n)
		if err := c.ReadDisk(ctx, "a1", "d1", got, 12345); err != nil {
			t.Fatal(err)
		}
		if pattern(want, 12345, 0); !bytes.Equal(got, want) {
			t.Errorf("ReadDisk of %d bytes: wrong content", n)
		}
		if err := c.ReadSealed(ctx, "a1", 9, "d1", got, 4096); err != nil {
			t.Fatal(err)
		}
		if pattern(want, 4096, 9); !bytes.Equal(got, want) {
			t.Errorf("ReadSealed of %d bytes: wrong content", n)
		}
	}
	extents := tracker.Extents{{Start: 2, Count: 1}, {Start: 9, Count: 3}, {Start: 500, Count: 2}}
	for name, backend := range map[string]control.Backend{"through the socket": c, "directly": f} {
		got := make([]byte, 6*disk.BlockSize)
		if err := control.ReadSealedExtents(ctx, backend, "a1", 3, "d1", extents, got); err != nil {
			t.Fatal(err)
		}
		for i, b := range []int64{2, 9, 10, 11, 500, 501} {
			want := make([]byte, disk.BlockSize)
			pattern(want, b*disk.BlockSize, 3)
			if !bytes.Equal(got[i*disk.BlockSize:(i+1)*disk.BlockSize], want) {
				t.Errorf("ReadSealedExtents %s: block %d has wrong content", name, b)
			}
		}
	}
	if err := control.ReadSealedExtents(ctx, c, "a1", 3, "d1", extents, make([]byte, 5)); !errors.Is(err, tracker.ErrInvalid) {
		t.Errorf("buffer of a wrong length: got %v", err)
	}
}

func TestErrorsCrossTheSocket(t *testing.T) {
	f, c := start(t)
	ctx := t.Context()
	for _, sentinel := range []error{tracker.ErrNotFound, tracker.ErrExists, tracker.ErrEpochGone, tracker.ErrWalkRequired, tracker.ErrInvalid} {
		f.err = errors.Join(errors.New("disk sda of VM web"), sentinel)
		calls := map[string]error{
			"VM":          second(c.VM(ctx, "a1")),
			"Rollover":    second(c.Rollover(ctx, "a1", 0)),
			"Changed":     second(c.Changed(ctx, "a1", 1, "d1")),
			"ReadSealed":  c.ReadSealed(ctx, "a1", 1, "d1", make([]byte, 9), 0),
			"ReadExtents": control.ReadSealedExtents(ctx, c, "a1", 1, "d1", tracker.Extents{{Start: 1, Count: 1}, {Start: 3, Count: 1}}, make([]byte, 8192)),
			"Acknowledge": c.Acknowledge(ctx, "a1", 1, 0),
		}
		for name, err := range calls {
			if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), "disk sda of VM web") {
				t.Errorf("%s: %v does not tell %v", name, err, sentinel)
			}
		}
	}
	f.err = errors.New("no space left")
	err := c.Unprotect(ctx, "a1")
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeInternal || errors.Is(err, tracker.ErrNotFound) {
		t.Errorf("a fault of the machine: got %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestHintOfTheBackendIsKept(t *testing.T) {
	f, c := start(t)
	f.err = hinted{}
	_, err := c.VMs(t.Context())
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Hint != "take another" {
		t.Errorf("got %#v", err)
	}
}

type hinted struct{}

func (hinted) Error() string { return "that one is taken" }
func (hinted) Hint() string  { return "take another" }
func (hinted) Unwrap() error { return tracker.ErrExists }

func TestBadRequestsAreRefused(t *testing.T) {
	f := &fake{}
	handler := control.NewHandler(f, control.Info{}, slog.New(slog.DiscardHandler))
	path := filepath.Join(socketDir(t), "c.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for _, q := range [][3]string{
		{"GET", "/v2/vms", ""},
		{"PUT", "/v1/vms", ""},
		{"POST", "/v1/vms", "{"},
		{"POST", "/v1/vms", `{"name":"x","nmae":"y"}`},
		{"POST", "/v1/vms", `{} {}`},
		{"POST", "/v1/vms", `{"name":"` + strings.Repeat("x", 2<<20) + `"}`},
		{"GET", "/v1/events?after=-1", ""},
		{"GET", "/v1/vms/a/disks/b/data?offset=0&length=4194305", ""},
		{"GET", "/v1/vms/a/disks/b/data?offset=9223372036854775807&length=1", ""},
		{"GET", "/v1/vms/a/disks/b/data?offset=x&length=1", ""},
		{"GET", "/v1/vms/a/disks/b/epochs/z/changed", ""},
		{"GET", "/v1/vms/a/disks/b/allocated?from=18446744073709551615", ""},
		{"POST", "/v1/vms/a/disks/b/epochs/1/read", "nonsense"},
		{"POST", "/v1/vms/a/disks/b/epochs/1/read", "LBX\x01\x00\x81\x08\x00\x00\x01"}, // 1025 blocks
	} {
		request, err := http.NewRequestWithContext(t.Context(), q[0], "http://filter"+q[1], strings.NewReader(q[2]))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s %s: status %s", q[0], q[1], response.Status)
		}
	}
	if len(f.calls) != 0 {
		t.Errorf("bad requests reached the backend: %q", f.calls)
	}
	c := control.NewClient(path)
	defer c.Close()
	for _, id := range []string{"", "..", "a/b", "a?b", strings.Repeat("a", 65)} {
		if _, err := c.VM(t.Context(), id); !errors.Is(err, tracker.ErrInvalid) {
			t.Errorf("VM %q: got %v", id, err)
		}
	}
}
