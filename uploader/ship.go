package uploader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/segment"
	"lifeboat/resync"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
	"lifeboat/uploader/api"
)

// shippedDisk is what was shipped of a disk for a point.
type shippedDisk struct {
	id     string
	table  *resync.Table
	point  replica.PointDisk
	stream *stream
	deltas []finished
}

// ship makes the recovery point of a sealed epoch. number is that of the walk
// that it closes, 0 for none.
func (s *shipper) ship(ctx context.Context, vm tracker.VM, e tracker.Epoch, number uint64) error {
	started := time.Now()
	defer s.takeChunk()()
	var w *walk
	if number != 0 {
		var err error
		if w, err = s.resumeWalk(ctx, vm, number); err != nil {
			return err
		}
		s.observer.closing(vm, s.newest.Manifest == nil)
	}
	if number != 0 && !w.complete(e) {
		return s.backend.RequireWalk(ctx, s.id, "the container lacks segments of the walk that was to be closed")
	}
	disks, err := s.shipDisks(ctx, e, w)
	if err != nil {
		return fmt.Errorf("ship epoch %d of VM %s: %w", e.Number, vm.Name, err)
	}
	m := &replica.Manifest{
		VM: s.id, Epoch: e.Number, Time: e.SealedAt, Consistency: replica.CrashConsistent, Walk: number, Writer: s.writer,
	}
	if s.newest.Manifest != nil {
		m.Predecessor = s.newest.Link()
	}
	cycle := &api.Cycle{Epoch: e.Number}
	for _, d := range disks {
		m.Disks = append(m.Disks, d.point)
		cycle.Blocks += d.point.Blocks
	}
	cycle.Bytes = m.Stored()
	if m.Generation, err = s.generation(ctx, m); err != nil {
		return err
	}
	point, ours, err := s.commit(ctx, m)
	if err != nil {
		return err
	}
	s.newest = point
	s.walking = nil
	cycle.Ended, cycle.Seconds = time.Now().UTC(), time.Since(started).Seconds()
	if ours {
		s.settle(ctx, disks)
	}
	s.observer.committed(vm, point, cycle, number != 0)
	return s.acknowledge(ctx, e.Number, number)
}

// complete tells whether the walk went over all of the epoch's disks.
func (w *walk) complete(e tracker.Epoch) bool {
	for _, d := range e.Disks {
		walked := w.disks[d.ID]
		if walked == nil || len(walked.gaps()) > 0 {
			return false
		}
	}
	return true
}

// commit puts the manifest. ours tells that the point is m. It may also be one
// that an earlier attempt put, and that appeared only now: then it has other
// segments and the same content.
func (s *shipper) commit(ctx context.Context, m *replica.Manifest) (point replica.Point, ours bool, err error) {
	point, err = s.repository.Commit(ctx, m)
	if err == nil {
		return point, true, nil
	}
	if _, ok := errors.AsType[*replica.DivergenceError](err); ok {
		if there, readErr := s.repository.Point(ctx, s.id, m.Epoch); readErr == nil && equivalent(there.Manifest, m) {
			return there, false, nil
		}
	}
	return replica.Point{}, false, err
}

// equivalent tells whether two manifests stand for the same state of the VM in
// the same chain. Equal disk checksums mean equal disks.
func equivalent(a, b *replica.Manifest) bool {
	if a.Epoch != b.Epoch || a.Predecessor != b.Predecessor || !a.Time.Equal(b.Time) || a.Walk != b.Walk || len(a.Disks) != len(b.Disks) {
		return false
	}
	same := true
	for i := range a.Disks {
		same = same && a.Disks[i].ID == b.Disks[i].ID && a.Disks[i].Path == b.Disks[i].Path &&
			a.Disks[i].Size == b.Disks[i].Size && a.Disks[i].Checksum == b.Disks[i].Checksum
	}
	return same
}

// generation returns the generation of the VM's description that holds for the
// manifest, having put a new one if a disk was renamed.
func (s *shipper) generation(ctx context.Context, m *replica.Manifest) (uint64, error) {
	next := *s.description
	next.Disks = nil
	same := len(s.description.Disks) == len(m.Disks)
	for i, d := range m.Disks {
		known := replica.VMDisk{ID: d.ID, Path: d.Path}
		for _, described := range s.description.Disks {
			if described.ID == d.ID {
				known.Format = described.Format
			}
		}
		next.Disks = append(next.Disks, known)
		same = same && s.description.Disks[i] == known
	}
	if same {
		return s.description.Generation, nil
	}
	next.Generation++
	next.Created = time.Now()
	if err := s.repository.PutVM(ctx, next); err != nil {
		return 0, err // if its reply was lost, the next attempt reads it
	}
	s.description = &next
	return next.Generation, nil
}

