package replica

import (
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
)

// The merge of layers gives each block what the newest layer says that speaks of
// it, in whatever way they are merged.
func TestLayersMerge(t *testing.T) {
	const blocks = 60
	type place struct {
		segment int32
		ordinal uint32
	}
	rapid.Check(t, func(t *rapid.T) {
		var stack layers
		want := map[disk.Block]place{}
		for number := range rapid.Int32Range(0, 9).Draw(t, "layers") {
			var l layer
			var at disk.Block
			var ordinal uint32
			for range rapid.IntRange(0, 6).Draw(t, "runs") {
				at += disk.Block(rapid.Uint64Range(0, 5).Draw(t, "gap"))
				m := Mapping{Extent: disk.Extent{Start: at, Count: rapid.Uint64Range(1, 12).Draw(t, "count")}, Segment: zeros}
				if at = m.End(); at > blocks {
					break
				}
				if rapid.Bool().Draw(t, "data") {
					m.Segment, m.First = number, ordinal
					ordinal += uint32(m.Count)
				}
				l = append(l, m)
			}
			for _, m := range l { // older ones come later
				for i := range m.Count {
					block := m.Start + disk.Block(i)
					if _, decided := want[block]; decided {
						continue
					}
					want[block] = place{segment: m.Segment}
					if m.Segment != zeros {
						want[block] = place{segment: m.Segment, ordinal: m.First + uint32(i)}
					}
				}
			}
			stack.push(l)
		}
		var end disk.Block
		got := 0
		for _, m := range stack.merge() {
			if m.Start < end || m.Count == 0 {
				t.Fatalf("%+v does not come after block %d", m, end)
			}
			end = m.End()
			for i := range m.Count {
				is := place{segment: m.Segment}
				if m.Segment != zeros {
					is.ordinal = m.First + uint32(i)
				}
				if want[m.Start+disk.Block(i)] != is {
					t.Fatalf("block %d is at %+v, want %+v", m.Start+disk.Block(i), is, want[m.Start+disk.Block(i)])
				}
				got++
			}
		}
		if got != len(want) {
			t.Fatalf("%d blocks, want %d", got, len(want))
		}
	})
}
