package recovery

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/segment"
)

const (
	// fetchSize is about how much one GET brings, in bytes: enough that its
	// round trip does not matter.
	fetchSize = 4 << 20
	// fetchGap is how many bytes that nobody wants are fetched rather than
	// making another GET.
	fetchGap = 64 << 10
)

// fetch is one GET: some frames that follow each other, and the blocks that are
// wanted of them.
type fetch struct {
	first, count int // frames
	mappings     []replica.Mapping
}

// write makes the temporary file of a disk and fills it.
func (r *restore) write(ctx context.Context, t *target) error {
	if err := t.create(r.root); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(r.options.Parallel)
	var readErr error
	for _, mappings := range t.blocks.BySegment() {
		ref := t.blocks.Segments[mappings[0].Segment]
		x, err := r.repository.ReadIndex(groupCtx, t.blocks.VM, t.blocks.Disk, ref)
		if err != nil {
			readErr = err
			break
		}
		blob := replica.SegmentBlob(t.blocks.VM, t.blocks.Disk, ref.Name)
		t.fetched.Add(ref.Size - ref.IndexOffset)
		for _, f := range plan(x, mappings) {
			group.Go(func() error { return r.fetch(groupCtx, t, blob, x, f) })
		}
	}
	// A failed GET cancels the others and the reading of indexes: it is the
	// cause, whatever else failed then.
	if err := group.Wait(); err != nil {
		return err
	}
	if readErr != nil {
		return readErr
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("syncing it: %w", err)
	}
	return nil
}

// plan divides what is wanted of a segment into GETs. mappings are in the order
// of the segment.
func plan(x *segment.Index, mappings []replica.Mapping) []fetch {
	var plan []fetch
	for _, m := range mappings {
		for m.Count > 0 {
			n := x.FrameOf(m.First)
			f := x.Frames[n]
			here := m
			here.Count = min(m.Count, uint64(f.First+uint32(f.Blocks)-m.First))
			plan = join(x, plan, n, here)
			m.Start, m.First, m.Count = m.Start+disk.Block(here.Count), m.First+uint32(here.Count), m.Count-here.Count
		}
	}
	return plan
}

// join adds blocks of frame n to the last GET, or to a new one if the frame is
// too far away or the GET large enough.
func join(x *segment.Index, plan []fetch, n int, m replica.Mapping) []fetch {
	if last := len(plan) - 1; last >= 0 {
		p := &plan[last]
		begin, end := x.Frames[p.first], x.Frames[p.first+p.count-1]
		stop := x.Frames[n].Offset + x.Frames[n].Stored
		if gap := int64(x.Frames[n].Offset) - int64(end.Offset+end.Stored); gap < fetchGap && stop-begin.Offset <= fetchSize {
			p.count = n - p.first + 1
			p.mappings = append(p.mappings, m)
			return plan
		}
	}
	return append(plan, fetch{first: n, count: 1, mappings: []replica.Mapping{m}})
}

// buffers are what a fetch and a verification work in.
type buffers struct{ stored, data []byte }

// buffers returns some that nobody uses; give them back to r.pool.
func (r *restore) buffers() *buffers {
	if b, ok := r.pool.Get().(*buffers); ok {
		return b
	}
	return new(buffers)
}

// fetch makes one GET and writes what it brought.
func (r *restore) fetch(ctx context.Context, t *target, blob string, x *segment.Index, f fetch) error {
	b := r.buffers()
	defer r.pool.Put(b)
	stored, err := segment.ReadFrames(ctx, r.repository.Store(), blob, x, f.first, f.count, b.stored)
	if err != nil {
		return err
	}
	b.stored = stored
	t.fetched.Add(int64(len(stored)))
	var written int64
	decoded := -1
	for _, m := range f.mappings {
		n := x.FrameOf(m.First)
		if n != decoded {
			data, err := r.decoder.Decode(x, n, x.Stored(stored, f.first, n), b.data)
			if err != nil {
				return &segment.DamageError{Blob: blob, Cause: err}
			}
			b.data, decoded = data, n
		}
		skip := int(m.First-x.Frames[n].First) * disk.BlockSize
		if err := t.writeBlocks(m.Start, b.data[skip:skip+int(m.Count)*disk.BlockSize]); err != nil {
			return err
		}
		written += int64(m.Count) * disk.BlockSize
	}
	r.advance(written, 0)
	return nil
}
