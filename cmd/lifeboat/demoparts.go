package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/recovery"
	"lifeboat/uploader/api"
)

// child is a process of the demonstration.
type child struct {
	cmd *exec.Cmd
	log *os.File
}

// startChild runs this program with other arguments and returns when it is
// ready. What it says goes to a file.
func startChild(ctx context.Context, logPath string, args ...string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	ready, write, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	defer ready.Close()                                                                        //nolint:errcheck // only read
	cmd := exec.Command(program, append([]string{args[0], "--ready-fd", "3"}, args[1:]...)...) //nolint:gosec // it is this program
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{write}
	// A Ctrl-C is for the demonstration, which ends its children itself.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	if err := errors.Join(err, write.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start lifeboat %s: %w", args[0], err), log.Close())
	}
	c := &child{cmd: cmd, log: log}
	stop := context.AfterFunc(ctx, func() { ready.Close() }) //nolint:errcheck // to end the read below
	defer stop()
	if word, err := io.ReadAll(ready); err != nil || len(word) == 0 {
		_ = c.terminate()
		said, _ := os.ReadFile(logPath)
		return nil, fmt.Errorf("lifeboat %s did not start: %s", args[0], said)
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// kill ends it with SIGKILL.
func (c *child) kill() error {
	err := c.cmd.Process.Kill()
	_ = c.cmd.Wait() // it tells of the signal
	return errors.Join(err, c.log.Close())
}

// terminate asks it to end and waits.
func (c *child) terminate() error {
	err := c.cmd.Process.Signal(unix.SIGTERM)
	return errors.Join(err, c.cmd.Wait(), c.log.Close())
}

// makeVHD makes a fixed VHD: the disk's bytes and a footer.
func makeVHD(folder string) (path, what string, err error) {
	path = filepath.Join(folder, "web01-data.vhd")
	f, err := os.Create(path)
	if err != nil {
		return "", "", fmt.Errorf("make disk: %w", err)
	}
	_, err = f.WriteAt(vhdFooter(demoDiskSize), demoDiskSize)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", "", fmt.Errorf("make disk: %w", err)
	}
	return path, "fixed VHD of " + size(demoDiskSize), nil
}

// vhdFooter is the last 512 bytes of a fixed VHD of size bytes.
func vhdFooter(size uint64) []byte {
	f := make([]byte, 512)
	copy(f, "conectix")
	be := binary.BigEndian
	be.PutUint32(f[8:], 2)           // features: reserved, always set
	be.PutUint32(f[12:], 0x00010000) // version 1.0
	be.PutUint64(f[16:], ^uint64(0)) // a fixed disk has no further header
	copy(f[28:], "lfbt")
	be.PutUint64(f[40:], size)
	be.PutUint64(f[48:], size)
	be.PutUint16(f[56:], uint16(size/512/16/63)) // cylinders
	f[58], f[59] = 16, 63
	be.PutUint32(f[60:], 2) // fixed
	for i := range 16 {
		f[68+i] = byte(rand.Uint32())
	}
	sum := uint32(0)
	for _, b := range f {
		sum += uint32(b)
	}
	be.PutUint32(f[64:], ^sum)
	return f
}

// makeRaw makes a raw disk, with a file system on it where the tools are there.
func makeRaw(folder string) (path, what string, err error) {
	path = filepath.Join(folder, "web01-root.img")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(demoDiskSize), f.Close())
	}
	if err != nil {
		return "", "", fmt.Errorf("make disk: %w", err)
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		return path, "raw disk of " + size(demoDiskSize), nil
	}
	if out, err := exec.Command(mkfs, "-q", "-F", path).CombinedOutput(); err != nil { //nolint:gosec // our own path
		return "", "", fmt.Errorf("make a file system on %s: %w: %s", path, err, out)
	}
	return path, "raw disk of " + size(demoDiskSize) + " with ext4", nil
}

// demoWriter writes random ranges of the disks until it is stopped.
type demoWriter struct {
	files   []*os.File
	writes  atomic.Int64
	held    sync.Mutex
	stopped chan struct{}
	done    chan struct{}
	err     atomic.Pointer[error]
}

func startWriter(paths []string, size int64) (*demoWriter, error) {
	w := &demoWriter{stopped: make(chan struct{}), done: make(chan struct{})}
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("open disk: %w", err)
		}
		w.files = append(w.files, f)
	}
	go w.run(size)
	return w, nil
}

func (w *demoWriter) run(size int64) {
	defer close(w.done)
	buf := make([]byte, 256<<10)
	random := rand.NewChaCha8([32]byte{})
	for {
		select {
		case <-w.stopped:
			return
		case <-time.After(5 * time.Millisecond):
		}
		p := buf[:512*(1+rand.IntN(len(buf)/512))]
		_, _ = random.Read(p)
		w.held.Lock()
		_, err := w.files[rand.IntN(len(w.files))].WriteAt(p, rand.Int64N((size-int64(len(p)))/512)*512)
		w.held.Unlock()
		if err != nil {
			w.err.Store(&err)
			return
		}
		w.writes.Add(1)
	}
}

// hold keeps the writer from writing until the function it returns is called.
func (w *demoWriter) hold() func() {
	w.held.Lock()
	return w.held.Unlock
}

func (w *demoWriter) failed() error {
	if err := w.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *demoWriter) stop() error {
	close(w.stopped)
	<-w.done
	errs := []error{w.failed()}
	for _, f := range w.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// hashFiles returns the SHA-256 of each file.
func hashFiles(paths []string) ([]string, error) {
	var hashes []string
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("hash: %w", err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("hash %s: %w", path, err)
		}
		hashes = append(hashes, fmt.Sprintf("%x", h.Sum(nil)))
	}
	return hashes, nil
}

// retry repeats a call while the sidecar looks for its filter, for half a
// minute at most.
func retry[T any](ctx context.Context, call func() (T, error)) (T, error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		v, err := call()
		code := api.CodeOf(err)
		if err == nil || time.Now().After(deadline) || code != api.CodeNotFound && code != api.CodeFilterAway {
			return v, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return v, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func restoreQuietly(ctx context.Context, url, vm string, epoch uint64, target string) error {
	repository, err := openRepository(ctx, url)
	if err != nil {
		return err
	}
	found, err := repository.FindVM(ctx, vm)
	if err != nil {
		return err
	}
	_, err = recovery.Restore(ctx, repository, found.ID, epoch, target, recovery.Options{})
	return err
}
