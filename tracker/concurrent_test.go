package tracker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"lifeboat/disk"
)

// TestConcurrent lets writers, rollovers, readers and merges run at once.
//
// Each writer owns some blocks. It fills a block of disk 0 with its next
// number, and then one of disk 1. What a sealed epoch shows must be what one
// instant could have shown: no block is torn; no number is older than what was
// written before the rollover, or newer than what was begun after it; disk 1
// is not ahead of disk 0. Another writer makes disk 1 longer, block by block:
// the epoch has each block whole or not at all. Meanwhile zones cool.
func TestConcurrent(t *testing.T) {
	const (
		writers = 4
		blocks  = 300 // more than two regions
		epochs  = 24
	)
	h := startHost(t, t.TempDir(), writers*blocks*disk.BlockSize, writers*blocks*disk.BlockSize)
	defer h.stop()
	protect(t, h)
	replicas := walked(t, h)

	var began, done [writers]atomic.Uint64
	stop := make(chan struct{})
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			p := make([]byte, disk.BlockSize)
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				began[w].Store(n)
				for i := 0; i < len(p); i += 8 {
					binary.LittleEndian.PutUint64(p[i:], n)
				}
				at := int64(w*blocks+rand.IntN(blocks)) * disk.BlockSize
				for _, f := range h.disks {
					if err := h.fs.write(f, p, at); err != nil {
						t.Error(err)
						return
					}
				}
				done[w].Store(n)
			}
		})
	}

	var grown atomic.Int64
	running.Go(func() {
		p := bytes.Repeat([]byte{0xa5}, disk.BlockSize)
		for n := int64(writers * blocks); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := h.fs.write(h.disks[1], p, n*disk.BlockSize); err != nil {
				t.Error(err)
				return
			}
			grown.Store(n + 1)
			runtime.Gosched()
		}
	})
	running.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				h.tracker.coolOnce()
			}
		}
	})

	type bounds struct {
		low, high [writers]uint64
		size      int64 // of disk 1, at least
	}
	seen := map[uint64]bounds{}
	merged := 0
	for range epochs {
		var b bounds
		for w := range writers {
			b.low[w] = done[w].Load()
		}
		b.size = grown.Load() * disk.BlockSize
		e, err := h.tracker.Rollover(t.Context(), testSpec.ID, 0)
		check(t, err)
		for w := range writers {
			b.high[w] = began[w].Load()
		}
		seen[e.Number] = b
		if rand.IntN(3) > 0 {
			continue // let epochs queue up
		}
		vm, err := h.tracker.VM(t.Context(), testSpec.ID)
		check(t, err)
		for _, s := range vm.Sealed {
			if rand.IntN(8) == 0 {
				v, err := h.tracker.locked(testSpec.ID)
				check(t, err)
				check(t, v.merge(0, "the test wants it"))
				v.mu.Unlock()
				merged++
				if err := replicas[0].apply(h, s, 0, true); !errors.Is(err, ErrEpochGone) {
					t.Fatalf("read of a merged epoch: %v", err)
				}
				continue
			}
			for i := range replicas {
				check(t, replicas[i].apply(h, s, i, true))
			}
			check(t, h.tracker.Acknowledge(t.Context(), testSpec.ID, s.Number, 0))
			b := seen[s.Number]
			tail := replicas[1].bytes[writers*blocks*disk.BlockSize:]
			if size := int64(len(replicas[1].bytes)); size < b.size || bytes.Count(tail, []byte{0xa5}) != len(tail) || len(tail)%disk.BlockSize != 0 {
				t.Fatalf("epoch %d: disk 1 has %d bytes, want at least %d, and %d bytes of what made it longer are missing",
					s.Number, size, b.size, len(tail)-bytes.Count(tail, []byte{0xa5}))
			}
			for w := range writers {
				newest := [2]uint64{newestIn(t, replicas[0].bytes, w, blocks), newestIn(t, replicas[1].bytes, w, blocks)}
				if newest[0] < b.low[w] || newest[0] > b.high[w] || newest[1] < b.low[w] || newest[1] > newest[0] {
					t.Fatalf("epoch %d, writer %d: disks have %v, want between %d and %d", s.Number, w, newest, b.low[w], b.high[w])
				}
			}
		}
	}
	close(stop)
	running.Wait()
	rollover(t, h)
	shipAll(t, h, replicas)
	for i := range replicas {
		if d := firstDifference(replicas[i].bytes, content(t, h.disks[i])); d < len(replicas[i].bytes) {
			t.Fatalf("disk %d differs at %d in the end", i, d)
		}
	}
	t.Logf("%d epochs, %d merged", epochs, merged)
}

// TestMergeUnderReaders: what was told of an epoch does not change when the
// epoch before is merged into it. The race detector is the judge of the rest.
func TestMergeUnderReaders(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	walked(t, h)
	check(t, h.fs.truncate(h.disks[0], 4096))
	rollover(t, h)
	check(t, h.fs.truncate(h.disks[0], 1<<20))
	e := rollover(t, h)
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	told, listed := e.Disks[0], vm.Sealed[1].Disks[0]
	v, err := h.tracker.locked(testSpec.ID)
	check(t, err)
	// The floor of the second is not below the first's: make it so.
	v.sealed[0].Disks[0].Floor = 1
	err = v.merge(0, "the test wants it")
	v.mu.Unlock()
	check(t, err)
	if e.Disks[0] != told || vm.Sealed[1].Disks[0] != listed {
		t.Fatal("a merge changed what had been told")
	}
	if v.sealed[0].Disks[0].Floor != 1 {
		t.Fatal("the merged epoch lost a floor")
	}
}

// newestIn returns the newest number among a writer's blocks, each of which
// must be of one write.
func newestIn(t *testing.T, p []byte, writer, blocks int) uint64 {
	t.Helper()
	newest := uint64(0)
	for b := writer * blocks; b < (writer+1)*blocks; b++ {
		block := p[b*disk.BlockSize : (b+1)*disk.BlockSize]
		n := binary.LittleEndian.Uint64(block)
		for i := 8; i < len(block); i += 8 {
			if binary.LittleEndian.Uint64(block[i:]) != n {
				t.Fatalf("block %d is torn: %d and %d", b, n, binary.LittleEndian.Uint64(block[i:]))
			}
		}
		newest = max(newest, n)
	}
	return newest
}
