package blobstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"lifeboat/replica/blobstore"
)

func testDelete(t *testing.T, suite Suite) {
	s := suite.Open(t)
	MustPut(t, s, "a/b", []byte("x"))
	MustPut(t, s, "a/c", []byte("y"))
	for _, name := range []string{"a/b", "a/b", "a", "never/was", "a/c/d"} {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if names := Names(t, s, ""); len(names) != 1 || names[0] != "a/c" {
		t.Errorf("left after delete: %q", names)
	}
	MustPut(t, s, "a/b", []byte("again"))
	if got := MustGet(t, s, "a/b"); string(got) != "again" {
		t.Errorf("put after delete: %q", got)
	}
}

func testNotFound(t *testing.T, suite Suite) {
	s := suite.Open(t)
	MustPut(t, s, "a/b", []byte("x"))
	for _, name := range []string{"b", "a", "a/b/c", "a/bb"} {
		_, err := s.Stat(t.Context(), name)
		wantKind(t, err, blobstore.ErrNotFound, blobstore.Logic)
		for _, length := range []int64{0, 1, -1} {
			_, err = get(t.Context(), s, name, 0, length)
			wantKind(t, err, blobstore.ErrNotFound, blobstore.Logic)
		}
	}
}

func testBadNames(t *testing.T, suite Suite) {
	s := suite.Open(t)
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a/.hidden", "a.", "a./b", "a b",
		"ä", "a\\b", "a\x00", "a?b", "a#b", "a%2fb", "a:b", "a\nb",
		strings.Repeat("a", blobstore.MaxElementLength+1),
		strings.Repeat("a/", blobstore.MaxNameLength/2) + "a",
	}
	for _, name := range bad {
		if blobstore.ValidName(name) == nil {
			t.Errorf("name %q is valid", name)
		}
		for op, err := range oneOfEach(t.Context(), s, name) {
			if err == nil && op != "list" {
				t.Errorf("%s of %q succeeded", op, name)
			}
		}
	}
	for _, prefix := range []string{"/", "/a", "a//", ".", "../", "a/.", "a/../b", "a b", "./a"} {
		for _, err := range s.List(t.Context(), prefix) {
			if err == nil {
				t.Errorf("list of %q yields a blob", prefix)
			}
		}
	}
	long := strings.Repeat("e", blobstore.MaxElementLength) + "/" + strings.Repeat("f", blobstore.MaxElementLength)
	MustPut(t, s, long, []byte("x"))
	if names := Names(t, s, long[:200]); len(names) != 1 || names[0] != long {
		t.Errorf("long name listed as %q", names)
	}
}

// oneOfEach calls every method once.
func oneOfEach(ctx context.Context, s blobstore.Store, name string) map[string]error {
	errs := make(map[string]error)
	errs["put"] = s.Put(ctx, name, bytes.NewReader([]byte("content")), 7)
	_, errs["get"] = get(ctx, s, name, 0, -1)
	_, errs["stat"] = s.Stat(ctx, name)
	errs["delete"] = s.Delete(ctx, name)
	errs["list"] = nil
	for _, err := range s.List(ctx, name) {
		errs["list"] = err
	}
	return errs
}

func testCancelled(t *testing.T, suite Suite) {
	s := suite.Open(t)
	MustPut(t, s, "a/blob", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for op, err := range oneOfEach(ctx, s, "a/blob") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s after the end of the context: %v", op, err)
		}
		if class := blobstore.ClassOf(err); class != blobstore.Recoverable {
			t.Errorf("%s after the end of the context: %v", op, class)
		}
	}
	var err error
	for _, err = range s.Prefixes(ctx, "") {
		if err != nil {
			break
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("prefixes after the end of the context: %v", err)
	}
	if got := MustGet(t, s, "a/blob"); string(got) != "x" {
		t.Errorf("content is %q", got)
	}
}

// cancellingContent ends the context when it is read far enough.
type cancellingContent struct {
	io.ReaderAt

	from   int64
	cancel func()
}

func (c cancellingContent) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > c.from {
		c.cancel()
	}
	return c.ReaderAt.ReadAt(p, offset)
}

func testCancelledPut(t *testing.T, suite Suite) {
	s := suite.Open(t)
	size := suite.LargeSize
	for i, from := range []int64{0, size / 2, size - 1} {
		name := fmt.Sprintf("put-%d", i)
		want := Content(1, size)
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Put(ctx, name, cancellingContent{bytes.NewReader(want), from, cancel}, size)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("put with its context ended at %d: %v", from, err)
		}
		got, getErr := get(t.Context(), s, name, 0, -1)
		switch {
		case getErr == nil && !bytes.Equal(got, want):
			t.Errorf("interrupted put left %d of %d bytes", len(got), size)
		case getErr != nil && err == nil:
			t.Errorf("put succeeded, get: %v", getErr)
		case getErr != nil:
			wantKind(t, getErr, blobstore.ErrNotFound, blobstore.Logic)
		}
	}
}

func testMissingStore(t *testing.T, suite Suite) {
	s := suite.OpenMissing(t)
	errs := oneOfEach(t.Context(), s, "a/blob")
	for _, err := range s.Prefixes(t.Context(), "") {
		errs["prefixes"] = err
	}
	if len(errs) != 6 {
		t.Errorf("prefixes of a missing store yield nothing")
	}
	for _, err := range errs {
		wantKind(t, err, blobstore.ErrStoreMissing, blobstore.Unrecoverable)
		if e, ok := errors.AsType[*blobstore.Error](err); !ok || e.Hint == "" {
			t.Errorf("error without a hint: %v", err)
		}
	}
}

func testConcurrentUse(t *testing.T, suite Suite) {
	s := suite.Open(t)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 8 {
				name := fmt.Sprintf("shared/%d/%d", i%3, worker*100+i)
				want := Content(uint64(worker*100+i), int64(1000*i))
				if err := s.Put(t.Context(), name, bytes.NewReader(want), int64(len(want))); err != nil {
					t.Errorf("put: %v", err)
				}
				got, err := get(t.Context(), s, name, 0, -1)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("get %s: %d bytes, %v", name, len(got), err)
				}
				for _, err := range s.List(t.Context(), "shared/1/") {
					if err != nil {
						t.Errorf("list: %v", err)
					}
				}
				if i%2 == 1 {
					if err := s.Delete(t.Context(), name); err != nil {
						t.Errorf("delete: %v", err)
					}
				}
			}
		})
	}
	group.Wait()
	if names := Names(t, s, "shared/"); len(names) != 8*4 {
		t.Errorf("%d blobs left, want %d", len(names), 8*4)
	}
}
