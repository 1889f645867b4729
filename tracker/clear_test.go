package tracker

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPunchSparse: to punch terabytes of which little is data takes as long,
// marks as much, and logs as much, as there is data.
func TestPunchSparse(t *testing.T) {
	const size, data = 4 << 40, 3 << 20
	h := startHost(t, t.TempDir(), size, 1<<20)
	defer h.stop()
	protect(t, h)
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{1}, data), 2<<40-1<<20))
	endWalk(t, h)
	began := time.Now()
	check(t, h.fs.punch(h.disks[0], 1<<40, 1<<40))
	d := h.fs.tracked(h.disks[0])
	d.EndChange(d.BeginClear(0, size)) // an allocation, as it were
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	e := rollover(t, h)
	if blocks := e.Disks[0].Blocks; blocks < data/4096 || blocks > data/4096+1 {
		t.Errorf("%d blocks count as changed, of %d with data", blocks, data/4096)
	}
	if hot := d.(*tracked).zones.hot.count(); hot > data/4096/smallZone+2+aheadZones {
		t.Errorf("%d zones are hot", hot)
	}
}

// TestClearWhileWriting: holes that are filled while ranges are cleared, before
// and after rollovers, are never missed.
func TestClearWhileWriting(t *testing.T) {
	const size = 8 << 20
	h := startHost(t, t.TempDir(), size, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	f := h.disks[0]
	stop, writers := make(chan struct{}), sync.WaitGroup{}
	each := func(do func(n int64) error) {
		writers.Go(func() {
			for n := int64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := do(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	each(func(n int64) error {
		return h.fs.write(f, bytes.Repeat([]byte{byte(n) | 1}, 8192), n*7919%(size/4096)*4096%(size-8192))
	})
	each(func(n int64) error { return h.fs.punch(f, n*104729%size, size/4) })
	each(func(n int64) error {
		d := h.fs.tracked(f)
		defer d.EndChange(d.BeginClear(n*15485863%(size/2), size/2))
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, n*15485863%(size/2), size/2)
	})
	for range 15 {
		rollover(t, h)
		shipAll(t, h, replicas)
	}
	close(stop)
	writers.Wait()
	rollover(t, h)
	shipAll(t, h, replicas)
	if !bytes.Equal(replicas[0].bytes, content(t, f)) {
		t.Fatal("a change was missed")
	}
}
