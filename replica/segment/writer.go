package segment

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"lifeboat/disk"
)

// ErrFull tells that what was to be added does not fit into the segment any
// more; nothing of it was added. Finish this one and begin another.
var ErrFull = errors.New("segment is full")

// errNotBegun tells that Reset was not called.
var errNotBegun = errors.New("adding to a segment: none was begun")

// Writer builds one segment after the other in one buffer. It is not for
// concurrent use.
type Writer struct {
	encoder *zstd.Encoder
	content []byte // header and finished frames
	raw     []byte // blocks of the frame that is being filled
	index   *Index // nil before Reset and after Finish
	end     disk.Block
}

// Sealed is a finished segment.
type Sealed struct {
	// Content is the blob. It belongs to the Writer and is valid until its
	// next Reset.
	Content []byte
	Ref     Ref
	Index   *Index
}

// NewWriter returns a Writer; Reset it before use.
func NewWriter() (*Writer, error) {
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), // the frame table has a checksum
		zstd.WithWindowSize(FrameBlocks*disk.BlockSize))
	if err != nil {
		return nil, fmt.Errorf("making a zstd encoder: %w", err)
	}
	return &Writer{encoder: encoder, raw: make([]byte, 0, FrameBlocks*disk.BlockSize)}, nil
}

// Reset begins a new segment and gives up the last one.
func (w *Writer) Reset(h Header) error {
	if err := h.check(); err != nil {
		return err
	}
	w.content = appendHeader(w.content[:0])
	w.raw = w.raw[:0]
	w.index = &Index{Header: h}
	w.end = 0
	return nil
}

// Add adds the blocks from start on. data is whole blocks, of which only the
// last may be short (the last of a disk; zeros are added to it); sums has the
// checksum of each, by which blocks of zeros become a run without data. What is
// added ascends: start is not before the end of what was added last.
//
// ErrFull tells that there is no room for all of it. A segment takes at least
// 16 MiB of anything; pieces of a MiB use it well.
func (w *Writer) Add(start disk.Block, data []byte, sums []Checksum) error {
	extent := disk.Extent{Start: start, Count: uint64(len(sums))}
	if disk.BlockCount(int64(len(data))) != extent.Count {
		return fmt.Errorf("adding to a segment: %d bytes and %d checksums do not match", len(data), len(sums))
	}
	if err := w.checkOrder(extent); err != nil {
		return err
	}
	blocks := 0
	for i := range sums {
		if !sums[i].IsZero() {
			blocks++
		}
	}
	// In the worst case every block is a run of its own.
	if len(w.index.Sums)+blocks > MaxBlocks || len(w.index.Runs)+len(sums) > MaxRuns ||
		w.sizeBound(len(sums), blocks) > MaxSize {
		return ErrFull
	}
	for i := range sums {
		block := start + disk.Block(i)
		if sums[i].IsZero() {
			w.extend(disk.Extent{Start: block, Count: 1}, false)
			continue
		}
		w.extend(disk.Extent{Start: block, Count: 1}, true)
		piece := data[i*disk.BlockSize : min((i+1)*disk.BlockSize, len(data))]
		w.index.Sums = append(w.index.Sums, sums[i])
		w.raw = append(w.raw, piece...)
		w.raw = w.raw[:len(w.raw)+disk.BlockSize-len(piece)]
		clear(w.raw[len(w.raw)-disk.BlockSize+len(piece):])
		if len(w.raw) == cap(w.raw) {
			w.flushFrame()
		}
	}
	return nil
}

// AddZero adds a run of blocks that are zero.
func (w *Writer) AddZero(extent disk.Extent) error {
	if extent.Count == 0 {
		return nil
	}
	if err := w.checkOrder(extent); err != nil {
		return err
	}
	if len(w.index.Runs) == MaxRuns || w.sizeBound(1, 0) > MaxSize {
		return ErrFull
	}
	w.extend(extent, false)
	return nil
}

// Cover tells what the walk looked at to make this segment, with all that was
// added to it.
func (w *Writer) Cover(extent disk.Extent) error {
	if w.index == nil {
		return errNotBegun
	}
	if w.index.Kind != Walk {
		return fmt.Errorf("a %v segment covers nothing", w.index.Kind)
	}
	if err := checkExtent(extent); err != nil {
		return err
	}
	w.index.Covered = extent
	return nil
}

