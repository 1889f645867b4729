package uploader

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/tracker"
)

// TestDiskIsCutOffDuringTheWalk: what the walk shipped of the end is not in the
// point, and does not spoil the checksum that tables are rebuilt by.
func TestDiskIsCutOffDuringTheWalk(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.fill()
	r.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Within: diskB})
	if err := r.settle(t.Context()); !errors.Is(err, blobstoretest.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	r.filter.resize(vmID, diskA, 7*disk.BlockSize+100)
	r.store.Heal()
	r.mustSettle(t)
	r.verify(t)
	r.dropState(t)
	r.boot(t)
	r.filter.resize(vmID, diskA, 64*disk.BlockSize) // what was cut off must not come back
	r.rollOver(t)
	r.mustSettle(t)
	if n := r.verify(t); n != 2 {
		t.Errorf("%d points", n)
	}
}

// TestSegmentOfAWalkIsLost: a walk whose segments are not all there is not
// closed.
func TestSegmentOfAWalkIsLost(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.fill()
	r.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Within: "/points/"})
	if err := r.settle(t.Context()); !errors.Is(err, blobstoretest.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	r.store.Heal()
	names := slices.DeleteFunc(r.memory.names(""), func(n string) bool { return filepath.Ext(n) != ".seg" || !strings.Contains(n, diskA) })
	if err := r.memory.Delete(t.Context(), names[2]); err != nil {
		t.Fatal(err)
	}
	r.boot(t)
	r.mustSettle(t)
	if vm, _ := r.filter.VM(t.Context(), vmID); vm.Walk.Number != 2 || vm.Walk.Required {
		t.Errorf("walk %+v, want the second one finished", vm.Walk)
	}
	if n := r.verify(t); n != 1 {
		t.Errorf("%d points", n)
	}
}

// TestWalkWhoseSegmentIsBad: what a damaged or lost segment covered is walked
// again, although the table has its checksums.
func TestWalkWhoseSegmentIsBad(t *testing.T) {
	for name, spoil := range map[string]func(*memory, string){
		"damaged": func(m *memory, blob string) { m.blobs[blob][len(m.blobs[blob])-70] ^= 1 },
		"lost":    func(m *memory, blob string) { delete(m.blobs, blob) },
	} {
		r := newRig(t, stateDir(t))
		r.fill()
		r.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Within: diskB})
		if err := r.settle(t.Context()); !errors.Is(err, blobstoretest.ErrInjected) {
			t.Fatalf("got %v", err)
		}
		r.store.Heal()
		names := slices.DeleteFunc(r.memory.names(""), func(n string) bool { return filepath.Ext(n) != ".seg" })
		spoil(r.memory, names[1])
		r.boot(t)
		r.mustSettle(t)
		point, err := r.shipper.repository.Newest(t.Context(), vmID)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range point.Disk(diskA).Segments {
			if strings.HasSuffix(names[1], ref.Name) {
				t.Errorf("%s: the manifest names the bad segment", name)
			}
		}
		if r.verify(t) != 1 {
			t.Errorf("%s: there is no point", name)
		}
	}
}

// late is a store in which a manifest appears only after its Put has failed, and
// is not seen before it is put again.
type late struct {
	*memory
	mu      sync.Mutex
	pending map[string]bool
	names   int
}

func (s *late) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	s.mu.Lock()
	if strings.Contains(name, "/points/") && s.pending[name] {
		delete(s.pending, name)
		data, err := io.ReadAll(io.NewSectionReader(content, 0, size))
		if err == nil && !slices.Equal(data, s.blobs[name+".late"]) {
			s.names++ // it is another manifest, since its segments have other names
		}
		s.blobs[name] = s.blobs[name+".late"]
		delete(s.blobs, name+".late")
	} else if strings.Contains(name, "/points/") && s.pending != nil {
		s.pending[name] = true
		s.mu.Unlock()
		return errors.Join(errors.New("connection reset"), s.memory.Put(ctx, name+".late", content, size))
	}
	s.mu.Unlock()
	return s.memory.Put(ctx, name, content, size)
}

