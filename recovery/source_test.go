package recovery

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/segment"
	"lifeboat/resync"
)

// failer is what testing.T, testing.B and rapid.T have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

const testVM = "0123456789abcdef0123456789abcdef"

// sourceDisk is a disk with a perfect change log.
type sourceDisk struct {
	id, path string
	content  []byte // its length is the size
	floor    int64
	marked   map[disk.Block]bool
	table    *resync.Table
	walked   []segment.Ref
	walkEnd  disk.Block
}

func (d *sourceDisk) mark(offset, length int64) {
	e := disk.ExtentOf(offset, length)
	for b := e.Start; b < e.End(); b++ {
		d.marked[b] = true
	}
}

func (d *sourceDisk) write(offset int64, data []byte) {
	d.mark(offset, int64(len(data)))
	if end := offset + int64(len(data)); end > int64(len(d.content)) {
		d.content = append(d.content, make([]byte, end-int64(len(d.content)))...)
	}
	copy(d.content[offset:], data)
}

// resize truncates as the tracker does: while a walk is required, what is cut
// off is marked.
func (d *sourceDisk) resize(size int64, walking bool) {
	old := int64(len(d.content))
	d.floor = min(d.floor, size)
	if size < old {
		if walking {
			d.mark(size, old-size)
		}
		if size%disk.BlockSize != 0 {
			d.mark(size, 1)
		}
		d.content = d.content[:size:size]
		return
	}
	d.content = append(d.content, make([]byte, size-old)...)
}

// source is a VM and what an uploader would do for it, in the plainest way.
type source struct {
	t          failer
	folder     string
	store      *memory
	repository *replica.Repository
	vm         replica.VM
	hasher     *segment.Hasher
	disks      []*sourceDisk
	writer     *segment.Writer
	epoch      uint64
	link       replica.Link
	walk       uint64 // number of the walk that is required, 0 for none
	walks      uint64
	points     map[uint64][][]byte // per epoch, the content of each disk
	clock      time.Time
}

