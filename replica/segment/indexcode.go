package segment

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lifeboat/disk"
)

const (
	indexFixed = 64
	frameEntry = 12
	// runBound is the most that a run takes in the index.
	runBound = 2 * binary.MaxVarintLen64
)

// appendIndex appends the encoded index to dst.
func appendIndex(dst []byte, x *Index) ([]byte, error) {
	le := binary.LittleEndian
	var id [16]byte
	if err := unhexText("disk id", id[:], []byte(x.Disk)); err != nil {
		return dst, err
	}
	dst = append(dst, byte(x.Kind), 0, 0, 0)
	dst = le.AppendUint32(dst, uint32(len(x.Runs)))
	dst = le.AppendUint32(dst, uint32(len(x.Frames)))
	dst = le.AppendUint32(dst, uint32(len(x.Sums)))
	dst = append(dst, id[:]...)
	dst = le.AppendUint64(dst, x.Epoch)
	dst = le.AppendUint64(dst, x.Walk)
	dst = le.AppendUint64(dst, uint64(x.Covered.Start))
	dst = le.AppendUint64(dst, x.Covered.Count)
	for i := range x.Frames {
		f := &x.Frames[i]
		dst = le.AppendUint32(dst, f.Stored)
		dst = le.AppendUint32(dst, f.CRC)
		dst = append(dst, f.Blocks, byte(f.Codec), 0, 0)
	}
	for i := range x.Sums {
		dst = append(dst, x.Sums[i][:]...)
	}
	var end disk.Block
	for i := range x.Runs {
		r := &x.Runs[i]
		length := r.Count << 1
		if r.Data {
			length |= 1
		}
		dst = binary.AppendUvarint(dst, uint64(r.Start-end))
		dst = binary.AppendUvarint(dst, length)
		end = r.End()
	}
	return dst, nil
}

