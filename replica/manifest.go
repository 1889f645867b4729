package replica

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/replica/segment"
)

// Consistency tells what a recovery point promises of the software in the VM.
type Consistency string

// The kinds of recovery points.
const (
	CrashConsistent       Consistency = "crash-consistent"
	ApplicationConsistent Consistency = "application-consistent"
)

// Manifest describes a recovery point.
type Manifest struct {
	Format int    `json:"format"`
	VM     string `json:"vm"`
	// Generation is that of the VM's description that holds for this point.
	Generation uint64 `json:"generation"`
	Epoch      uint64 `json:"epoch"`
	// Predecessor links to the manifest before; zero for the first.
	Predecessor Link `json:"predecessor"`
	// Time is the instant of the rollover, in UTC.
	Time        time.Time   `json:"time"`
	Consistency Consistency `json:"consistency"`
	// Walk is the number of the walk that this point closes, 0 for none.
	Walk uint64 `json:"walk,omitempty"`
	// Writer is the random identity of the sidecar's run.
	Writer string      `json:"writer"`
	Disks  []PointDisk `json:"disks"`
}

// Link names a manifest and proves it.
type Link struct {
	Epoch uint64 `json:"epoch"`
	// SHA256 is that of the manifest's bytes.
	SHA256 segment.Hash `json:"sha256"`
}

// PointDisk describes a disk at a recovery point.
type PointDisk struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	// Size is the disk's size at the rollover, in bytes.
	Size int64 `json:"size"`
	// Floor is the lowest size that the disk had in the epoch, its start and
	// its end included, in bytes. Blocks that begin at Floor or later and are
	// in no segment of this manifest are zero, whatever older points say. It is
	// Size at a point that closes a walk: see the package comment.
	Floor int64 `json:"floor"`
	// Segments are what was shipped for this point: first those of walks, then
	// deltas; later ones override earlier ones.
	Segments []segment.Ref `json:"segments"`
	// Checksum is that of the whole disk at this point.
	Checksum segment.DiskSum `json:"checksum"`
	// Blocks counts the data blocks in the segments.
	Blocks uint64 `json:"blocks"`
}

// Disk returns the disk of that identity, nil if the point has none.
func (m *Manifest) Disk(id string) *PointDisk {
	i := slices.IndexFunc(m.Disks, func(d PointDisk) bool { return d.ID == id })
	if i < 0 {
		return nil
	}
	return &m.Disks[i]
}

// Size returns the size of all disks, in bytes.
func (m *Manifest) Size() int64 {
	var n int64
	for i := range m.Disks {
		n += m.Disks[i].Size
	}
	return n
}

// Stored returns the bytes of all segments that were shipped for the point.
func (m *Manifest) Stored() int64 {
	var n int64
	for i := range m.Disks {
		for _, s := range m.Disks[i].Segments {
			n += s.Size
		}
	}
	return n
}

// Encode returns the manifest's bytes; it refuses what Validate refuses.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return encodeDocument(m)
}

// DecodeManifest reads a manifest and checks all that can be known of it alone.
func DecodeManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := decodeDocument(data, m); err != nil {
		return nil, err
	}
	return m, m.Validate()
}

// Validate tells whether the manifest is one that may lie in a container.
func (m *Manifest) Validate() error {
	if m.Format != format {
		return fmt.Errorf("manifest: %w (%d)", ErrFormat, m.Format)
	}
	if err := m.validate(); err != nil {
		return fmt.Errorf("manifest of epoch %d: %w", m.Epoch, err)
	}
	return nil
}

func (m *Manifest) validate() error {
	switch {
	case !ValidID(m.VM):
		return fmt.Errorf("VM id %q is not 32 hexadecimal digits", m.VM)
	case m.Generation == 0:
		return errors.New("it names no generation of the VM")
	case m.Epoch == 0:
		return errors.New("epochs count from 1")
	case m.Predecessor.Epoch >= m.Epoch:
		return fmt.Errorf("its predecessor %d is not before it", m.Predecessor.Epoch)
	case (m.Predecessor.Epoch == 0) != m.Predecessor.SHA256.IsZero():
		return errors.New("epoch and SHA-256 of its predecessor do not belong together")
	case m.Time.IsZero() || m.Time.Location() != time.UTC:
		return errors.New("it has no time in UTC")
	case m.Consistency != CrashConsistent && m.Consistency != ApplicationConsistent:
		return fmt.Errorf("it is of the unknown kind %q", m.Consistency)
	case !ValidID(m.Writer):
		return fmt.Errorf("writer id %q is not 32 hexadecimal digits", m.Writer)
	case len(m.Disks) == 0:
		return errors.New("it has no disk")
	}
	ids, paths := map[string]bool{}, map[string]bool{}
	for i := range m.Disks {
		d := &m.Disks[i]
		if err := checkDisk(d.ID, d.Path, ids, paths); err != nil {
			return err
		}
		if err := d.validate(m.Epoch, m.Walk); err != nil {
			return fmt.Errorf("disk %s: %w", d.Path, err)
		}
	}
	return nil
}

// maxDiskSize leaves room for any arithmetic on offsets and blocks.
const maxDiskSize = 1 << 62

func (d *PointDisk) validate(epoch, walk uint64) error {
	if d.Size < 0 || d.Size > maxDiskSize {
		return fmt.Errorf("its size of %d bytes is impossible", d.Size)
	}
	if d.Floor < 0 || d.Floor > d.Size {
		return fmt.Errorf("its lowest size was %d bytes, but it has %d", d.Floor, d.Size)
	}
	if walk != 0 && d.Floor != d.Size {
		return fmt.Errorf("the point closes a walk, so its floor has to be its size of %d bytes, not %d", d.Size, d.Floor)
	}
	seen := make(map[string]bool, len(d.Segments))
	deltas := false
	for _, s := range d.Segments {
		if err := s.Validate(); err != nil {
			return err
		}
		from, _, ok := ParseSegmentName(s.Name)
		switch {
		case !ok:
			return fmt.Errorf("%q is not the name of a segment", s.Name)
		case from == 0 || from > epoch:
			return fmt.Errorf("segment %s is of a later epoch", s.Name)
		case seen[s.Name]:
			return fmt.Errorf("segment %s is named twice", s.Name)
		case walk == 0 && s.Kind == segment.Walk:
			return fmt.Errorf("segment %s is of a walk, but the point closes none", s.Name)
		case deltas && s.Kind == segment.Walk:
			return fmt.Errorf("segment %s of a walk comes after a delta", s.Name)
		}
		seen[s.Name] = true
		deltas = s.Kind == segment.Delta
	}
	if d.Blocks > uint64(len(d.Segments))*segment.MaxBlocks {
		return fmt.Errorf("%d blocks do not fit into %d segments", d.Blocks, len(d.Segments))
	}
	return nil
}
