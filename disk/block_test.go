package disk

import "testing"

func TestExtentOf(t *testing.T) {
	for _, c := range []struct {
		offset, length int64
		want           Extent
	}{
		{0, 0, Extent{0, 0}},
		{5000, 0, Extent{1, 0}},
		{0, 1, Extent{0, 1}},
		{0, 4096, Extent{0, 1}},
		{0, 4097, Extent{0, 2}},
		{4095, 2, Extent{0, 2}},
		{4096, 8192, Extent{1, 2}},
		{1<<40 + 1, 4096, Extent{1 << 28, 2}},
	} {
		if got := ExtentOf(c.offset, c.length); got != c.want {
			t.Errorf("ExtentOf(%d, %d) is %v, want %v", c.offset, c.length, got, c.want)
		}
	}
}

func TestBlockCount(t *testing.T) {
	for size, want := range map[int64]uint64{0: 0, 1: 1, 4096: 1, 4097: 2, 1<<20 + 512: 257} {
		if got := BlockCount(size); got != want {
			t.Errorf("BlockCount(%d) is %d, want %d", size, got, want)
		}
	}
	if got := (Extent{Start: 3, Count: 2}).End().Offset(); got != 5*BlockSize {
		t.Errorf("the end lies at %d", got)
	}
}
