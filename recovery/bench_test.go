package recovery

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/blobstore/directory"
	"lifeboat/replica/segment"
)

// BenchmarkRestore restores a disk of 256 MiB that does not compress out of a
// directory, verification included.
func BenchmarkRestore(b *testing.B) {
	const size = 256 << 20
	store, err := directory.Open(b.TempDir(), directory.Options{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	repository, err := replica.Create(b.Context(), store)
	if err != nil {
		b.Fatal(err)
	}
	fill(b, repository, size)
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Restore(b.Context(), repository, testVM, 1, b.TempDir(), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// fill makes a recovery point of a disk of noise.
func fill(b *testing.B, repository *replica.Repository, size int64) {
	b.Helper()
	ctx := context.Background()
	key := segment.Key{1}
	hasher := segment.NewHasher(key)
	w, err := segment.NewWriter()
	if err != nil {
		b.Fatal(err)
	}
	id := testVM
	point := replica.PointDisk{ID: id, Path: "disk", Size: size, Floor: size}
	noise := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 1<<20)
	for offset := int64(0); offset < size; {
		part := uint32(len(point.Segments))
		if err := w.Reset(segment.Header{Kind: segment.Delta, Disk: id, Epoch: 1}); err != nil {
			b.Fatal(err)
		}
		for range min(32, (size-offset)>>20) {
			_, _ = noise.Read(data)
			sums := hasher.Sums(nil, data)
			for i, sum := range sums {
				point.Checksum.Replace(hasher, disk.BlockAt(offset)+disk.Block(i), segment.Checksum{}, sum)
			}
			if err := w.Add(disk.BlockAt(offset), data, sums); err != nil {
				b.Fatal(err)
			}
			offset += int64(len(data))
		}
		sealed, err := w.Finish(replica.SegmentName(1, part))
		if err == nil {
			err = repository.PutSegment(ctx, testVM, id, sealed)
		}
		if err != nil {
			b.Fatalf("segment %d: %v", part, err)
		}
		point.Segments = append(point.Segments, sealed.Ref)
	}
	vm := replica.VM{ID: testVM, Name: "bench", Generation: 1, Key: key, Created: time.Unix(1_800_000_000, 0).UTC(), Disks: []replica.VMDisk{{ID: id, Path: "disk"}}}
	if err := repository.PutVM(ctx, vm); err != nil {
		b.Fatal(err)
	}
	m := &replica.Manifest{
		VM: testVM, Generation: 1, Epoch: 1, Time: time.Unix(1_800_000_000, 0).UTC(), Consistency: replica.CrashConsistent, Writer: testVM,
		Disks: []replica.PointDisk{point},
	}
	if _, err := repository.Commit(ctx, m); err != nil {
		b.Fatal(err)
	}
}
