package segment

import (
	"bytes"
	"testing"

	"lifeboat/disk"
)

func BenchmarkHasher(b *testing.B) {
	h, block := testHasher(), noise(1, disk.BlockSize)
	b.SetBytes(disk.BlockSize)
	for b.Loop() {
		h.Sum(block)
	}
}

func BenchmarkWriter(b *testing.B) {
	for name, data := range map[string][]byte{
		"incompressible": noise(3, 1<<20),
		"text":           bytes.Repeat([]byte("a guest's log line, more or less the same as before\n"), 20165)[:1<<20],
		"zero":           make([]byte, 1<<20),
	} {
		b.Run(name, func(b *testing.B) {
			w, err := NewWriter()
			if err != nil {
				b.Fatal(err)
			}
			sums := testHasher().Sums(nil, data)
			b.SetBytes(16 << 20)
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Reset(Header{Kind: Delta, Disk: testDisk, Epoch: 1}); err != nil {
					b.Fatal(err)
				}
				for i := range 16 {
					if err := w.Add(disk.Block(i*len(sums)), data, sums); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := w.Finish("x"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
