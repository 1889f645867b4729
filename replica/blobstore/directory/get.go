package directory

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"lifeboat/replica/blobstore"
)

// Get implements blobstore.Store.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	root, err := s.begin(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	defer closeRoot(root)
	f, size, err := openBlob(root, name)
	if err != nil {
		return nil, s.fail("get", name, err)
	}
	length, err = blobstore.Span(s, name, size, offset, length)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	// Closing the file is what ends a read that hangs on a dead NAS, and what
	// keeps the promise that the reader fails once ctx is done.
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	fail := func(err error) error {
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return s.failRead(name, err)
	}
	reader := &blobReader{SectionReader: io.NewSectionReader(f, offset, length), file: f, stop: stop}
	return blobstore.Exactly(reader, length, fail), nil
}

// failRead makes the store's error of one of reading an open blob: a blob that
// ends before its size was cut by someone.
func (s *Store) failRead(name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		e := blobstore.NewError("get", name, blobstore.ErrCorrupt, err)
		e.Store = s.name
		return e
	}
	return s.fail("get", name, err)
}

// openBlob opens a blob's file. O_NONBLOCK keeps the open from waiting on what
// is no regular file and so no blob.
func openBlob(root *os.Root, name string) (*os.File, int64, error) {
	if _, err := statBlob(root, name); err != nil {
		return nil, 0, err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

type blobReader struct {
	*io.SectionReader

	file *os.File
	stop func() bool
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	if !r.stop() {
		return nil // the end of the context has closed the file
	}
	return r.file.Close()
}
