package segment

import (
	"bytes"
	"context"
	"testing"

	"lifeboat/disk"
)

func background() context.Context { return context.Background() }

// seeds are small whole segments.
func seeds(f *testing.F) [][]byte {
	var all [][]byte
	w := newWriter(f, Header{Kind: Delta, Disk: testDisk, Epoch: 3})
	add(f, w, 4, append(noise(5, disk.BlockSize), bytes.Repeat([]byte{7}, 3*disk.BlockSize)...))
	if err := w.AddZero(disk.Extent{Start: 100, Count: 1 << 40}); err != nil {
		f.Fatal(err)
	}
	for range 2 {
		sealed, err := w.Finish("x")
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, bytes.Clone(sealed.Content))
		if err := w.Reset(Header{Kind: Walk, Disk: testDisk, Epoch: 3, Walk: 2}); err != nil {
			f.Fatal(err)
		}
		if err := w.Cover(disk.Extent{Start: 4, Count: 9}); err != nil {
			f.Fatal(err)
		}
	}
	return all
}

// FuzzIndex decodes an index without the checksums that guard it, and holds what
// comes out to the promises of Index.
func FuzzIndex(f *testing.F) {
	for _, s := range seeds(f) {
		footer, err := decodeFooter(s[len(s)-FooterSize:], int64(len(s)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s[footer.indexOffset:len(s)-FooterSize], footer.indexOffset)
	}
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		x, err := decodeIndex(data, offset)
		if err != nil {
			return
		}
		again, err := appendIndex(nil, x)
		if err != nil {
			t.Fatal(err)
		}
		if y, err := decodeIndex(again, offset); err != nil || len(y.Runs) != len(x.Runs) {
			t.Fatalf("encoded again it is not the same: %v", err)
		}
		for _, r := range x.Runs {
			for i := range x.SumsOf(r) {
				frame := x.Frames[x.FrameOf(r.First+uint32(i))]
				if r.First+uint32(i) < frame.First || r.First+uint32(i) >= frame.First+uint32(frame.Blocks) {
					t.Fatal("a block is not in its frame")
				}
			}
		}
	})
}

// FuzzTail takes whole blobs, as a listing finds them.
func FuzzTail(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		x, ref, err := FindIndex(background(), oneBlob{content: blob}, "b", "b", int64(len(blob)))
		if err != nil {
			return
		}
		if err := ref.Validate(); err != nil {
			t.Fatalf("a reference was made that is not valid: %v", err)
		}
		if int64(len(x.Sums))*16 > int64(len(blob)) {
			t.Fatal("more checksums than bytes")
		}
	})
}

// FuzzFooter decodes a footer alone.
func FuzzFooter(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s[len(s)-FooterSize:], int64(len(s)))
	}
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		footer, err := decodeFooter(data, size)
		if err == nil && (footer.indexOffset < headerSize || footer.indexOffset+footer.indexLength+FooterSize != size) {
			t.Fatalf("%+v was taken for a blob of %d bytes", footer, size)
		}
	})
}

// FuzzFrame decodes stored bytes that have the right CRC, so that the
// decompressor and the block checksums stand alone.
func FuzzFrame(f *testing.F) {
	d, err := NewDecoder(testHasher())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds(f) {
		x, _, err := FindIndex(background(), oneBlob{content: s}, "b", "b", int64(len(s)))
		if err != nil {
			f.Fatal(err)
		}
		for _, frame := range x.Frames {
			f.Add(s[frame.Offset:frame.Offset+frame.Stored], frame.Blocks, uint8(frame.Codec))
		}
	}
	f.Fuzz(func(t *testing.T, stored []byte, blocks, codec uint8) {
		frame := Frame{Offset: headerSize, Stored: uint32(len(stored)), CRC: crcOf(stored), Blocks: blocks, Codec: Codec(codec)}
		if frame.check() != nil {
			return
		}
		sum := testHasher().Sum(bytes.Repeat([]byte{7}, disk.BlockSize))
		x := &Index{Frames: []Frame{frame}, Sums: make([]Checksum, blocks)}
		for i := range x.Sums {
			x.Sums[i] = sum
		}
		data, err := d.Decode(x, 0, stored, nil)
		if err == nil && !bytes.Equal(data, bytes.Repeat([]byte{7}, int(blocks)*disk.BlockSize)) {
			t.Fatal("wrong bytes were taken")
		}
	})
}