// decodeIndex reads an index that lies at offset in its blob. What it returns
// keeps every promise of Index: the caller can follow any number in it without
// a check of its own. It allocates no more than a small multiple of len(data).
func decodeIndex(data []byte, offset int64) (*Index, error) {
	if len(data) < indexFixed {
		return nil, fmt.Errorf("index of %d bytes is too short", len(data))
	}
	le := binary.LittleEndian
	x := &Index{
		Header: Header{
			Kind:  Kind(data[0]),
			Disk:  string(hexText(data[16:32])),
			Epoch: le.Uint64(data[32:]),
			Walk:  le.Uint64(data[40:]),
		},
		Covered: disk.Extent{Start: disk.Block(le.Uint64(data[48:])), Count: le.Uint64(data[56:])},
	}
	if data[1]|data[2]|data[3] != 0 {
		return nil, errors.New("index has flags that this version does not know")
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	if err := checkExtent(x.Covered); err != nil {
		return nil, err
	}
	if x.Kind == Delta && x.Covered != (disk.Extent{}) {
		return nil, errors.New("delta segment that claims to cover an extent")
	}
	runs, frames, blocks := le.Uint32(data[4:]), le.Uint32(data[8:]), le.Uint32(data[12:])
	rest := data[indexFixed:]
	if runs > MaxRuns || blocks > MaxBlocks || frames > blocks ||
		uint64(len(rest)) < uint64(frames)*frameEntry+uint64(blocks)*16+uint64(runs)*2 {
		return nil, fmt.Errorf("index of %d bytes cannot hold %d runs, %d frames and %d blocks", len(data), runs, frames, blocks)
	}
	var err error
	if x.Frames, rest, err = decodeFrames(rest, frames, blocks, offset); err != nil {
		return nil, err
	}
	x.Sums = make([]Checksum, blocks)
	for i := range x.Sums {
		copy(x.Sums[i][:], rest)
		rest = rest[16:]
		if x.Sums[i].IsZero() {
			return nil, fmt.Errorf("data block %d has the checksum of a block of zeros", i)
		}
	}
	if x.Runs, err = decodeRuns(rest, runs, blocks); err != nil {
		return nil, err
	}
	for _, r := range x.Runs {
		if x.Kind == Walk && !contains(x.Covered, r.Extent) {
			return nil, fmt.Errorf("run of %d blocks at block %d lies outside of what the walk covered", r.Count, r.Start)
		}
	}
	return x, nil
}

// decodeFrames reads the frame table and checks that the frames fill the blob
// from the header to the index at offset and hold all blocks.
func decodeFrames(data []byte, count, blocks uint32, offset int64) ([]Frame, []byte, error) {
	frames := make([]Frame, count)
	position, first := int64(headerSize), uint32(0)
	for i := range frames {
		e := data[i*frameEntry:]
		f := Frame{
			Offset: uint32(position),
			Stored: binary.LittleEndian.Uint32(e),
			First:  first,
			CRC:    binary.LittleEndian.Uint32(e[4:]),
			Blocks: e[8],
			Codec:  Codec(e[9]),
		}
		if err := f.check(); err != nil {
			return nil, nil, fmt.Errorf("frame %d: %w", i, err)
		}
		if e[10]|e[11] != 0 {
			return nil, nil, fmt.Errorf("frame %d has flags that this version does not know", i)
		}
		position += int64(f.Stored)
		if position > offset {
			return nil, nil, fmt.Errorf("frame %d reaches beyond the index at %d", i, offset)
		}
		first += uint32(f.Blocks)
		frames[i] = f
	}
	if position != offset || first != blocks {
		return nil, nil, fmt.Errorf("the frames end at %d with %d blocks, the index begins at %d and tells of %d", position, first, offset, blocks)
	}
	return frames, data[int(count)*frameEntry:], nil
}

// check holds a frame to its limits.
func (f *Frame) check() error {
	raw := uint32(f.Blocks) * disk.BlockSize
	switch {
	case f.Blocks == 0 || f.Blocks > FrameBlocks:
		return fmt.Errorf("it holds %d blocks; 1 to %d are allowed", f.Blocks, FrameBlocks)
	case f.Codec > Zstd:
		return fmt.Errorf("its codec %d is unknown", f.Codec)
	case f.Codec == Raw && f.Stored != raw, f.Codec == Zstd && (f.Stored == 0 || f.Stored >= raw):
		return fmt.Errorf("%d stored bytes cannot be %d blocks", f.Stored, f.Blocks)
	}
	return nil
}

// decodeRuns reads the runs, which must take up all of data and all blocks.
func decodeRuns(data []byte, count, blocks uint32) ([]Run, error) {
	runs := make([]Run, count)
	var end disk.Block
	var first uint64
	for i := range runs {
		gap, n := binary.Uvarint(data)
		if n <= 0 || gap > uint64(endOfDisks-end) {
			return nil, fmt.Errorf("run %d has no valid start", i)
		}
		data = data[n:]
		length, n := binary.Uvarint(data)
		if n <= 0 || length>>1 == 0 {
			return nil, fmt.Errorf("run %d has no valid length", i)
		}
		data = data[n:]
		r := Run{Extent: disk.Extent{Start: end + disk.Block(gap), Count: length >> 1}, Data: length&1 != 0}
		if err := checkExtent(r.Extent); err != nil {
			return nil, fmt.Errorf("run %d: %w", i, err)
		}
		if r.Data {
			if r.Count > uint64(blocks)-first {
				return nil, fmt.Errorf("run %d takes %d data blocks of %d that are left", i, r.Count, uint64(blocks)-first)
			}
			r.First = uint32(first)
			first += r.Count
		}
		runs[i], end = r, r.End()
	}
	if len(data) != 0 || first != uint64(blocks) {
		return nil, fmt.Errorf("the runs take %d of %d data blocks and leave %d bytes", first, blocks, len(data))
	}
	return runs, nil
}
