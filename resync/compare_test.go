package resync

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// A comparison finds exactly the blocks that differ, and a preview the sum that
// the table has after the change.
func TestCompareAndPreview(t *testing.T) {
	table, _ := create(t)
	before := random(40 * disk.BlockSize)
	change(t, table, State{Epoch: 1}, func() error { return table.Set(10, hasher().Sums(nil, before)) })
	epoch := uint64(1)
	rapid.Check(t, func(r *rapid.T) {
		now := slices.Clone(before)
		want := map[disk.Block]bool{}
		for range rapid.IntRange(0, 5).Draw(r, "changes") {
			at := rapid.IntRange(0, len(now)-1).Draw(r, "at")
			now[at] ^= 0x55
		}
		short := rapid.IntRange(1, len(now)).Draw(r, "length")
		floor := int64(rapid.IntRange(0, 60).Draw(r, "floor")) * disk.BlockSize
		now = now[:short]
		padded := append(slices.Clone(now), make([]byte, disk.BlockSize)...)
		for i := 0; i*disk.BlockSize < len(now); i++ {
			is, was := padded[i*disk.BlockSize:(i+1)*disk.BlockSize], before[i*disk.BlockSize:(i+1)*disk.BlockSize]
			block := disk.Block(10 + i)
			same := slices.Equal(is, was)
			if block.Offset() >= floor {
				same = segment.IsZero(is)
			}
			if !same {
				want[block] = true
			}
		}
		p, err := table.Preview(r.Context(), floor)
		if err != nil {
			r.Fatal(err)
		}
		var c Comparison
		if err := p.Compare(10, now, &c); err != nil {
			r.Fatal(err)
		}
		got := 0
		for i, n := c.Run(0); n > 0; i, n = c.Run(i + n) {
			for k := range n {
				if !want[c.Start+disk.Block(i+k)] {
					r.Fatalf("block %d does not differ", 10+i+k)
				}
				got++
			}
		}
		if got != len(want) {
			r.Fatalf("%d blocks differ, want %d", got, len(want))
		}
		epoch++
		preview := p.Sum()
		change(t, table, State{Epoch: epoch}, func() error {
			if err := table.Truncate(floor); err != nil {
				return err
			}
			return table.Set(10, c.Now)
		})
		if table.Sum() != preview {
			r.Fatalf("preview %s, then %s", preview, table.Sum())
		}
		if err := table.Check(r.Context()); err != nil {
			r.Fatal(err)
		}
		epoch++
		change(t, table, State{Epoch: epoch}, func() error { return table.Set(10, hasher().Sums(nil, before)) })
	})
}

func TestCompareAllocatesNothing(t *testing.T) {
	table, _ := create(t)
	data := random(1 << 20)
	var c Comparison
	if n := testing.AllocsPerRun(10, func() {
		if err := table.Compare(0, data, &c); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCompare(b *testing.B) {
	table, _ := create(b)
	data := random(1 << 20)
	if err := table.Begin(State{Epoch: 1}); err != nil {
		b.Fatal(err)
	}
	if err := table.Set(0, hasher().Sums(nil, data)); err != nil {
		b.Fatal(err)
	}
	if err := table.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	var c Comparison
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := table.Compare(0, data, &c); err != nil {
			b.Fatal(err)
		}
		if _, n := c.Run(0); n != 0 {
			b.Fatal("equal data differ")
		}
	}
}
