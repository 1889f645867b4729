package segment

import (
	"fmt"
	"iter"
	"sort"

	"lifeboat/disk"
)

// endOfDisks is the end of the largest extent that a byte offset can address.
const endOfDisks disk.Block = 1 << 51

// Header tells what a segment belongs to.
type Header struct {
	Kind Kind
	// Disk is the disk's identity, 32 hexadecimal digits.
	Disk string
	// Epoch is the epoch that was open (walk) or ended (delta).
	Epoch uint64
	// Walk is the number of the walk; 0 for a delta.
	Walk uint64
}

// Run is a run of blocks that a segment speaks of.
type Run struct {
	disk.Extent
	// Data tells that the segment has the blocks' content; else they are zero.
	Data bool
	// First is the ordinal, among the data blocks, of the run's first block;
	// meaningless for a run of zeros.
	First uint32
}

// Codec tells how a frame is stored.
type Codec uint8

// The codecs.
const (
	Raw  Codec = 0 // as it is: compression did not pay
	Zstd Codec = 1 // one zstd frame
)

// Frame is a group of data blocks that is stored and read as one.
type Frame struct {
	// Offset is where the frame lies in the blob, Stored its length there.
	Offset, Stored uint32
	// First is the ordinal of its first data block.
	First uint32
	// CRC is the CRC-32C of the stored bytes.
	CRC uint32
	// Blocks is how many blocks it holds, 1 to FrameBlocks.
	Blocks uint8
	Codec  Codec
}

// Index is what a segment says of itself. It is not changed once it is made,
// and may be used concurrently.
type Index struct {
	Header
	// Covered is, for a walk, what it looked at to make this segment,
	// beginning where the segment before it ended. Blocks in there that are in
	// no run needed nothing. Empty for a delta.
	Covered disk.Extent
	// Runs ascend and do not overlap.
	Runs []Run
	// Frames and Sums are in the order of the data blocks.
	Frames []Frame
	Sums   []Checksum
}

// FrameOf returns which frame holds the data block of that ordinal.
func (x *Index) FrameOf(ordinal uint32) int {
	return sort.Search(len(x.Frames), func(i int) bool { return x.Frames[i].First > ordinal }) - 1
}

// SumsOf returns the checksums of a run, nil for a run of zeros.
func (x *Index) SumsOf(r Run) []Checksum {
	if !r.Data {
		return nil
	}
	return x.Sums[r.First : uint64(r.First)+r.Count]
}

// All yields every run with its checksums: nil for a run of zeros.
func (x *Index) All() iter.Seq2[disk.Extent, []Checksum] {
	return func(yield func(disk.Extent, []Checksum) bool) {
		for _, r := range x.Runs {
			if !yield(r.Extent, x.SumsOf(r)) {
				return
			}
		}
	}
}

// RawSize returns the bytes that the data blocks have, before compression.
func (x *Index) RawSize() int64 { return int64(len(x.Sums)) * disk.BlockSize }

// checkHeader holds a header to what every decoder may rely on.
func (h Header) check() error {
	switch {
	case h.Kind != Delta && h.Kind != Walk:
		return fmt.Errorf("segment of unknown %v", h.Kind)
	case h.Epoch == 0:
		return fmt.Errorf("segment of epoch 0; epochs count from 1")
	case h.Kind == Delta && h.Walk != 0:
		return fmt.Errorf("delta segment with the walk number %d", h.Walk)
	case h.Kind == Walk && h.Walk == 0:
		return fmt.Errorf("walk segment without a walk number")
	}
	var id [16]byte
	return unhexText("disk id", id[:], []byte(h.Disk))
}

// checkExtent refuses extents that no disk can have.
func checkExtent(e disk.Extent) error {
	if e.Start > endOfDisks || e.Count > uint64(endOfDisks-e.Start) {
		return fmt.Errorf("%d blocks from block %d on reach beyond the largest disk", e.Count, e.Start)
	}
	return nil
}

// contains tells whether inner lies within outer.
func contains(outer, inner disk.Extent) bool {
	return inner.Start >= outer.Start && inner.End() <= outer.End()
}
