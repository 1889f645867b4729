package tracker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// drawExtent draws an extent that may span regions and pages.
func drawExtent(t *rapid.T) disk.Extent {
	base := rapid.SampledFrom([]disk.Block{0, regionBlocks, pageBlocks, 3*pageBlocks - 100}).Draw(t, "base")
	return disk.Extent{
		Start: base + disk.Block(rapid.IntRange(0, 600).Draw(t, "start")),
		Count: uint64(rapid.IntRange(1, 700).Draw(t, "count")),
	}
}

// TestBitmap compares the bitmap with a set of numbers.
func TestBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m, other bitmap
		set := map[disk.Block]bool{}
		add := func(m *bitmap, x disk.Extent) {
			for r := regionOf(x.Start); r.first() < x.End(); r++ {
				m.add(r, within(r, x))
			}
			for b := x.Start; b < x.End(); b++ {
				set[b] = true
			}
		}
		for range rapid.IntRange(0, 8).Draw(t, "extents") {
			add(&m, drawExtent(t))
		}
		add(&other, drawExtent(t))
		m.addAll(&other)

		if got := m.count(); got != uint64(len(set)) {
			t.Fatalf("count is %d, want %d", got, len(set))
		}
		var got []disk.Block
		last := disk.Block(0)
		for i, x := range m.extents() {
			if i > 0 && x.Start <= last {
				t.Fatalf("extent %v touches or overlaps the one before, which ends at %d", x, last)
			}
			last = x.End()
			for b := x.Start; b < x.End(); b++ {
				got = append(got, b)
			}
		}
		if want := slices.Sorted(maps.Keys(set)); !slices.Equal(got, want) {
			t.Fatal("the extents are not the set")
		}
		x := drawExtent(t)
		all := true
		for b := x.Start; b < x.End(); b++ {
			all = all && set[b]
			if m.get(b) != set[b] {
				t.Fatalf("bit %d is %v", b, m.get(b))
			}
		}
		if m.containsAll(x) != all {
			t.Fatalf("containsAll(%v) is %v", x, !all)
		}
	})
}

// TestRuns checks runs of bits within a region, at all places and lengths.
func TestRuns(t *testing.T) {
	for start := range regionBlocks {
		for _, count := range []int{1, 2, 63, 64, 65, 128, 200, regionBlocks} {
			if start+count > regionBlocks {
				continue
			}
			want := disk.Extent{Start: 5*regionBlocks + disk.Block(start), Count: uint64(count)}
			got := slices.Collect(runs(5, within(5, want)))
			if len(got) != 1 || got[0] != want {
				t.Fatalf("runs of %v are %v", want, got)
			}
		}
	}
	everySecond := changelog.Bits{0x5555555555555555, 0, 0, 1 << 63}
	if got := slices.Collect(runs(0, everySecond)); len(got) != 33 || got[32].Start != 255 {
		t.Fatalf("runs of scattered bits: %v", got)
	}
}

// TestSteadyStateAllocatesNothing: a write to blocks that are marked already.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	protect(t, h)
	d := h.fs.tracked(h.disks[0])
	d.EndChange(d.BeginChange(0, 1<<20))
	if n := testing.AllocsPerRun(1000, func() {
		d.EndChange(d.BeginChange(4096, 64<<10))
	}); n != 0 {
		t.Fatalf("%v allocations for a tracked write", n)
	}
}

// BenchmarkSteadyState measures what tracking adds to a write of 4 KiB to a
// block that is marked in the open epoch.
func BenchmarkSteadyState(b *testing.B) {
	h := startHost(b, b.TempDir(), 64<<20, 1<<20)
	defer h.stop()
	protect(b, h)
	d := h.fs.tracked(h.disks[0])
	d.EndChange(d.BeginChange(0, 64<<20))
	offset := int64(0)
	for b.Loop() {
		d.EndChange(d.BeginChange(offset, 4096))
		offset = (offset + 4096*17) % (64 << 20)
	}
}

// BenchmarkFirstTouch measures the first write to each region of an epoch,
// which is logged, in zones that are hot.
func BenchmarkFirstTouch(b *testing.B) {
	const size = 64 << 30
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			h := startHost(b, b.TempDir(), size, 1<<20)
			defer h.stop()
			protect(b, h)
			endWalk(b, h)
			d := h.fs.tracked(h.disks[0]).(*tracked)
			d.zones.blocks = size / disk.BlockSize
			var next atomic.Int64
			var running sync.WaitGroup
			b.ResetTimer()
			for range writers {
				running.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						d.EndChange(d.BeginChange(n<<20%size, 4096))
						if n<<20%size == 0 {
							endEpoch(b, h)
						}
					}
				})
			}
			running.Wait()
		})
	}
}

// BenchmarkBeforeImage measures the first change of blocks that a sealed epoch
// needs: they are saved, and that is logged.
func BenchmarkBeforeImage(b *testing.B) {
	const size = 1 << 30
	for _, length := range []int64{disk.BlockSize, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", length>>10), func(b *testing.B) {
			h := startHost(b, b.TempDir(), size, 1<<20)
			defer h.stop()
			h.tracker.cfg.ImageShare = 2
			f := h.disks[0]
			for offset := int64(0); offset < size; offset += 1 << 20 {
				_, err := f.WriteAt(make([]byte, 1<<20), offset)
				check(b, err)
			}
			protect(b, h)
			endWalk(b, h)
			d := h.fs.tracked(f)
			order := rand.Perm(int(size / length))
			b.SetBytes(length)
			b.ResetTimer()
			for n := range b.N {
				if n%len(order) == 0 {
					b.StopTimer()
					if n > 0 {
						e := h.tracker.list()[0].sealed[0].Number
						check(b, h.tracker.Acknowledge(background, testSpec.ID, e, 0))
					}
					d.EndChange(d.BeginChange(0, size))
					_, err := h.tracker.Rollover(background, testSpec.ID, 0)
					check(b, err)
					b.StartTimer()
				}
				d.EndChange(d.BeginChange(int64(order[n%len(order)])*length, length))
			}
		})
	}
}

func endEpoch(t tb, h *host) {
	e, err := h.tracker.Rollover(background, testSpec.ID, 0)
	check(t, err)
	check(t, h.tracker.Acknowledge(background, testSpec.ID, e.Number, 0))
}

// BenchmarkRollover measures a rollover of two disks of 1 TiB, one changed
// block each.
func BenchmarkRollover(b *testing.B) {
	h := startHost(b, b.TempDir(), 1<<40, 1<<40)
	defer h.stop()
	protect(b, h)
	endWalk(b, h)
	for b.Loop() {
		for _, f := range h.disks {
			check(b, h.fs.write(f, []byte{1}, 0))
		}
		endEpoch(b, h)
	}
}
