package tracker

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"lifeboat/disk"
)

// TestChangeAcrossRollover: a rollover waits for the changes that began before
// it, and keeps no other waiting but the first touches beside those.
func TestChangeAcrossRollover(t *testing.T) {
	h := startHost(t, t.TempDir(), 64<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)
	d := h.fs.tracked(h.disks[0])

	change := d.BeginChange(0, 4096)
	_, err := h.disks[0].WriteAt([]byte("before"), 0)
	check(t, err)
	turn := turnOf(t, h)
	sealed := make(chan Epoch)
	go func() {
		e, err := h.tracker.Rollover(background, testSpec.ID, 0)
		check(t, err)
		sealed <- e
	}()
	for turnOf(t, h) == turn { // until the rollover's instant has come
		runtime.Gosched()
	}
	check(t, h.fs.write(h.disks[0], []byte("after"), 40<<20)) // elsewhere: does not wait
	beside := make(chan error)
	go func() { beside <- h.fs.write(h.disks[0], []byte("later"), 100) }()
	select {
	case <-sealed:
		t.Fatal("an epoch was sealed while a change that belongs to it was under way")
	case <-beside:
		t.Fatal("a first touch did not wait for the change of the epoch before")
	default:
	}
	_, err = h.disks[0].WriteAt([]byte("late"), 1000)
	check(t, err)
	want := content(t, h.disks[0])
	copy(want[40<<20:], make([]byte, 5)) // that came after the instant
	d.EndChange(change)
	e := <-sealed
	check(t, <-beside)
	check(t, replicas[0].apply(h, e, 0, true))
	if at := firstDifference(replicas[0].bytes, want); at < len(want) {
		t.Fatalf("the epoch differs from the disk at its instant, at byte %d", at)
	}
}

func turnOf(t *testing.T, h *host) uint64 {
	v, err := h.tracker.vm(testSpec.ID)
	check(t, err)
	return v.turn.Load()
}

// TestGateClosed: no change is under way while the size changes.
func TestGateClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn atomic.Uint64
		var g gate
		g.init(&turn)
		first := g.enter(1)
		closed, entered := false, false
		go func() {
			g.close()
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Fatal("the gate closed while a change was under way")
		}
		go func() {
			g.leave(2, g.enter(2))
			entered = true
		}()
		synctest.Wait()
		if entered {
			t.Fatal("a change began while the gate was to close")
		}
		g.leave(1, first)
		synctest.Wait()
		if !closed || entered {
			t.Fatalf("closed %v, entered %v", closed, entered)
		}
		g.open()
		synctest.Wait()
		if !entered {
			t.Fatal("the gate stays closed")
		}
	})
}

// TestShardsOf: the parts are those of every region between, and no others.
func TestShardsOf(t *testing.T) {
	for range 10_000 {
		first := region(rand.Uint64N(1000))
		last := first + region(rand.Uint64N(40))
		var want shardSet
		for r := first; r <= last; r++ {
			want |= 1 << (r % shards)
		}
		if got := shardsOf(first, last); got != want {
			t.Fatalf("regions %d to %d: %032b, want %032b", first, last, got, want)
		}
	}
}

// TestTouchesShareCommits: all that come while one commit goes on share the
// next.
func TestTouchesShareCommits(t *testing.T) {
	var g touchGroup
	var first *touchBatch
	for i := range 10 {
		b, leads := g.join(nil)
		if leads != (i == 0) || i > 0 && b != first {
			t.Fatalf("touch %d: leads %v", i, leads)
		}
		first = b
	}
	g.close()
	if b, leads := g.join(nil); !leads || b == first {
		t.Fatal("a touch joined a batch that is being committed")
	}
	if n := len(first.fills); n != 10 {
		t.Fatalf("the batch has %d touches", n)
	}
}

// BenchmarkGate measures what a change costs at the gate of its disk, and the
// end of a turn for 8 disks in between.
func BenchmarkGate(b *testing.B) {
	for _, writers := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			var turn atomic.Uint64
			disks := make([]gate, 8)
			for i := range disks {
				disks[i].init(&turn)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			var running sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				running.Go(func() {
					g := &disks[w%len(disks)]
					for r := region(w); left.Add(-1) >= 0; r++ {
						parts := shardsOf(r, r)
						g.leave(parts, g.enter(parts))
					}
				})
			}
			running.Wait()
		})
	}
	b.Run("turn of 8 disks", func(b *testing.B) {
		v := &vm{}
		for range 8 {
			d := &tracked{vm: v}
			d.gate.init(&v.turn)
			d.begin(newEpochLog(d.id, 1, disk.BlockSize))
			v.disks = append(v.disks, d)
		}
		for b.Loop() {
			v.grace()
		}
	})
}
