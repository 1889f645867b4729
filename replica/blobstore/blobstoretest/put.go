package blobstoretest

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/replica/blobstore"
)

func testSizes(t *testing.T, suite Suite) {
	s := suite.Open(t)
	sizes := []int64{0, 1, 511, 4096, suite.LargeSize - 1, suite.LargeSize}
	for i, size := range sizes {
		name := "sizes/" + string(rune('a'+i))
		want := Content(uint64(i), size)
		before := time.Now()
		MustPut(t, s, name, want)
		if got := MustGet(t, s, name); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: content differs, got %d bytes", size, len(got))
		}
		info, err := s.Stat(t.Context(), name)
		if err != nil {
			t.Fatalf("stat: %v", err)
		}
		if info.Name != name || info.Size != size {
			t.Errorf("stat of %s with %d bytes = %+v", name, size, info)
		}
		// Clocks of services and file systems count in seconds, or lag.
		if age := info.Modified.Sub(before); age < -5*time.Second || age > time.Minute {
			t.Errorf("stat of a blob of now: modified %v, now %v", info.Modified, before)
		}
	}
}

func testCreateOnly(t *testing.T, suite Suite) {
	s := suite.Open(t)
	for _, size := range []int64{0, 10, suite.LargeSize} {
		name := "once/" + string(rune('a'+size%26))
		first := Content(1, size)
		MustPut(t, s, name, first)
		for _, other := range [][]byte{first, Content(2, size), Content(3, size+1), Content(4, suite.LargeSize)} {
			err := s.Put(t.Context(), name, bytes.NewReader(other), int64(len(other)))
			wantKind(t, err, blobstore.ErrExists, blobstore.Logic)
		}
		if got := MustGet(t, s, name); !bytes.Equal(got, first) {
			t.Errorf("content of %d bytes changed by a refused put", size)
		}
	}
}

func testRacingPuts(t *testing.T, suite Suite) { race(t, suite.Open(t), 16, 1000) }

// testRacingLargePuts races Puts that send pieces: no blob may be made of the
// pieces of several writers.
func testRacingLargePuts(t *testing.T, suite Suite) { race(t, suite.Open(t), 4, suite.LargeSize) }

func race(t *testing.T, s blobstore.Store, writers int, size int64) {
	t.Helper()
	const name = "race/points/0000000000000001.json"
	var (
		group   sync.WaitGroup
		winners atomic.Int32
		winner  atomic.Int32
	)
	start := make(chan struct{})
	for i := range writers {
		content := Content(uint64(i), size)
		group.Go(func() {
			<-start
			err := s.Put(t.Context(), name, bytes.NewReader(content), size)
			switch {
			case err == nil:
				winners.Add(1)
				winner.Store(int32(i))
			case !errors.Is(err, blobstore.ErrExists):
				t.Errorf("put that lost a race: %v, want ErrExists", err)
			}
		})
	}
	close(start)
	group.Wait()
	if n := winners.Load(); n != 1 {
		t.Fatalf("%d of %d racing puts succeeded, want one", n, writers)
	}
	if got := MustGet(t, s, name); !bytes.Equal(got, Content(uint64(winner.Load()), size)) {
		t.Error("the blob is not the winner's")
	}
}

func testShortContent(t *testing.T, suite Suite) {
	s := suite.Open(t)
	for _, size := range []int64{10, suite.LargeSize} {
		content := Content(1, size-1)
		if err := s.Put(t.Context(), "short", bytes.NewReader(content), size); err == nil {
			t.Errorf("put of %d bytes with one too few succeeded", size)
		}
		wantAbsent(t, s, "short")
	}
	if err := s.Put(t.Context(), "short", bytes.NewReader(nil), -1); err == nil {
		t.Error("put of -1 bytes succeeded")
	}
}

var errContent = errors.New("content cannot be read")

// brokenContent fails from one offset on.
type brokenContent struct {
	io.ReaderAt

	from int64
}

func (b brokenContent) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > b.from {
		return 0, errContent
	}
	return b.ReaderAt.ReadAt(p, offset)
}

func testFailingContent(t *testing.T, suite Suite) {
	s := suite.Open(t)
	size := suite.LargeSize
	for _, from := range []int64{0, size / 2, size - 1} {
		content := brokenContent{bytes.NewReader(Content(1, size)), from}
		if err := s.Put(t.Context(), "broken", content, size); !errors.Is(err, errContent) {
			t.Errorf("put of content that fails at %d: %v", from, err)
		}
		wantAbsent(t, s, "broken")
	}
}

func wantAbsent(t *testing.T, s blobstore.Store, name string) {
	t.Helper()
	_, err := s.Stat(t.Context(), name)
	wantKind(t, err, blobstore.ErrNotFound, blobstore.Logic)
	if names := Names(t, s, ""); len(names) != 0 {
		t.Errorf("blobs listed: %q, want none", names)
	}
}

// wantKind checks a store's error as callers look at it.
func wantKind(t *testing.T, err, kind error, class blobstore.Class) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error %v, want %v", err, kind)
		return
	}
	if got := blobstore.ClassOf(err); got != class {
		t.Errorf("error %v is %v, want %v", err, got, class)
	}
	if e, ok := errors.AsType[*blobstore.Error](err); !ok || e.Op == "" || e.Store == "" {
		t.Errorf("error %#v does not tell operation and store", err)
	}
}
