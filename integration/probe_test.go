package integration

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// probePace is the time between two writes of a probe; so much less than it
	// was a pause may seem to be.
	probePace   = 2 * time.Millisecond
	probeBlocks = 256
)

// probe writes to a file on the mount, a block at a time, reads it back, and
// knows how long it had to wait.
type probe struct {
	fd     int
	buffer []byte // aligned, a block
	stop   func() // ends it, once

	writing atomic.Uint64 // how many writes have begun

	mu      sync.Mutex
	begun   time.Time // when the newest write that has ended began
	slowest time.Duration
	err     error
}

// startProbe has a new file written to until the test ends; flags go to open,
// O_DIRECT for one.
func startProbe(t *testing.T, path string, flags int) *probe {
	t.Helper()
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	must(t, err)
	raw := make([]byte, 2*blockSize)
	p := &probe{fd: fd, buffer: raw[-uintptr(unsafe.Pointer(&raw[0]))&(blockSize-1):][:blockSize]}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		p.run(stop)
	}()
	p.stop = sync.OnceFunc(func() {
		close(stop)
		<-ended
		_ = unix.Close(fd) // every write has been answered
	})
	t.Cleanup(p.stop)
	return p
}

func (p *probe) run(stop <-chan struct{}) {
	again := time.NewTicker(probePace)
	defer again.Stop()
	for n := uint64(1); ; n++ {
		select {
		case <-stop:
			return
		case <-again.C:
		}
		begun := time.Now()
		err := p.write(n)
		took := time.Since(begun)
		p.mu.Lock()
		p.begun, p.slowest, p.err = begun, max(p.slowest, took), err
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// write writes block n, which takes the place of one that was written long ago,
// and reads that before.
func (p *probe) write(n uint64) error {
	at := int64(n%probeBlocks) * blockSize
	if n > probeBlocks {
		if _, err := unix.Pread(p.fd, p.buffer, at); err != nil {
			return fmt.Errorf("read of block %d: %w", n-probeBlocks, err)
		}
		if was := binary.LittleEndian.Uint64(p.buffer); was != n-probeBlocks {
			return fmt.Errorf("block %d was read as %d", n-probeBlocks, was)
		}
	}
	binary.LittleEndian.PutUint64(p.buffer, n)
	p.writing.Store(n)
	if _, err := unix.Pwrite(p.fd, p.buffer, at); err != nil {
		return fmt.Errorf("write of block %d: %w", n, err)
	}
	return nil
}

// await returns so long after a write has begun, or soon if none does: while it
// waits for its answer, with some luck.
func (p *probe) await(after time.Duration) {
	n, begun := p.writing.Load(), time.Now()
	for p.writing.Load() == n && time.Since(begun) < 10*probePace {
		runtime.Gosched()
	}
	for begun = time.Now(); time.Since(begun) < after; {
		runtime.Gosched()
	}
}

// mark has the slowest write be found from now on.
func (p *probe) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slowest = 0
}

// since returns how long the slowest write took since mark, if one has ended
// that began after an instant.
func (p *probe) since(t *testing.T, instant time.Time) (slowest time.Duration, known bool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		t.Fatalf("the probe's %v", p.err)
	}
	return p.slowest, p.begun.After(instant)
}
