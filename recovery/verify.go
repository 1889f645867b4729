package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

// ErrNotEqual tells that a disk was restored, but is not what it was at the
// source: the checksum of the whole disk differs.
var ErrNotEqual = errors.New("the restored disk is not equal to its source")

// verifySize is how much of a disk is read back at once, in bytes.
const verifySize = 1 << 20

// verify reads the disk back, as the file system has it now, and compares its
// checksum with the manifest's. Holes are zeros, and need not be read.
func (r *restore) verify(ctx context.Context, t *target) error {
	// What was written must come from the disk below, as far as the kernel can
	// be told so; where it cannot, the comparison still stands.
	_ = unix.Fadvise(int(t.file.Fd()), 0, 0, unix.FADV_DONTNEED)
	info, err := t.file.Stat()
	if err != nil {
		return fmt.Errorf("reading it back: %w", err)
	}
	if info.Size() != t.disk.Size {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrNotEqual, info.Size(), t.disk.Size)
	}
	var (
		mu    sync.Mutex
		total segment.DiskSum
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(processors())
	err = eachPiece(t, func(offset, length int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		group.Go(func() error {
			sum, err := r.sumPiece(t, offset, length)
			mu.Lock()
			total.Add(sum)
			mu.Unlock()
			return err
		})
		return nil
	})
	// The first failure cancels the context, so the group knows the cause.
	if failed := group.Wait(); failed != nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("reading it back: %w", err)
	}
	if total != t.disk.Checksum {
		return fmt.Errorf("%w: its checksum is %s, that of the source was %s", ErrNotEqual, total, t.disk.Checksum)
	}
	return nil
}

// sumPiece returns the disk checksum of a piece that begins and ends with whole
// blocks or with the disk.
func (r *restore) sumPiece(t *target, offset, length int64) (segment.DiskSum, error) {
	var sum segment.DiskSum
	b := r.buffers()
	defer r.pool.Put(b)
	if int64(cap(b.stored)) < length {
		b.stored = make([]byte, verifySize)
	}
	data := b.stored[:length]
	if n, err := t.file.ReadAt(data, offset); int64(n) < length {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return sum, err
	}
	block := disk.BlockAt(offset)
	var proved int64
	for len(data) > 0 {
		n := min(len(data), disk.BlockSize)
		checksum := r.hasher.Sum(data[:n])
		if !checksum.IsZero() {
			proved += disk.BlockSize
		}
		sum.Replace(r.hasher, block, segment.Checksum{}, checksum)
		block, data = block+1, data[n:]
	}
	r.advance(0, proved)
	return sum, nil
}

// eachPiece calls visit for the pieces of the file that have data, cut at
// multiples of verifySize.
func eachPiece(t *target, visit func(offset, length int64) error) error {
	for offset := int64(0); offset < t.disk.Size; {
		data, err := unix.Seek(int(t.file.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		offset = data - data%disk.BlockSize
		length := min(t.disk.Size-offset, verifySize-offset%verifySize)
		if err := visit(offset, length); err != nil {
			return err
		}
		offset += length
	}
	return nil
}
