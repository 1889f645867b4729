package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Span returns how many bytes a Get of length bytes from offset on yields of a
// blob of size bytes; length -1 means to its end. Stores share it so that all
// of them draw the line at the same byte.
func Span(s Store, name string, size, offset, length int64) (int64, error) {
	var err *Error
	switch {
	case offset < 0 || length < -1:
		err = Invalid("get", name, fmt.Errorf("bad range: offset %d, length %d", offset, length))
	case offset > size || length > size-offset:
		err = NewError("get", name, ErrRange, fmt.Errorf("offset %d, length %d, size %d", offset, length, size))
	case length < 0:
		return size - offset, nil
	default:
		return length, nil
	}
	err.Store = s.String()
	return 0, err
}

// ReadAll returns a blob's whole content, which must not be longer than limit
// bytes: what a container holds is not trusted with the reader's memory. A
// longer blob is ErrCorrupt, since no writer of ours makes one.
func ReadAll(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	r, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // nothing is written, so nothing can be lost
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		e := NewError("get", name, ErrCorrupt, fmt.Errorf("longer than the %d bytes that such a blob may have", limit))
		e.Store = s.String()
		return nil, e
	}
	return content, nil
}

// NewReaderAt returns an io.ReaderAt over a blob of size bytes, safe for
// concurrent use. Each ReadAt is one Get, so callers read in large pieces. It
// lives as long as ctx.
func NewReaderAt(ctx context.Context, s Store, name string, size int64) io.ReaderAt {
	return readerAtFunc(func(p []byte, offset int64) (int, error) {
		if offset < 0 {
			return 0, Invalid("get", name, fmt.Errorf("negative offset %d", offset))
		}
		if offset >= size {
			return 0, io.EOF
		}
		want := min(int64(len(p)), size-offset)
		r, err := s.Get(ctx, name, offset, want)
		if err != nil {
			return 0, err
		}
		defer func() { _ = r.Close() }()
		n, err := io.ReadFull(r, p[:want])
		if err == nil && n < len(p) {
			err = io.EOF
		}
		return n, err
	})
}

type readerAtFunc func(p []byte, offset int64) (int, error)

// ReadAt implements io.ReaderAt.
func (f readerAtFunc) ReadAt(p []byte, offset int64) (int, error) { return f(p, offset) }

// Exactly returns a reader of exactly length bytes of r. When r ends before,
// that is an error, never an io.EOF; what r has beyond is not read. Stores use
// it to keep the promise of Get; fail makes their errors of r's.
func Exactly(r io.ReadCloser, length int64, fail func(error) error) io.ReadCloser {
	return &exactReader{r: r, left: length, fail: fail}
}

type exactReader struct {
	r    io.ReadCloser
	left int64
	fail func(error) error
}

// Read implements io.Reader.
func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	switch {
	case err == nil, errors.Is(err, io.EOF) && e.left == 0:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, e.fail(err)
}

// Close implements io.Closer.
func (e *exactReader) Close() error { return e.r.Close() }
