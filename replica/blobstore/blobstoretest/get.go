package blobstoretest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"lifeboat/replica/blobstore"
)

func testRanges(t *testing.T, suite Suite) {
	s := suite.Open(t)
	size := suite.LargeSize
	content := Content(7, size)
	MustPut(t, s, "blob", content)
	MustPut(t, s, "empty", nil)
	for _, r := range []struct{ offset, length int64 }{
		{0, 1},
		{0, size},
		{0, -1},
		{1, size - 1},
		{size - 1, 1},
		{size - 1, -1},
		{size / 2, 100},
		{size / 3, size / 2},
		{0, 0},
		{size / 2, 0},
		{size, 0},
		{size, -1},
	} {
		got, err := get(t.Context(), s, "blob", r.offset, r.length)
		if err != nil {
			t.Errorf("get %+v: %v", r, err)
			continue
		}
		want := content[r.offset:]
		if r.length >= 0 {
			want = want[:r.length]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("get %+v: %d bytes, differ from the %d wanted", r, len(got), len(want))
		}
	}
	for _, r := range []struct{ offset, length int64 }{
		{0, size + 1},
		{1, size},
		{size - 1, 2},
		{size, 1},
		{size + 1, 0},
		{size + 1, -1},
		{1 << 50, 10},
	} {
		_, err := get(t.Context(), s, "blob", r.offset, r.length)
		wantKind(t, err, blobstore.ErrRange, blobstore.Logic)
	}
	for _, r := range []struct{ offset, length int64 }{{-1, 1}, {0, -2}, {-1, -1}} {
		if _, err := get(t.Context(), s, "blob", r.offset, r.length); err == nil {
			t.Errorf("get %+v succeeded", r)
		}
	}
	for _, length := range []int64{0, -1} {
		if got, err := get(t.Context(), s, "empty", 0, length); err != nil || len(got) != 0 {
			t.Errorf("get of %d bytes of an empty blob: %d bytes, %v", length, len(got), err)
		}
	}
	_, err := get(t.Context(), s, "empty", 0, 1)
	wantKind(t, err, blobstore.ErrRange, blobstore.Logic)
}

func testReaderAt(t *testing.T, suite Suite) {
	s := suite.Open(t)
	content := Content(8, 10000)
	MustPut(t, s, "blob", content)
	r := blobstore.NewReaderAt(t.Context(), s, "blob", 10000)
	buffer := make([]byte, 100)
	for _, at := range []struct {
		offset int64
		n      int
		err    error
	}{
		{0, 100, nil},
		{9900, 100, nil},
		{9901, 99, io.EOF},
		{9999, 1, io.EOF},
		{10000, 0, io.EOF},
		{20000, 0, io.EOF},
	} {
		n, err := r.ReadAt(buffer, at.offset)
		if n != at.n || !errors.Is(err, at.err) {
			t.Errorf("read at %d: %d bytes, %v; want %d, %v", at.offset, n, err, at.n, at.err)
		}
		if n > 0 && !bytes.Equal(buffer[:n], content[at.offset:at.offset+int64(n)]) {
			t.Errorf("read at %d: content differs", at.offset)
		}
	}
	if _, err := r.ReadAt(buffer, -1); err == nil {
		t.Error("read at -1 succeeded")
	}
	// A blob that is shorter than was said must not look like one that ends.
	r = blobstore.NewReaderAt(t.Context(), s, "blob", 10050)
	_, err := r.ReadAt(buffer, 9950)
	wantKind(t, err, blobstore.ErrRange, blobstore.Logic)
}

func testReadAll(t *testing.T, suite Suite) {
	s := suite.Open(t)
	content := Content(9, 1000)
	MustPut(t, s, "blob", content)
	for _, limit := range []int64{1000, 1001, 1 << 40} {
		got, err := blobstore.ReadAll(t.Context(), s, "blob", limit)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("read of all with limit %d: %d bytes, %v", limit, len(got), err)
		}
	}
	_, err := blobstore.ReadAll(t.Context(), s, "blob", 999)
	wantKind(t, err, blobstore.ErrCorrupt, blobstore.Unrecoverable)
	_, err = blobstore.ReadAll(t.Context(), s, "other", 999)
	wantKind(t, err, blobstore.ErrNotFound, blobstore.Logic)
}

// testCancelledReader ends the context while a blob is being read: the rest
// must not be taken for the blob's end.
func testCancelledReader(t *testing.T, suite Suite) {
	s := suite.Open(t)
	MustPut(t, s, "blob", Content(1, suite.LargeSize))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := s.Get(ctx, "blob", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	// What was received before may still be read.
	n, err := io.Copy(io.Discard, r)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("read after the end of the context: %v", err)
	}
	if err == nil && n != suite.LargeSize-10 {
		t.Errorf("read after the end of the context: %d of %d bytes and no error", n, suite.LargeSize-10)
	}
	if err := r.Close(); err != nil {
		t.Errorf("close after the end of the context: %v", err)
	}
}
