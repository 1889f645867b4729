package replica

import (
	"context"
	"fmt"
	"io"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

// Image reads a disk at a recovery point out of the container, block by block.
// It may be used concurrently. It keeps the indexes that were read last, and no
// data.
type Image struct {
	repository *Repository
	blocks     *BlockMap
	decoder    *segment.Decoder
	indexes    *indexCache
}

// Image returns the disk that the block map describes. Every block that it
// reads is proved under the hasher's key.
func (r *Repository) Image(blocks *BlockMap, hasher *segment.Hasher) (*Image, error) {
	decoder, err := segment.NewDecoder(hasher)
	if err != nil {
		return nil, err
	}
	return &Image{
		repository: r, blocks: blocks, decoder: decoder,
		indexes: newIndexCache(func(ctx context.Context, n int32) (*segment.Index, error) {
			return r.ReadIndex(ctx, blocks.VM, blocks.Disk, blocks.Segments[n])
		}),
	}, nil
}

// Size returns the size of the disk in bytes.
func (i *Image) Size() int64 { return i.blocks.Size }

// ReadAt reads as io.ReaderAt does; a read that reaches beyond the end of the
// disk returns io.EOF with what there is.
func (i *Image) ReadAt(ctx context.Context, p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("reading disk %s: negative offset %d", i.blocks.Disk, offset)
	}
	n := int(max(0, min(int64(len(p)), i.blocks.Size-offset)))
	p, short := p[:n], n < len(p)
	clear(p)
	want := disk.ExtentOf(offset, int64(n))
	for k := i.blocks.find(want.Start); n > 0 && k < len(i.blocks.extents); k++ {
		e := i.blocks.extents[k]
		if e.Start >= want.End() {
			break
		}
		e = e.cut(max(e.Start, want.Start), min(e.End(), want.End()))
		if err := i.readExtent(ctx, e, p, offset); err != nil {
			return 0, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// readExtent copies what of the extent lies within p, which is the disk from
// offset on.
func (i *Image) readExtent(ctx context.Context, e Mapping, p []byte, offset int64) error {
	x, err := i.indexes.get(ctx, e.Segment)
	if err != nil {
		return err
	}
	blob := SegmentBlob(i.blocks.VM, i.blocks.Disk, i.blocks.Segments[e.Segment].Name)
	if uint64(e.First)+e.Count > uint64(len(x.Sums)) {
		return &segment.DamageError{Blob: blob, Cause: fmt.Errorf("it has %d blocks, not %d", len(x.Sums), uint64(e.First)+e.Count)}
	}
	for frame := x.FrameOf(e.First); e.Count > 0; frame++ {
		f := x.Frames[frame]
		stored, err := segment.ReadFrames(ctx, i.repository.store, blob, x, frame, 1, nil)
		if err != nil {
			return err
		}
		data, err := i.decoder.Decode(x, frame, stored, nil)
		if err != nil {
			return &segment.DamageError{Blob: blob, Cause: err}
		}
		skip := e.First - f.First
		count := min(e.Count, uint64(uint32(f.Blocks)-skip))
		copyBlocks(p, offset, e.Start, data[skip*disk.BlockSize:][:count*disk.BlockSize])
		e = e.cut(e.Start+disk.Block(count), e.End())
	}
	return nil
}

// copyBlocks copies the blocks in data, from block start on, to where they lie
// in p, which is the disk from offset on.
func copyBlocks(p []byte, offset int64, start disk.Block, data []byte) {
	if at := start.Offset() - offset; at >= 0 {
		copy(p[at:], data)
	} else {
		copy(p, data[-at:])
	}
}