func newSource(t failer, folder string, sizes ...int64) *source {
	t.Helper()
	s := &source{
		t: t, folder: folder, store: newMemory(), epoch: 1, walk: 1, walks: 1,
		points: map[uint64][][]byte{}, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	s.vm = replica.VM{ID: testVM, Name: "guest", Generation: 1, Key: segment.Key{1, 2}, Created: s.clock}
	var err error
	if s.repository, err = replica.Create(context.Background(), s.store); err != nil {
		t.Fatal(err)
	}
	if s.writer, err = segment.NewWriter(); err != nil {
		t.Fatal(err)
	}
	s.hasher = segment.NewHasher(s.vm.Key)
	for i, size := range sizes {
		d := &sourceDisk{
			id: fmt.Sprintf("%032x", i+1), path: fmt.Sprintf("folder%d/disk%d.img", i, i),
			content: make([]byte, size), floor: size, marked: map[disk.Block]bool{},
		}
		id := resync.Identity{VM: testVM, Disk: d.id}
		if d.table, err = resync.Create(filepath.Join(folder, d.id), id, s.hasher); err != nil {
			t.Fatal(err)
		}
		s.disks = append(s.disks, d)
		s.vm.Disks = append(s.vm.Disks, replica.VMDisk{ID: d.id, Path: d.path, Format: "raw"})
	}
	if err := s.repository.PutVM(context.Background(), s.vm); err != nil {
		t.Fatal(err)
	}
	return s
}

// requireWalk voids the change logs.
func (s *source) requireWalk() {
	s.walks++
	s.walk = s.walks
	for _, d := range s.disks {
		d.walkEnd = 0
	}
}

// ship finishes the writer's segment and puts it.
func (s *source) ship(d *sourceDisk) segment.Sealed {
	s.t.Helper()
	part, err := s.repository.NextPart(context.Background(), testVM, d.id, s.epoch)
	if err != nil {
		s.t.Fatal(err)
	}
	sealed, err := s.writer.Finish(replica.SegmentName(s.epoch, part))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.repository.PutSegment(context.Background(), testVM, d.id, sealed); err != nil {
		s.t.Fatal(err)
	}
	return sealed
}

// read returns the disk's content of the extent, as far as there is any.
func (d *sourceDisk) read(e disk.Extent) []byte {
	size := int64(len(d.content))
	return d.content[min(size, e.Start.Offset()):min(size, e.End().Offset())]
}

// walkOn walks some blocks of a disk further, as a segment of its own.
func (s *source) walkOn(d *sourceDisk, blocks uint64) {
	s.t.Helper()
	ctx := context.Background()
	covered := disk.Extent{Start: d.walkEnd, Count: blocks}
	if err := s.writer.Reset(segment.Header{Kind: segment.Walk, Disk: d.id, Epoch: s.epoch, Walk: s.walk}); err != nil {
		s.t.Fatal(err)
	}
	if data := d.read(covered); len(data) > 0 {
		var c resync.Comparison
		if err := d.table.Compare(covered.Start, data, &c); err != nil {
			s.t.Fatal(err)
		}
		s.addRuns(&c, data)
	}
	read := disk.Block(disk.BlockCount(int64(len(d.content))))
	if beyond := max(read, covered.Start); beyond < covered.End() {
		for e, err := range d.table.NonZero(ctx, disk.Extent{Start: beyond, Count: uint64(covered.End() - beyond)}) {
			if err == nil {
				err = s.writer.AddZero(e)
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if err := s.writer.Cover(covered); err != nil {
		s.t.Fatal(err)
	}
	sealed := s.ship(d)
	d.walked = append(d.walked, sealed.Ref)
	d.walkEnd = covered.End()
	s.change(d, resync.State{Epoch: s.link.Epoch, Walk: s.walk, Position: d.walkEnd}, func() error {
		return d.table.Apply(sealed.Index)
	})
}

func (s *source) addRuns(c *resync.Comparison, data []byte) {
	s.t.Helper()
	for i, n := c.Run(0); n > 0; i, n = c.Run(i + n) {
		piece := data[i*disk.BlockSize : min(len(data), (i+n)*disk.BlockSize)]
		if err := s.writer.Add(c.Start+disk.Block(i), piece, c.Now[i:i+n]); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *source) change(d *sourceDisk, target resync.State, apply func() error) {
	s.t.Helper()
	err := d.table.Begin(target)
	if err == nil {
		err = apply()
	}
	if err == nil {
		err = d.table.Commit(context.Background())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// cut ends the epoch and makes a recovery point of it.
func (s *source) cut() {
	s.t.Helper()
	ctx := context.Background()
	m := &replica.Manifest{
		VM: testVM, Generation: 1, Epoch: s.epoch, Predecessor: s.link, Time: s.clock,
		Consistency: replica.CrashConsistent, Walk: s.walk, Writer: testVM,
	}
	indexes := make([]*segment.Index, len(s.disks))
	for i, d := range s.disks {
		point := replica.PointDisk{ID: d.id, Path: d.path, Size: int64(len(d.content)), Floor: d.floor}
		if s.walk != 0 {
			s.walkOn(d, 1<<20) // to the end, whatever was walked before
			point.Floor = point.Size
		}
		point.Segments = d.walked
		preview, err := d.table.Preview(ctx, point.Floor)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := s.writer.Reset(segment.Header{Kind: segment.Delta, Disk: d.id, Epoch: s.epoch}); err != nil {
			s.t.Fatal(err)
		}
		var c resync.Comparison
		for b := disk.Block(0); b.Offset() < point.Size; b++ {
			if !d.marked[b] {
				continue
			}
			data := d.read(disk.Extent{Start: b, Count: 1})
			if err := preview.Compare(b, data, &c); err != nil {
				s.t.Fatal(err)
			}
			s.addRuns(&c, data)
		}
		if !s.writer.Empty() {
			sealed := s.ship(d)
			indexes[i] = sealed.Index
			point.Segments = append(point.Segments, sealed.Ref)
		}
		point.Checksum = preview.Sum()
		m.Disks = append(m.Disks, point)
	}
	committed, err := s.repository.Commit(ctx, m)
	if err != nil {
		s.t.Fatal(err)
	}
	var contents [][]byte
	for i, d := range s.disks {
		s.change(d, resync.State{Epoch: s.epoch}, func() error {
			if err := d.table.Truncate(m.Disks[i].Floor); err != nil || indexes[i] == nil {
				return err
			}
			return d.table.Apply(indexes[i])
		})
		if d.table.Sum() != m.Disks[i].Checksum {
			s.t.Fatalf("epoch %d: the table sums up to %s, the manifest has %s", s.epoch, d.table.Sum(), m.Disks[i].Checksum)
		}
		contents = append(contents, bytes.Clone(d.content))
		d.marked, d.floor, d.walked, d.walkEnd = map[disk.Block]bool{}, int64(len(d.content)), nil, 0
	}
	s.points[s.epoch] = contents
	s.link, s.walk = committed.Link(), 0
	s.epoch++
	s.clock = s.clock.Add(time.Minute)
}

// close closes the tables.
func (s *source) close() {
	s.t.Helper()
	for _, d := range s.disks {
		if err := d.table.Close(); err != nil {
			s.t.Fatal(err)
		}
	}
}
