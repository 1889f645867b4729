package segment

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"lifeboat/disk"
	"lifeboat/replica/blobstore"
)

// ReadIndex reads the index of a segment that a manifest refers to; blob is its
// whole name. One ranged GET; a DamageError if the blob is missing or is not
// the one referred to.
func ReadIndex(ctx context.Context, store blobstore.Store, blob string, ref Ref) (*Index, error) {
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	tail, err := fetch(ctx, store, blob, ref.IndexOffset, ref.Size-ref.IndexOffset, nil)
	if err != nil {
		return nil, err
	}
	x, got, err := decodeTail(tail, ref.Size, ref.Footer)
	if err != nil {
		return nil, &DamageError{Blob: blob, Cause: err}
	}
	if got.Kind != ref.Kind {
		return nil, &DamageError{Blob: blob, Cause: fmt.Errorf("it is a %v, not a %v", got.Kind, ref.Kind)}
	}
	return x, nil
}

// FindIndex reads the index of a segment of size bytes that no manifest refers
// to, and returns the reference to it, with name for its name. Two GETs. It is
// for what a walk shipped before it was interrupted; only the blob's own
// checksums prove it.
func FindIndex(ctx context.Context, store blobstore.Store, blob, name string, size int64) (*Index, Ref, error) {
	if size < headerSize+indexFixed+FooterSize || size > MaxSize {
		return nil, Ref{}, &DamageError{Blob: blob, Cause: fmt.Errorf("%d bytes are no segment", size)}
	}
	last, err := fetch(ctx, store, blob, size-FooterSize, FooterSize, nil)
	if err != nil {
		return nil, Ref{}, err
	}
	f, err := decodeFooter(last, size)
	if err != nil {
		return nil, Ref{}, &DamageError{Blob: blob, Cause: err}
	}
	tail, err := fetch(ctx, store, blob, f.indexOffset, size-f.indexOffset, nil)
	if err != nil {
		return nil, Ref{}, err
	}
	x, ref, err := decodeTail(tail, size, Hash{})
	if err != nil {
		return nil, Ref{}, &DamageError{Blob: blob, Cause: err}
	}
	ref.Name = name
	return x, ref, nil
}

// Decoder turns stored frames into blocks and proves them. It may be used
// concurrently.
type Decoder struct {
	hasher *Hasher
	zstd   *zstd.Decoder
}

// NewDecoder returns a Decoder that proves blocks under the hasher's key.
func NewDecoder(hasher *Hasher) (*Decoder, error) {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(2*FrameBlocks*disk.BlockSize))
	if err != nil {
		return nil, fmt.Errorf("making a zstd decoder: %w", err)
	}
	return &Decoder{hasher: hasher, zstd: d}, nil
}

// Decode returns the blocks of frame n, given its stored bytes. It uses dst's
// room if that is enough. What it returns has been compared with the index,
// block by block.
func (d *Decoder) Decode(x *Index, n int, stored, dst []byte) ([]byte, error) {
	f := &x.Frames[n]
	if len(stored) != int(f.Stored) || crcOf(stored) != f.CRC {
		return nil, fmt.Errorf("frame %d has a wrong checksum", n)
	}
	size := int(f.Blocks) * disk.BlockSize
	if cap(dst) < size {
		dst = make([]byte, size)
	}
	dst = dst[:0:size]
	switch f.Codec {
	case Raw:
		dst = append(dst, stored...)
	case Zstd:
		var err error
		if dst, err = d.zstd.DecodeAll(stored, dst); err != nil {
			return nil, fmt.Errorf("frame %d cannot be decompressed: %w", n, err)
		}
	}
	if len(dst) != size {
		return nil, fmt.Errorf("frame %d has %d bytes, not %d", n, len(dst), size)
	}
	for i, want := range x.Sums[f.First : f.First+uint32(f.Blocks)] {
		if d.hasher.Sum(dst[i*disk.BlockSize:(i+1)*disk.BlockSize]) != want {
			return nil, fmt.Errorf("block %d of frame %d has a wrong checksum", i, n)
		}
	}
	return dst, nil
}

// ReadFrames fetches the stored bytes of the frames from first on, count of
// them, with one ranged GET, into dst if there is room. Cut it with Stored.
func ReadFrames(ctx context.Context, store blobstore.Store, blob string, x *Index, first, count int, dst []byte) ([]byte, error) {
	last := x.Frames[first+count-1]
	start := int64(x.Frames[first].Offset)
	return fetch(ctx, store, blob, start, int64(last.Offset)+int64(last.Stored)-start, dst)
}

// Stored cuts frame n out of what ReadFrames brought from frame first on.
func (x *Index) Stored(fetched []byte, first, n int) []byte {
	start := x.Frames[n].Offset - x.Frames[first].Offset
	return fetched[start : start+x.Frames[n].Stored]
}

// fetch reads a range of a blob, into dst if there is room. A blob that is
// missing or too short is damage.
func fetch(ctx context.Context, store blobstore.Store, blob string, offset, length int64, dst []byte) ([]byte, error) {
	r, err := store.Get(ctx, blob, offset, length)
	if err != nil {
		return nil, readError(blob, err)
	}
	if int64(cap(dst)) < length {
		dst = make([]byte, length)
	}
	dst = dst[:length]
	_, err = io.ReadFull(r, dst)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, readError(blob, err)
	}
	return dst, nil
}

// readError tells damage from a fault of the way to the store.
func readError(blob string, err error) error {
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, blobstore.ErrRange) || errors.Is(err, blobstore.ErrCorrupt) {
		return &DamageError{Blob: blob, Cause: err}
	}
	return fmt.Errorf("reading blob %s: %w", blob, err)
}
