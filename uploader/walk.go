package uploader

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/segment"
	"lifeboat/resync"
	"lifeboat/tracker"
)

const (
	// endOfDisks is a block that no disk reaches. A walk covers everything up
	// to it: what the replica has beyond the disk's end has to become zero.
	endOfDisks disk.Block = 1 << 51
	// listEach is up to how many epochs are listed one by one.
	listEach = 64
	// findParallel bounds the indexes that are read, and held, at once.
	findParallel = 16
)

// walk is what is known of a walk under way: what the container holds of it.
type walk struct {
	number uint64
	disks  map[string]*walkedDisk
}

// walkedDisk is how far a walk is with a disk.
type walkedDisk struct {
	coverage
	// table has, over the newest point, the segments in refs, in their order.
	table *resync.Table
	// claimed is up to where the table said to have the walk's segments when
	// it was opened.
	claimed disk.Block
	refs    []segment.Ref
	blocks  uint64
}

// resumeWalk returns what the container holds of the walk of that number, and
// has it laid over the tables.
func (s *shipper) resumeWalk(ctx context.Context, vm tracker.VM, number uint64) (*walk, error) {
	if s.walking != nil && s.walking.number == number {
		return s.walking, nil
	}
	w := &walk{number: number, disks: map[string]*walkedDisk{}}
	for _, d := range vm.Disks {
		walked, err := s.resumeDisk(ctx, d.ID, number)
		if err != nil {
			return nil, err
		}
		w.disks[d.ID] = walked
	}
	s.walking = w
	return w, nil
}

func (s *shipper) resumeDisk(ctx context.Context, diskID string, number uint64) (*walkedDisk, error) {
	for {
		t, err := s.table(ctx, diskID, number)
		if err != nil {
			return nil, err
		}
		walked := &walkedDisk{table: t}
		if state := t.State(); state.Walk == number {
			walked.claimed = state.Position
		}
		err = s.eachWalked(ctx, diskID, number, func(found []finished) error {
			return s.absorb(ctx, diskID, walked, number, found)
		})
		if err != nil {
			return nil, err
		}
		if walked.position >= walked.claimed {
			return walked, nil
		}
		// The container lacks segments whose checksums the table has: what
		// they carried would never be shipped.
		s.log.Warn("segments of an unfinished walk are lost or damaged", "disk", diskID, "from", walked.position, "to", walked.claimed)
		if err := s.removeTable(diskID); err != nil {
			return nil, err
		}
	}
}

// absorb takes durable segments of the walk over into what is known of it, and
// lays them over the table as far as they are in order.
func (s *shipper) absorb(ctx context.Context, diskID string, walked *walkedDisk, number uint64, found []finished) error {
	ready := walked.add(found)
	if len(ready) == 0 {
		return nil
	}
	t := walked.table
	state := resync.State{Epoch: s.newestEpoch(), Walk: number, Position: max(walked.position, walked.claimed)}
	err := t.Begin(state)
	for _, f := range ready {
		if err == nil {
			err = t.Apply(f.index)
		}
		if !f.empty {
			walked.refs = append(walked.refs, f.ref)
			walked.blocks += f.blocks
		}
	}
	if err == nil {
		err = t.Commit(ctx)
	}
	if err != nil {
		s.dropTable(diskID)
	}
	return err
}

