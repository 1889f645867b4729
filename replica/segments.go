package replica

import (
	"context"
	"fmt"
	"strings"

	"lifeboat/replica/segment"
)

// PutSegment puts a finished segment under the name of its reference. If that
// name is taken, the error matches blobstore.ErrExists: seal it under another.
func (r *Repository) PutSegment(ctx context.Context, vm, diskID string, sealed segment.Sealed) error {
	if _, _, ok := ParseSegmentName(sealed.Ref.Name); !ok {
		return fmt.Errorf("shipping a segment: %q is not the name of one", sealed.Ref.Name)
	}
	if sealed.Index.Disk != diskID {
		return fmt.Errorf("shipping segment %s: it is of disk %s, not %s", sealed.Ref.Name, sealed.Index.Disk, diskID)
	}
	if err := put(ctx, r.store, SegmentBlob(vm, diskID, sealed.Ref.Name), sealed.Content); err != nil {
		return fmt.Errorf("shipping segment %s of disk %s: %w", sealed.Ref.Name, diskID, err)
	}
	return nil
}

// ReadIndex reads and proves the index of a segment that a manifest names.
func (r *Repository) ReadIndex(ctx context.Context, vm, diskID string, ref segment.Ref) (*segment.Index, error) {
	blob := SegmentBlob(vm, diskID, ref.Name)
	x, err := segment.ReadIndex(ctx, r.store, blob, ref)
	if err == nil && x.Disk != diskID {
		return nil, &segment.DamageError{Blob: blob, Cause: fmt.Errorf("it is of disk %s", x.Disk)}
	}
	return x, err
}

// SegmentInfo is a segment as a listing shows it.
type SegmentInfo struct {
	Name  string
	Epoch uint64
	Part  uint32
	Size  int64
}

// Segments lists the segments of a disk that carry the epoch's number, in the
// order of their parts, whether a manifest names them or not. Epoch 0 lists
// those of all epochs.
func (r *Repository) Segments(ctx context.Context, vm, diskID string, epoch uint64) ([]SegmentInfo, error) {
	folder := diskPrefix(vm, diskID)
	prefix := folder
	if epoch != 0 {
		prefix += fmt.Sprintf("%016x-", epoch)
	}
	var found []SegmentInfo
	for info, err := range r.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("listing the segments of disk %s: %w", diskID, err)
		}
		s := SegmentInfo{Name: strings.TrimPrefix(info.Name, folder), Size: info.Size}
		var ok bool
		if s.Epoch, s.Part, ok = ParseSegmentName(s.Name); ok {
			found = append(found, s)
		}
	}
	return found, nil
}

// NextPart returns a part number that no segment of the disk and epoch has,
// higher than all of them.
func (r *Repository) NextPart(ctx context.Context, vm, diskID string, epoch uint64) (uint32, error) {
	segments, err := r.Segments(ctx, vm, diskID, epoch)
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	return segments[len(segments)-1].Part + 1, nil
}

// FindIndex reads the index of a listed segment that no manifest need name, and
// returns the reference by which a manifest can.
func (r *Repository) FindIndex(ctx context.Context, vm, diskID string, info SegmentInfo) (*segment.Index, segment.Ref, error) {
	blob := SegmentBlob(vm, diskID, info.Name)
	x, ref, err := segment.FindIndex(ctx, r.store, blob, info.Name, info.Size)
	if err == nil && (x.Disk != diskID || x.Epoch != info.Epoch) {
		err = &segment.DamageError{Blob: blob, Cause: fmt.Errorf("it is of epoch %d of disk %s", x.Epoch, x.Disk)}
	}
	return x, ref, err
}
