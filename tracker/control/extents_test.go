package control

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/tracker"
)

func TestExtentsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want tracker.Extents
		var end disk.Block
		for i := range rapid.IntRange(0, 50).Draw(t, "extents") {
			gap := rapid.Uint64Range(uint64(min(i, 1)), 1<<40).Draw(t, "gap")
			x := disk.Extent{Start: end + disk.Block(gap), Count: rapid.Uint64Range(1, 1<<40).Draw(t, "count")}
			want, end = append(want, x), x.End()
		}
		var b bytes.Buffer
		if err := writeExtents(&b, want); err != nil {
			t.Fatal(err)
		}
		whole := bytes.Clone(b.Bytes())
		got, err := readExtents(bytes.NewReader(whole), len(want))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
		short := rapid.IntRange(0, len(whole)-1).Draw(t, "short")
		if _, err := readExtents(bytes.NewReader(whole[:short]), maxExtents); !errors.Is(err, errExtents) {
			t.Fatalf("cut to %d of %d bytes: got %v", short, len(whole), err)
		}
		if len(want) > 0 {
			if _, err := readExtents(bytes.NewReader(whole), len(want)-1); !errors.Is(err, errExtents) {
				t.Fatalf("over the limit: got %v", err)
			}
		}
	})
}

func FuzzReadExtents(f *testing.F) {
	for _, x := range []tracker.Extents{nil, {{Start: 0, Count: 1}}, {{Start: 5, Count: 300}, {Start: 1 << 45, Count: 1}}} {
		var b bytes.Buffer
		if err := writeExtents(&b, x); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte("LBX\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		extents, err := readExtents(bytes.NewReader(data), 1000)
		if err != nil {
			return
		}
		if len(extents) > 1000 {
			t.Fatal("limit passed")
		}
		for i, x := range extents {
			if x.Count == 0 || x.End() < x.Start || x.End().Offset() < 0 || i > 0 && x.Start <= extents[i-1].End() {
				t.Fatalf("accepted %v", extents)
			}
		}
		var b bytes.Buffer
		if err := writeExtents(&b, extents); err != nil {
			t.Fatal(err)
		}
		again, err := readExtents(&b, 1000)
		if err != nil || !slices.Equal(again, extents) {
			t.Fatalf("second reading: %v, %v", again, err)
		}
	})
}
