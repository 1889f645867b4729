package uploader

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/tracker"
)

// vast is a filter with one disk that is half noise, half text, and as long as
// is asked for.
type vast struct {
	*fakeFilter
	size    int64
	pattern []byte
}

func (v *vast) Allocated(_ context.Context, _, _ string, from disk.Block) (disk.Extent, error) {
	end := disk.Block(v.size / disk.BlockSize)
	if from >= end {
		return disk.Extent{}, nil
	}
	return disk.Extent{Start: from, Count: uint64(end - from)}, nil
}

func (v *vast) ReadDisk(_ context.Context, _, _ string, p []byte, offset int64) error {
	start := offset % int64(len(v.pattern)/2)
	copy(p, v.pattern[start:])
	for i := 0; i < len(p); i += disk.BlockSize { // no two blocks are the same
		n := offset + int64(i)
		p[i], p[i+1], p[i+2], p[i+3] = byte(n>>12), byte(n>>20), byte(n>>28), 1
	}
	return nil
}

// swallowing is a store that takes segments and forgets them.
type swallowing struct{ *memory }

func (s swallowing) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if size > 1<<20 {
		return nil
	}
	return s.memory.Put(ctx, name, content, size)
}

// BenchmarkWalk measures initial replication but for reading and sending: one
// operation is a disk of a GiB.
func BenchmarkWalk(b *testing.B) {
	const size = 1 << 30
	pattern := noise(1, 16<<20)
	for i := range pattern {
		if i/disk.BlockSize%2 == 1 {
			pattern[i] = "the quick brown fox jumps over the lazy dog "[i%44]
		}
	}
	buffers := newTransfer(DefaultParallel)
	b.SetBytes(size)
	for b.Loop() {
		filter := &vast{fakeFilter: newFakeFilter(), size: size, pattern: pattern}
		_, err := filter.Protect(b.Context(), tracker.Spec{ID: vmID, Name: "web", Disks: []tracker.DiskSpec{{ID: diskA, Path: "a"}}})
		if err != nil {
			b.Fatal(err)
		}
		settings, err := openSettings(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		store := swallowing{newMemory()}
		s := &shipper{
			id: vmID, writer: replica.NewID(), backend: filter, transfer: buffers, directory: b.TempDir(), settings: settings,
			observer: &recorder{}, sizes: standardSizes(), log: slog.New(slog.DiscardHandler),
			open: func(ctx context.Context) (*replica.Repository, error) { return replica.OpenOrCreate(ctx, store) },
		}
		r := &rig{shipper: s}
		if err := r.settle(b.Context()); err != nil {
			b.Fatal(err)
		}
		s.close()
	}
}
