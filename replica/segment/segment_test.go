package segment

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/replica/blobstore"
)

const testDisk = "00112233445566778899aabbccddeeff"

func testHasher() *Hasher { return NewHasher(Key{1, 2, 3}) }

// noise returns incompressible bytes.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

func newWriter(t testing.TB, h Header) *Writer {
	t.Helper()
	w, err := NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Reset(h); err != nil {
		t.Fatal(err)
	}
	return w
}

func add(t testing.TB, w *Writer, start disk.Block, data []byte) {
	t.Helper()
	if err := w.Add(start, data, testHasher().Sums(nil, data)); err != nil {
		t.Fatal(err)
	}
}

// readAll decodes a segment through a store and returns its blocks.
func readAll(content []byte, ref Ref) (map[disk.Block][]byte, error) {
	store := oneBlob{content: content}
	x, err := ReadIndex(background(), store, "blob", ref)
	if err != nil {
		return nil, err
	}
	d, err := NewDecoder(testHasher())
	if err != nil {
		return nil, err
	}
	var data []byte
	for n := range x.Frames {
		stored, err := ReadFrames(background(), store, "blob", x, n, 1, nil)
		if err != nil {
			return nil, err
		}
		frame, err := d.Decode(x, n, x.Stored(stored, n, n), nil)
		if err != nil {
			return nil, err
		}
		data = append(data, frame...)
	}
	blocks := map[disk.Block][]byte{}
	for _, r := range x.Runs {
		for i := range r.Count {
			block := make([]byte, disk.BlockSize)
			if r.Data {
				copy(block, data[(uint64(r.First)+i)*disk.BlockSize:])
			}
			blocks[r.Start+disk.Block(i)] = block
		}
	}
	return blocks, nil
}

func TestSegmentHoldsWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := NewWriter()
		if err != nil {
			t.Fatal(err)
		}
		// The second round proves that a used Writer is as good as a new one.
		for range 2 {
			h := Header{Kind: Delta, Disk: testDisk, Epoch: rapid.Uint64Range(1, 1<<60).Draw(t, "epoch")}
			if rapid.Bool().Draw(t, "walk") {
				h.Kind, h.Walk = Walk, 7
			}
			if err := w.Reset(h); err != nil {
				t.Fatal(err)
			}
			want := map[disk.Block][]byte{}
			var at disk.Block
			for range rapid.IntRange(0, 4).Draw(t, "pieces") {
				at += disk.Block(rapid.Uint64Range(0, 3).Draw(t, "gap"))
				n := rapid.IntRange(1, 80).Draw(t, "blocks")
				extent := disk.Extent{Start: at, Count: uint64(n)}
				data := make([]byte, n*disk.BlockSize)
				if rapid.Bool().Draw(t, "zero") {
					err = w.AddZero(extent)
				} else {
					copy(data, noise(uint64(at), len(data)))
					for i := range n {
						switch rapid.IntRange(0, 2).Draw(t, "content") {
						case 0:
							clear(data[i*disk.BlockSize : (i+1)*disk.BlockSize])
						case 1:
							copy(data[i*disk.BlockSize:(i+1)*disk.BlockSize], bytes.Repeat([]byte{byte(i), 1, 2, 3}, disk.BlockSize/4))
						}
					}
					short := rapid.IntRange(0, disk.BlockSize-1).Draw(t, "short")
					clear(data[len(data)-short:])
					err = w.Add(at, data[:len(data)-short], testHasher().Sums(nil, data))
				}
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					want[at+disk.Block(i)] = data[i*disk.BlockSize : (i+1)*disk.BlockSize]
				}
				at = extent.End()
			}
			if h.Kind == Walk {
				if err := w.Cover(disk.Extent{Count: uint64(at) + 100}); err != nil {
					t.Fatal(err)
				}
			}
			bound := w.Len()
			sealed, err := w.Finish("name")
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(sealed.Content)) > bound || sealed.Ref.Validate() != nil {
				t.Fatalf("%d bytes, announced %d; ref %v", len(sealed.Content), bound, sealed.Ref.Validate())
			}
			got, err := readAll(sealed.Content, sealed.Ref)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("%d blocks, want %d", len(got), len(want))
			}
			for block, content := range want {
				if !bytes.Equal(got[block], content) {
					t.Fatalf("block %d differs", block)
				}
			}
			found, ref, err := FindIndex(background(), oneBlob{content: sealed.Content}, "blob", "name", int64(len(sealed.Content)))
			if err != nil || ref != sealed.Ref || found.Covered != sealed.Index.Covered || !slices.Equal(found.Runs, sealed.Index.Runs) {
				t.Fatalf("found %v %v, want %v", ref, err, sealed.Ref)
			}
		}
	})
}

