package uploader_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/recovery"
	"lifeboat/replica"
	"lifeboat/replica/blobstore/directory"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
	"lifeboat/uploader"
	"lifeboat/uploader/api"
)

// attached is the file system below a real tracker: the test itself announces
// its changes.
type attached struct {
	mu    sync.Mutex
	disks map[uint64]tracker.Tracked
}

func (a *attached) Attach(_, inode uint64, d tracker.Tracked) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.disks[inode] = d
	return nil
}

func (a *attached) Anticipate(_, _ uint64, _ tracker.Tracked) {}

func (a *attached) Watch(*os.File, tracker.Witness) {}

func (a *attached) Look() {}

func (a *attached) Detach(_, inode uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.disks, inode)
}

func (a *attached) disk(t *testing.T, f *os.File) tracker.Tracked {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.disks[st.Ino]
}

// change does to a disk what a guest may do.
func change(t *testing.T, random *rand.Rand, f *os.File, d tracker.Tracked) {
	t.Helper()
	const size = 4 << 20
	var err error
	switch offset, length := random.Int64N(size), 512<<random.IntN(11); random.IntN(20) {
	case 0:
		keep := size/2 + random.Int64N(size)
		info, statErr := f.Stat()
		if statErr != nil {
			t.Fatal(statErr)
		}
		d.BeginResize(min(keep, info.Size()))
		err = f.Truncate(keep)
		d.EndResize()
	case 1:
		change := d.BeginChange(offset, int64(length))
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, int64(length))
		d.EndChange(change)
	default:
		data := make([]byte, length)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		change := d.BeginChange(offset, int64(length))
		_, err = f.WriteAt(data, offset)
		d.EndChange(change)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func hash(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestWithARealTracker has tracker, control socket, sidecar, directory store and
// recovery work together, while a guest writes and the sidecar is killed: every
// point that was cut restores to what the disks had at its instant.
func TestWithARealTracker(t *testing.T) {
	t.Parallel()
	folder, runtimeDir, storeDir, state := temporary(t), temporary(t), temporary(t), temporary(t)
	names := []string{"a.img", "b.img"}
	for i, name := range names {
		if err := os.WriteFile(filepath.Join(folder, name), bytes.Repeat([]byte{byte(i + 1), 2, 3}, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	root, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	files := &attached{disks: map[uint64]tracker.Tracked{}}
	tracked, err := tracker.Open(tracker.Config{Folder: root, FileSystem: files, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := control.Listen(control.SocketPath(runtimeDir, folder))
	if err != nil {
		t.Fatal(err)
	}
	serving, stopServing := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- control.Serve(serving, listener, control.NewHandler(tracked, control.Info{Folder: folder, Mountpoint: folder}, log), log)
	}()
	defer func() {
		stopServing()
		if err := errors.Join(<-served, tracked.Close()); err != nil {
			t.Error(err)
		}
	}()

	store, err := directory.Open(storeDir, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*uploader.Service, func()) {
		service, err := uploader.New(uploader.Config{
			Store: store, StateDir: state, Filters: uploader.NewDiscovery(runtimeDir, []string{folder}), Logger: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- service.Run(ctx) }()
		return service, func() {
			cancel()
			if err := errors.Join(<-ended, service.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	service, kill := start()
	defer func() { kill() }()
	request := api.ProtectRequest{Name: "web", FrequencySeconds: 1}
	for _, name := range names {
		request.Disks = append(request.Disks, filepath.Join(folder, name))
	}
	protected, err := service.Protect(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}

	random := rand.New(rand.NewPCG(7, 9))
	recorded := map[uint64]map[string][sha256.Size]byte{}
	for deadline := time.Now().Add(time.Minute); len(recorded) < 12; {
		if time.Now().After(deadline) {
			t.Fatalf("only %d points in a minute", len(recorded))
		}
		for range random.IntN(30) {
			name := names[random.IntN(2)]
			f, err := os.OpenFile(filepath.Join(folder, name), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			change(t, random, f, files.disk(t, f))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if random.IntN(6) == 0 {
			kill()
			service, kill = start()
		}
		// The guest rests, so the next rollover, by whomever, is at this state.
		point, err := service.Cut(t.Context(), "web", random.IntN(3) == 0)
		switch api.CodeOf(err) {
		case "":
		case api.CodeWalkRequired, api.CodePointGivenUp:
			continue // not complete yet; or merged
		default:
			t.Fatal(err)
		}
		recorded[point.Epoch] = map[string][sha256.Size]byte{}
		for _, name := range names {
			recorded[point.Epoch][name] = hash(t, filepath.Join(folder, name))
		}
	}
	var last uint64
	for epoch := range recorded {
		last = max(last, epoch)
	}
	if point, err := service.Cut(t.Context(), "web", true); err != nil || point.Epoch <= last {
		t.Fatalf("the last cut: %+v, %v", point, err)
	}

	repository, err := replica.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	restored := 0
	for epoch, want := range recorded {
		target := filepath.Join(temporary(t), "restored")
		_, err := recovery.Restore(t.Context(), repository, protected.VM, epoch, target, recovery.Options{})
		if errors.Is(err, replica.ErrNoPoint) {
			continue // merged
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if hash(t, filepath.Join(target, name)) != want[name] {
				t.Errorf("recovery point %d: %s differs", epoch, name)
			}
		}
		restored++
	}
	if restored < len(recorded)/2 {
		t.Errorf("only %d of %d points exist", restored, len(recorded))
	}
}
