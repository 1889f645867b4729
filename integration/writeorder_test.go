package integration

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// orderSlots lie in different blocks, and some on the border of two.
	orderSlots  = 500
	orderStride = 4104
)

// A recovery point is made of all disks at one instant: whoever writes a number
// to one disk and, when that was answered, to the other, finds it on the other
// only if it is on the one.
func TestWriteOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"a.img", "b.img"} {
		s.makeDisk(t, name, (orderSlots+1)*orderStride)
	}
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	var written atomic.Uint64
	stop := writeInOrder(t, &written, s.disk("a.img"), s.disk("b.img"))
	s.protect(t, "a.img", "b.img")
	again := time.NewTicker(75 * time.Millisecond)
	defer again.Stop()
	for range rounds(100, 2000) {
		<-again.C
		s.cut(t, false)
	}
	s.cut(t, true)
	stop()
	points := s.points(t)
	numbers := map[uint64]bool{}
	for _, p := range points {
		to, r := s.restore(t, p.Epoch)
		if r.code != 0 {
			t.Fatalf("%v", r)
		}
		a, b := numberOn(t, filepath.Join(to, "a.img")), numberOn(t, filepath.Join(to, "b.img"))
		if a != b && a != b+1 {
			t.Errorf("recovery point %d has number %d on disk A and %d on disk B", p.Epoch, a, b)
		}
		numbers[a] = true
		must(t, os.RemoveAll(to))
	}
	t.Logf("%d numbers written to each disk, %d recovery points, %d different", written.Load(), len(points), len(numbers))
	if least := rounds(50, 1000); len(numbers) < least {
		t.Errorf("only %d different recovery points, not %d", len(numbers), least)
	}
}

// writeInOrder writes 1, 2, 3… to disk A, each to disk B after it, until stop is
// called or the test ends.
func writeInOrder(t *testing.T, written *atomic.Uint64, a, b string) (stop func()) {
	t.Helper()
	var files [2]*os.File
	for i, path := range []string{a, b} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		files[i] = f
	}
	stopping := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		var err error
		for n := uint64(1); err == nil; n++ {
			select {
			case <-stopping:
				done <- errors.Join(files[0].Close(), files[1].Close())
				return
			default:
			}
			number := binary.BigEndian.AppendUint64(nil, n)
			for _, f := range files {
				if _, e := f.WriteAt(number, int64(n%orderSlots)*orderStride); e != nil {
					err = e
					break
				}
			}
			written.Store(n)
		}
		done <- err
	}()
	stop = sync.OnceFunc(func() {
		close(stopping)
		if err := <-done; err != nil {
			t.Errorf("the writer: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// numberOn returns the newest number on a disk, and fails the test if any of
// those before it is missing there.
func numberOn(t *testing.T, path string) uint64 {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	at := func(slot uint64) uint64 { return binary.BigEndian.Uint64(content[slot*orderStride:]) }
	newest := uint64(0)
	for slot := range uint64(orderSlots) {
		newest = max(newest, at(slot))
	}
	for back := uint64(0); back < orderSlots && back < newest; back++ {
		if n := newest - back; at(n%orderSlots) != n {
			t.Errorf("%s has %d, but not %d", path, newest, n)
		}
	}
	return newest
}