func TestAddRefusesDisorder(t *testing.T) {
	w := newWriter(t, Header{Kind: Delta, Disk: testDisk, Epoch: 1})
	block := noise(1, disk.BlockSize)
	add(t, w, 5, block)
	sums := testHasher().Sums(nil, block)
	for name, err := range map[string]error{
		"same block":    w.Add(5, block, sums),
		"block before":  w.Add(4, block, sums),
		"zeros before":  w.AddZero(disk.Extent{Start: 3, Count: 3}),
		"sums too few":  w.Add(6, block, nil),
		"sums too many": w.Add(6, block[:10], append(sums, sums...)),
		"too far":       w.AddZero(disk.Extent{Start: 6, Count: 1 << 60}),
	} {
		if err == nil || errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if sealed, err := w.Finish("x"); err != nil || len(sealed.Index.Sums) != 1 {
		t.Errorf("what was refused left a trace: %v", err)
	}
	for _, h := range []Header{
		{Kind: 9, Disk: testDisk, Epoch: 1},
		{Kind: Delta, Disk: testDisk},
		{Kind: Delta, Disk: testDisk, Epoch: 1, Walk: 1},
		{Kind: Walk, Disk: testDisk, Epoch: 1},
		{Kind: Delta, Disk: "0011", Epoch: 1},
	} {
		if w.Reset(h) == nil {
			t.Errorf("header %+v was taken", h)
		}
	}
	if err := w.Reset(Header{Kind: Walk, Disk: testDisk, Epoch: 1, Walk: 1}); err != nil {
		t.Fatal(err)
	}
	add(t, w, 5, block)
	if _, err := w.Finish("x"); err == nil {
		t.Error("a walk was finished that did not cover its blocks")
	}
}

func TestSegmentsEndBeforeTheirLimits(t *testing.T) {
	for name, piece := range map[string][]byte{
		"incompressible": noise(3, 1<<20),
		"compressible":   bytes.Repeat([]byte("lifeboat"), 1<<17),
		"scattered":      append(noise(4, disk.BlockSize), make([]byte, disk.BlockSize)...),
	} {
		w := newWriter(t, Header{Kind: Delta, Disk: testDisk, Epoch: 1})
		sums := testHasher().Sums(nil, piece)
		var at disk.Block
		var err error
		for ; err == nil; at += disk.Block(len(sums)) {
			err = w.Add(at, piece, sums)
		}
		if !errors.Is(err, ErrFull) {
			t.Fatalf("%s: %v", name, err)
		}
		sealed, err := w.Finish("x")
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed.Content) > MaxSize || len(sealed.Content) < 16<<10 || len(sealed.Index.Sums) < 1<<12 {
			t.Errorf("%s: full with %d bytes and %d blocks", name, len(sealed.Content), len(sealed.Index.Sums))
		}
		if _, err := ReadIndex(background(), oneBlob{content: sealed.Content}, "b", sealed.Ref); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Any single flipped bit, and any cut, is noticed, unless it is in the header,
// on which nothing hangs.
func TestDamageIsNoticed(t *testing.T) {
	w := newWriter(t, Header{Kind: Delta, Disk: testDisk, Epoch: 1})
	add(t, w, 1, append(noise(5, 2*disk.BlockSize), bytes.Repeat([]byte{1, 2}, disk.BlockSize)...))
	add(t, w, 70, bytes.Repeat([]byte{3, 2}, disk.BlockSize*40))
	if err := w.AddZero(disk.Extent{Start: 400, Count: 9}); err != nil {
		t.Fatal(err)
	}
	sealed, err := w.Finish("x")
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(sealed.Content)
	if _, err := readAll(whole, sealed.Ref); err != nil {
		t.Fatal(err)
	}
	check := func(what string, at int, content []byte) {
		t.Helper()
		_, err := readAll(content, sealed.Ref)
		var damage *DamageError
		if !errors.As(err, &damage) && err == nil || damage != nil && !errors.Is(err, blobstore.ErrCorrupt) {
			t.Errorf("%s at %d: %v", what, at, err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for at := headerSize; at < len(whole); at += 1 + random.IntN(23) {
		damaged := slices.Clone(whole)
		damaged[at] ^= 1 << random.IntN(8)
		check("flip", at, damaged)
	}
	for at := 0; at < len(whole); at += 1 + random.IntN(211) {
		check("cut", at, whole[:at])
	}
	if err := w.Reset(Header{Kind: Delta, Disk: testDisk, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	add(t, w, 1, noise(6, disk.BlockSize))
	other, err := w.Finish("x")
	if err != nil {
		t.Fatal(err)
	}
	check("another segment", 0, other.Content)
	// The same blob but for its tail: what a swapped footer would claim.
	check("another tail", 0, append(slices.Clone(whole[:len(whole)-FooterSize]), other.Content[len(other.Content)-FooterSize:]...))
	// Another segment of the same size, right in itself.
	var twins []Sealed
	for seed := range uint64(2) {
		if err := w.Reset(Header{Kind: Delta, Disk: testDisk, Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		add(t, w, 1, noise(20+seed, disk.BlockSize))
		twin, err := w.Finish("x")
		if err != nil {
			t.Fatal(err)
		}
		twin.Content = slices.Clone(twin.Content)
		twins = append(twins, twin)
	}
	if _, err := readAll(twins[0].Content, twins[1].Ref); !errors.Is(err, blobstore.ErrCorrupt) || len(twins[0].Content) != len(twins[1].Content) {
		t.Errorf("a segment of the same size in the place of another: %v", err)
	}
	if w.Add(9, nil, nil) == nil || w.AddZero(disk.Extent{Count: 1}) == nil {
		t.Error("a finished segment was added to")
	}
}

func TestDiskSumFollowsReplacements(t *testing.T) {
	h := testHasher()
	rapid.Check(t, func(t *rapid.T) {
		content := map[disk.Block]Checksum{}
		var sum DiskSum
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			block := disk.Block(rapid.IntRange(0, 9).Draw(t, "block"))
			var next Checksum
			if v := rapid.IntRange(0, 3).Draw(t, "value"); v > 0 {
				next = h.Sum([]byte{byte(v)})
			}
			sum.Replace(h, block, content[block], next)
			content[block] = next
		}
		var fresh DiskSum
		for block, c := range content {
			var one DiskSum
			one.Replace(h, block, Checksum{}, c)
			fresh.Add(one)
		}
		if sum != fresh {
			t.Fatalf("%v, counted anew %v", sum, fresh)
		}
		text, _ := sum.MarshalText()
		var back DiskSum
		if err := back.UnmarshalText(text); err != nil || back != sum {
			t.Fatalf("%v came back as %v: %v", sum, back, err)
		}
	})
	var a, b DiskSum
	a.Replace(h, 1, Checksum{}, h.Sum([]byte{1}))
	b.Replace(h, 2, Checksum{}, h.Sum([]byte{1}))
	if a == b || a == (DiskSum{}) {
		t.Error("the sum does not depend on where a block is")
	}
}

func TestChecksums(t *testing.T) {
	h := testHasher()
	block := noise(1, disk.BlockSize)
	clear(block[1000:])
	if h.Sum(block) != h.Sum(block[:1000]) {
		t.Error("a short block is not as one that zeros follow")
	}
	if h.Sum(block) == NewHasher(Key{9}).Sum(block) {
		t.Error("the key does not matter")
	}
	for n := range 40 {
		zeros := make([]byte, n)
		if !IsZero(zeros) || !h.Sum(zeros).IsZero() {
			t.Errorf("%d zeros are not zero", n)
		}
		for i := range zeros {
			zeros[i] = 1
			if IsZero(zeros) || h.Sum(zeros).IsZero() {
				t.Errorf("byte %d of %d was not seen", i, n)
			}
			zeros[i] = 0
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.Sum(block) }); n != 0 {
		t.Errorf("a checksum allocates %v times", n)
	}
}