func TestManifestThatAppearsLate(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.fill()
	r.mustSettle(t)
	store := &late{memory: r.memory, pending: map[string]bool{}}
	r.shipper.open = func(ctx context.Context) (*replica.Repository, error) { return replica.Open(ctx, store) }
	r.shipper.forget()
	r.filter.write(vmID, diskA, 0, noise(8, 3*disk.BlockSize))
	epoch := r.rollOver(t)
	if err := r.settle(t.Context()); err == nil {
		t.Fatal("the commit did not fail")
	}
	r.mustSettle(t)
	if store.names != 1 {
		t.Error("the second manifest was not another one: this tests nothing")
	}
	store.pending = nil
	r.filter.write(vmID, diskA, 0, noise(9, disk.BlockSize))
	r.rollOver(t)
	r.mustSettle(t)
	if r.verify(t) != 3 || r.shipper.newest.Predecessor.Epoch != epoch {
		t.Errorf("newest: %+v", r.shipper.newest.Manifest)
	}
}

// TestEqualRangesAreRecorded: a walk over blocks that are all the same leaves
// word of how far it came.
func TestEqualRangesAreRecorded(t *testing.T) {
	r := newRig(t, stateDir(t))
	r.filter.write(vmID, diskA, 0, noise(1, 200*disk.BlockSize))
	r.mustSettle(t)
	r.filter.loseLog(vmID)
	r.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Within: ".seg", Nth: 8})
	if err := r.settle(t.Context()); !errors.Is(err, blobstoretest.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	r.store.Heal()
	r.boot(t)
	r.filter.reads = 0
	r.mustSettle(t)
	if r.filter.reads > 150*disk.BlockSize {
		t.Errorf("%d bytes were read again", r.filter.reads)
	}
	point, err := r.shipper.repository.Newest(t.Context(), vmID)
	if err != nil {
		t.Fatal(err)
	}
	if d := point.Disk(diskA); len(d.Segments) != 0 || d.Blocks != 0 {
		t.Errorf("the point names %d segments with %d blocks: nothing had changed", len(d.Segments), d.Blocks)
	}
	r.verify(t)
}

func TestCoverage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const end = 60
		covered := map[disk.Block]bool{}
		c := &coverage{}
		ready := disk.Block(0)
		for range rapid.IntRange(0, 12).Draw(t, "segments") {
			x := disk.Extent{Start: disk.Block(rapid.IntRange(0, end).Draw(t, "start")), Count: rapid.Uint64Range(0, 20).Draw(t, "count")}
			for b := x.Start; b < x.End(); b++ {
				covered[b] = true
			}
			for _, f := range c.add([]finished{{covered: x}}) {
				if f.covered.Start > ready {
					t.Fatalf("a segment from block %d on comes after block %d", f.covered.Start, ready)
				}
				ready = max(ready, f.covered.End())
			}
			if c.position != ready || covered[c.position] {
				t.Fatalf("position %d, segments up to %d", c.position, ready)
			}
		}
		open := map[disk.Block]bool{}
		last := disk.Block(0)
		for i, gap := range c.gaps() {
			if gap.Count == 0 || i > 0 && gap.Start <= last {
				t.Fatalf("gaps %v", c.gaps())
			}
			last = gap.End()
			for b := gap.Start; b < min(gap.End(), 100); b++ {
				open[b] = true
			}
		}
		for b := range disk.Block(100) {
			if covered[b] == open[b] {
				t.Fatalf("block %d: covered %v, in a gap %v", b, covered[b], open[b])
			}
		}
	})
}

func TestCutBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all tracker.Extents
		next := disk.Block(0)
		for range rapid.IntRange(0, 20).Draw(t, "extents") {
			x := disk.Extent{Start: next + 1, Count: rapid.Uint64Range(1, 9).Draw(t, "count")}
			all, next = append(all, x), x.End()
		}
		var want, got []disk.Block
		for _, x := range all {
			for b := x.Start; b < x.End(); b++ {
				want = append(want, b)
			}
		}
		room := rapid.Uint64Range(1, 12).Draw(t, "room")
		for len(all) > 0 {
			var batch tracker.Extents
			batch, all = cutBatch(all, room)
			if n := batch.Blocks(); n > room || n < room && len(all) > 0 {
				t.Fatalf("a batch of %d blocks, room for %d", n, room)
			}
			for _, x := range batch {
				for b := x.Start; b < x.End(); b++ {
					got = append(got, b)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