// Len returns about how many bytes the segment would have if it were finished
// now; compression can make it less, not more.
func (w *Writer) Len() int64 {
	if w.index == nil {
		return 0
	}
	return w.sizeBound(0, 0)
}

// Empty tells that nothing was added.
func (w *Writer) Empty() bool { return w.index == nil || len(w.index.Runs) == 0 }

// Finish ends the segment and gives it its name below the folder of its disk.
func (w *Writer) Finish(name string) (Sealed, error) {
	x := w.index
	if x == nil {
		return Sealed{}, errNotBegun
	}
	if x.Kind == Walk {
		for _, r := range x.Runs {
			if !contains(x.Covered, r.Extent) {
				return Sealed{}, fmt.Errorf("finishing segment %s: block %d was not covered by the walk", name, r.Start)
			}
		}
	}
	w.flushFrame()
	offset := len(w.content)
	var err error
	if w.content, err = appendIndex(w.content, x); err != nil {
		return Sealed{}, fmt.Errorf("finishing segment %s: %w", name, err)
	}
	w.index = nil
	end := len(w.content)
	w.content = appendFooter(w.content, footer{
		indexOffset: int64(offset),
		indexLength: int64(end - offset),
		index:       sha256.Sum256(w.content[offset:end]),
	})
	return Sealed{
		Content: w.content,
		Index:   x,
		Ref: Ref{
			Name: name, Kind: x.Kind, Size: int64(len(w.content)),
			IndexOffset: int64(offset), Footer: sha256.Sum256(w.content[end:]),
		},
	}, nil
}

// checkOrder refuses what does not ascend.
func (w *Writer) checkOrder(extent disk.Extent) error {
	if w.index == nil {
		return errNotBegun
	}
	if err := checkExtent(extent); err != nil {
		return fmt.Errorf("adding to a segment: %w", err)
	}
	if extent.Start < w.end {
		return fmt.Errorf("adding to a segment: block %d comes after block %d, but was added later", w.end-1, extent.Start)
	}
	return nil
}

// extend lengthens the last run or begins another.
func (w *Writer) extend(extent disk.Extent, data bool) {
	runs := w.index.Runs
	if last := len(runs) - 1; last >= 0 && runs[last].Data == data && runs[last].End() == extent.Start {
		runs[last].Count += extent.Count
	} else {
		run := Run{Extent: extent, Data: data}
		if data {
			run.First = uint32(len(w.index.Sums))
		}
		w.index.Runs = append(runs, run)
	}
	w.end = extent.End()
}

// flushFrame compresses the collected blocks, or stores them as they are when
// that saves less than a sixteenth: every reader would pay for it.
func (w *Writer) flushFrame() {
	if len(w.raw) == 0 {
		return
	}
	offset := len(w.content)
	blocks := len(w.raw) / disk.BlockSize
	codec := Zstd
	w.content = w.encoder.EncodeAll(w.raw, w.content)
	if len(w.content)-offset > len(w.raw)-len(w.raw)/16 {
		codec = Raw
		w.content = append(w.content[:offset], w.raw...)
	}
	w.index.Frames = append(w.index.Frames, Frame{
		Offset: uint32(offset),
		Stored: uint32(len(w.content) - offset),
		First:  uint32(len(w.index.Sums) - blocks),
		CRC:    crcOf(w.content[offset:]),
		Blocks: uint8(blocks),
		Codec:  codec,
	})
	w.raw = w.raw[:0]
}

// sizeBound returns an upper bound of the segment's size if so many runs and
// data blocks were added.
func (w *Writer) sizeBound(runs, blocks int) int64 {
	x := w.index
	pending := len(w.raw)/disk.BlockSize + blocks
	frames := len(x.Frames) + (pending+FrameBlocks-1)/FrameBlocks
	return int64(len(w.content)) + int64(pending)*disk.BlockSize +
		indexFixed + int64(frames)*frameEntry +
		int64(len(x.Sums)+blocks)*16 + int64(len(x.Runs)+runs)*runBound + FooterSize
}
