package uploader

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/segment"
	"lifeboat/resync"
	"lifeboat/tracker/control"
)

// pieceBlocks is how much is added to a segment at once: small pieces use its
// room well.
const pieceBlocks = 256

// sizes are how much a shipper handles at once. Tests take small ones.
type sizes struct {
	// chunkBlocks is how much is read at once, at most control.MaxRead.
	chunkBlocks uint64
	// segmentBytes is from which size on a segment is closed.
	segmentBytes int64
	// recordBlocks is how far a walk goes over equal blocks before it records
	// that in a segment: so much is compared again after a kill, at most.
	recordBlocks uint64
	// absorbAt is how many segments of a walk are laid over the table at once:
	// each time costs syncs.
	absorbAt int
	// keptIndexes bounds the indexes that are kept until the manifest is
	// there, for each disk. Beyond it the table follows by reading them.
	keptIndexes int
}

func standardSizes() sizes {
	return sizes{
		chunkBlocks:  control.MaxRead / disk.BlockSize,
		segmentBytes: 32 << 20,
		recordBlocks: 4 << 30 / disk.BlockSize,
		absorbAt:     4,
		keptIndexes:  64,
	}
}

// finished is a segment that is durable in the container.
type finished struct {
	ref     segment.Ref
	index   *segment.Index // nil when it was let go to save memory
	blocks  uint64
	covered disk.Extent
	empty   bool
}

// stream turns the blocks of one disk, in ascending order, into segments and
// puts them. It is for one goroutine; the uploads run beside it.
type stream struct {
	flight *flight
	header segment.Header
	part   func() uint32 // numbers the segments
	target int64         // size in bytes from which on a segment is closed
	// keepIndexes bounds how many of the finished segments keep their index
	// in memory; 0 is no bound.
	keepIndexes int
	// from is, for a walk, where the extent begins that the segment being
	// built covers.
	from disk.Block

	buffer *segment.Writer // the segment that is being built, or nil
	closed int             // how many were closed
	mu     sync.Mutex
	done   []finished
}

// differing adds those blocks of data that a comparison found to differ.
func (s *stream) differing(ctx context.Context, c *resync.Comparison, data []byte) error {
	for i := 0; ; {
		first, count := c.Run(i)
		if count == 0 {
			return nil
		}
		count = min(count, pieceBlocks)
		i = first + count
		start := c.Start + disk.Block(first)
		piece := data[first*disk.BlockSize : min(i*disk.BlockSize, len(data))]
		err := s.add(ctx, start, func(w *segment.Writer) error { return w.Add(start, piece, c.Now[first:i]) })
		if err != nil {
			return err
		}
	}
}

// zero adds an extent of zeros.
func (s *stream) zero(ctx context.Context, x disk.Extent) error {
	return s.add(ctx, x.Start, func(w *segment.Writer) error { return w.AddZero(x) })
}

// add adds what begins at start to the segment, or to the next one if this one
// is full.
func (s *stream) add(ctx context.Context, start disk.Block, add func(*segment.Writer) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	err := add(s.buffer)
	if !errors.Is(err, segment.ErrFull) {
		return err
	}
	if err := s.close(ctx, start); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	return add(s.buffer)
}

// full tells that the segment has the size to be closed.
func (s *stream) full() bool { return s.buffer != nil && s.buffer.Len() >= s.target }

func (s *stream) begin(ctx context.Context) error {
	if s.buffer != nil {
		return nil
	}
	if err := s.flight.failure(); err != nil {
		return err
	}
	w, err := s.flight.transfer.buffer(ctx)
	if err != nil {
		return err
	}
	if err := w.Reset(s.header); err != nil {
		s.flight.transfer.release(w)
		return err
	}
	s.buffer = w
	return nil
}

// close ends the segment that is being built, if any, and puts it. A walk's
// segment covers all from where the one before ended up to end, and is made even
// if nothing in there differs.
func (s *stream) close(ctx context.Context, end disk.Block) error {
	covered := disk.Extent{}
	if s.header.Kind == segment.Walk {
		if end == s.from {
			return nil
		}
		if err := s.begin(ctx); err != nil {
			return err
		}
		covered = disk.Extent{Start: s.from, Count: uint64(end - s.from)}
		if err := s.buffer.Cover(covered); err != nil {
			return err
		}
	} else if s.buffer == nil || s.buffer.Empty() {
		return nil
	}
	empty := s.buffer.Empty()
	sealed, err := s.buffer.Finish(replica.SegmentName(s.header.Epoch, s.part()))
	if err != nil {
		return err
	}
	buffer := s.buffer
	s.buffer, s.from = nil, end
	s.closed++
	result := finished{ref: sealed.Ref, index: sealed.Index, blocks: uint64(len(sealed.Index.Sums)), covered: covered, empty: empty}
	if s.keepIndexes != 0 && s.closed > s.keepIndexes {
		result.index = nil
	}
	s.flight.put(ctx, s.header.Disk, buffer, sealed, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = append(s.done, result)
	})
	return nil
}

// abandon gives up the segment that is being built.
func (s *stream) abandon() {
	if s.buffer != nil {
		s.flight.transfer.release(s.buffer)
		s.buffer = nil
	}
}

// take returns what became durable since the last call, in the order of the
// segments' names.
func (s *stream) take() []finished {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.done
	s.done = nil
	slices.SortFunc(done, func(a, b finished) int { return strings.Compare(a.ref.Name, b.ref.Name) })
	return done
}

// waiting tells how many segments are durable and not taken yet.
func (s *stream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.done)
}