// eachWalked hands over, batch by batch and in the order of their names, the
// segments that the walk of that number put into the container. Damaged ones are
// left out: what they covered is walked again.
func (s *shipper) eachWalked(ctx context.Context, diskID string, number uint64, take func([]finished) error) error {
	listed, err := s.unnamedSegments(ctx, diskID)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(listed, findParallel) {
		found := make([]finished, len(batch))
		group, ctx := errgroup.WithContext(ctx)
		for i, info := range batch {
			group.Go(func() error {
				x, ref, err := s.repository.FindIndex(ctx, s.id, diskID, info)
				if _, ok := errors.AsType[*segment.DamageError](err); ok {
					s.log.Warn("damaged segment of an unfinished walk is passed over", "disk", diskID, "segment", info.Name, "error", err)
					return nil
				}
				if err == nil {
					found[i] = finished{ref: ref, index: x, blocks: uint64(len(x.Sums)), covered: x.Covered, empty: len(x.Runs) == 0}
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(f finished) bool {
			return f.index == nil || f.index.Kind != segment.Walk || f.index.Walk != number
		})
		if err := take(found); err != nil {
			return err
		}
	}
	return nil
}

// unnamedSegments lists the segments of the epochs after the newest point.
func (s *shipper) unnamedSegments(ctx context.Context, diskID string) ([]replica.SegmentInfo, error) {
	first, last := s.newestEpoch()+1, s.oldEpochs
	if last < first {
		return nil, nil
	}
	if last-first < listEach {
		var all []replica.SegmentInfo
		for epoch := first; epoch <= last; epoch++ {
			listed, err := s.repository.Segments(ctx, s.id, diskID, epoch)
			if err != nil {
				return nil, err
			}
			all = append(all, listed...)
		}
		return all, nil
	}
	all, err := s.repository.Segments(ctx, s.id, diskID, 0)
	return slices.DeleteFunc(all, func(i replica.SegmentInfo) bool { return i.Epoch < first }), err
}

// walk walks all disks, as far as that was not done before, and rolls over.
func (s *shipper) walk(ctx context.Context, vm tracker.VM) error {
	defer s.takeChunk()()
	number := vm.Walk.Number
	w, err := s.resumeWalk(ctx, vm, number)
	if err != nil {
		return err
	}
	initial := s.newest.Manifest == nil
	var before, total int64
	for _, d := range vm.Disks {
		total += d.Size
	}
	for _, d := range vm.Disks {
		progress := func(position disk.Block) {
			s.observer.walked(vm, initial, before+min(int64(position)*disk.BlockSize, d.Size), total)
		}
		progress(w.disks[d.ID].position)
		if err := s.walkDisk(ctx, vm, d.ID, w.disks[d.ID], progress); err != nil {
			return fmt.Errorf("walk disk %s: %w", d.Path, err)
		}
		before += d.Size
	}
	_, err = s.backend.Rollover(ctx, s.id, number)
	return err
}

func (s *shipper) walkDisk(ctx context.Context, vm tracker.VM, diskID string, walked *walkedDisk, progress func(disk.Block)) error {
	gaps := walked.gaps()
	if len(gaps) == 0 {
		return nil
	}
	part, err := s.nextPart(ctx, diskID, vm.Open)
	if err != nil {
		return err
	}
	f := &flight{transfer: s.transfer, repository: s.repository, vm: s.id}
	st := &stream{flight: f, part: part, target: s.sizes.segmentBytes, header: segment.Header{Kind: segment.Walk, Disk: diskID, Epoch: vm.Open, Walk: vm.Walk.Number}}
	absorb := func() error {
		found := st.take()
		if len(found) > 0 {
			s.observer.shipped()
		}
		return s.absorb(ctx, diskID, walked, vm.Walk.Number, found)
	}
	for _, gap := range gaps {
		err = s.walkGap(ctx, st, diskID, walked.table, gap, func(position disk.Block) error {
			progress(position)
			if st.waiting() < s.sizes.absorbAt {
				return nil
			}
			return absorb()
		})
		if err != nil {
			break
		}
	}
	st.abandon()
	err = f.wait(err)
	if err != nil && s.walking == nil {
		return err // the table was dropped
	}
	return errors.Join(err, absorb())
}

// walkGap ships what differs in an extent of a disk. reached is called between
// reads.
func (s *shipper) walkGap(ctx context.Context, st *stream, diskID string, t *resync.Table, gap disk.Extent, reached func(disk.Block) error) error {
	st.from = gap.Start
	position := gap.Start
	for position < gap.End() {
		x, err := s.backend.Allocated(ctx, s.id, diskID, position)
		if err != nil {
			return err
		}
		data := within(x, disk.Extent{Start: position, Count: uint64(gap.End() - position)})
		hole := disk.Extent{Start: position, Count: uint64(data.Start - position)}
		for zero, err := range t.NonZero(ctx, hole) {
			if err == nil {
				err = st.zero(ctx, zero)
			}
			if err != nil {
				return err
			}
		}
		for position = data.Start; position < data.End(); {
			chunk := (*s.buffer)[:min(uint64(data.End()-position), s.sizes.chunkBlocks)*disk.BlockSize]
			if err := s.backend.ReadDisk(ctx, s.id, diskID, chunk, position.Offset()); err != nil {
				return err
			}
			if err := t.Compare(position, chunk, &s.compared); err != nil {
				return err
			}
			if err := st.differing(ctx, &s.compared, chunk); err != nil {
				return err
			}
			position += disk.Block(len(chunk) / disk.BlockSize)
			if st.full() || uint64(position-st.from) >= s.sizes.recordBlocks {
				if err := st.close(ctx, position); err != nil {
					return err
				}
			}
			if err := reached(position); err != nil {
				return err
			}
		}
	}
	return st.close(ctx, gap.End())
}

// within returns the part of x that lies within outer, or the empty extent at
// outer's end if there is none.
func within(x, outer disk.Extent) disk.Extent {
	if x.Count == 0 || x.Start >= outer.End() {
		return disk.Extent{Start: outer.End()}
	}
	start, end := max(x.Start, outer.Start), min(x.End(), outer.End())
	return disk.Extent{Start: start, Count: uint64(end - start)}
}

// takeChunk takes a buffer to read into, for as long as the shipper ships: those
// of hundreds of VMs that have nothing to do would be dear to keep.
func (s *shipper) takeChunk() (giveBack func()) {
	s.buffer = s.transfer.chunk(int(s.sizes.chunkBlocks) * disk.BlockSize)
	return func() {
		s.transfer.chunks.Put(s.buffer)
		s.buffer = nil
	}
}