// shipDisks ships what the epoch changed on all disks. On return all of it is
// durable.
func (s *shipper) shipDisks(ctx context.Context, e tracker.Epoch, w *walk) ([]*shippedDisk, error) {
	f := &flight{transfer: s.transfer, repository: s.repository, vm: s.id}
	var disks []*shippedDisk
	var err error
	for _, d := range e.Disks {
		shipped := &shippedDisk{id: d.ID}
		if err = s.shipDisk(ctx, f, e, d, w, shipped); err != nil {
			err = fmt.Errorf("disk %s: %w", d.Path, err)
			break
		}
		disks = append(disks, shipped)
	}
	if err = f.wait(err); err != nil {
		return nil, err
	}
	for _, d := range disks {
		d.deltas = d.stream.take()
		for _, part := range d.deltas {
			d.point.Segments = append(d.point.Segments, part.ref)
			d.point.Blocks += part.blocks
		}
	}
	return disks, nil
}

func (s *shipper) shipDisk(ctx context.Context, f *flight, e tracker.Epoch, d tracker.EpochDisk, w *walk, shipped *shippedDisk) error {
	shipped.point = replica.PointDisk{ID: d.ID, Path: d.Path, Size: d.Size, Floor: d.Floor}
	var err error
	if w == nil {
		shipped.table, err = s.table(ctx, d.ID, 0)
	} else {
		walked := w.disks[d.ID]
		shipped.table = walked.table
		shipped.point.Floor = d.Size // see the comment of package replica
		shipped.point.Segments = append(shipped.point.Segments, walked.refs...)
		shipped.point.Blocks = walked.blocks
	}
	if err != nil {
		return err
	}
	preview, err := shipped.table.Preview(ctx, shipped.point.Floor)
	if err != nil {
		return err
	}
	part, err := s.nextPart(ctx, d.ID, e.Number)
	if err != nil {
		return err
	}
	shipped.stream = &stream{flight: f, part: part, target: s.sizes.segmentBytes, keepIndexes: s.sizes.keptIndexes, header: segment.Header{Kind: segment.Delta, Disk: d.ID, Epoch: e.Number}}
	defer shipped.stream.abandon()
	if err := s.shipChanged(ctx, shipped.stream, preview, e.Number, d.ID); err != nil {
		return err
	}
	if w != nil {
		// What the walk read beyond the end, before the disk was cut off there.
		end := disk.Block(disk.BlockCount(d.Size))
		for x, err := range shipped.table.NonZero(ctx, disk.Extent{Start: end, Count: uint64(endOfDisks - end)}) {
			if err == nil {
				err = shipped.stream.zero(ctx, x)
			}
			if err != nil {
				return err
			}
		}
	}
	shipped.point.Checksum = preview.Sum()
	return shipped.stream.close(ctx, 0)
}

// shipChanged ships the blocks that the epoch marked and that differ.
func (s *shipper) shipChanged(ctx context.Context, st *stream, preview *resync.Preview, epoch uint64, diskID string) error {
	changed, err := s.backend.Changed(ctx, s.id, epoch, diskID)
	if err != nil {
		return err
	}
	for len(changed) > 0 {
		var batch tracker.Extents
		batch, changed = cutBatch(changed, s.sizes.chunkBlocks)
		data := (*s.buffer)[:batch.Blocks()*disk.BlockSize]
		if err := control.ReadSealedExtents(ctx, s.backend, s.id, epoch, diskID, batch, data); err != nil {
			return err
		}
		for _, x := range batch {
			n := x.Count * disk.BlockSize
			if err := preview.Compare(x.Start, data[:n], &s.compared); err != nil {
				return err
			}
			if err := st.differing(ctx, &s.compared, data[:n]); err != nil {
				return err
			}
			data = data[n:]
		}
		if st.full() {
			if err := st.close(ctx, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutBatch cuts off extents of so many blocks, the last one perhaps in part. all
// is changed.
func cutBatch(all tracker.Extents, room uint64) (batch, rest tracker.Extents) {
	for i := range all {
		if all[i].Count < room {
			room -= all[i].Count
			continue
		}
		batch = append(append(batch, all[:i]...), disk.Extent{Start: all[i].Start, Count: room})
		all[i].Start += disk.Block(room)
		all[i].Count -= room
		if all[i].Count == 0 {
			i++
		}
		return batch, all[i:]
	}
	return all, nil
}

// settle brings the tables to the new point. If that fails, the point is there
// nevertheless, and the tables follow when they are needed.
func (s *shipper) settle(ctx context.Context, disks []*shippedDisk) {
	for _, d := range disks {
		if err := s.settleTable(ctx, d); err != nil {
			s.log.Warn("checksum table did not follow, and will later", "disk", d.point.Path, "error", err)
			s.dropTable(d.id)
		}
	}
}

func (s *shipper) settleTable(ctx context.Context, d *shippedDisk) error {
	for _, part := range d.deltas {
		if part.index == nil {
			return errors.New("there are too many segments to keep their indexes")
		}
	}
	t := d.table
	if err := t.Begin(resync.State{Epoch: s.newest.Epoch}); err != nil {
		return err
	}
	if err := t.Truncate(d.point.Floor); err != nil {
		return err
	}
	for _, part := range d.deltas {
		if err := t.Apply(part.index); err != nil {
			return err
		}
	}
	if t.Sum() != d.point.Checksum { // it stays dirty, and is counted anew
		return fmt.Errorf("its disk checksum is %s, the manifest's %s", t.Sum(), d.point.Checksum)
	}
	return t.Commit(ctx)
}
