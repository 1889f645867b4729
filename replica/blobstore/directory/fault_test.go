package directory

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lifeboat/replica/blobstore"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(ctx context.Context, s *Store, name, content string) error {
	return s.Put(ctx, name, strings.NewReader(content), int64(len(content)))
}

// TestWithoutLinks publishes by renaming: the name must still go to one of
// many, and nothing temporary may stay.
func TestWithoutLinks(t *testing.T) {
	s := openStore(t)
	s.link = func(*os.Root, string, string) error { return &os.LinkError{Err: syscall.EPERM} }
	var group sync.WaitGroup
	var winners atomic.Int32
	for range 16 {
		group.Go(func() {
			switch err := put(t.Context(), s, "a/b", "content"); {
			case err == nil:
				winners.Add(1)
			case !errors.Is(err, blobstore.ErrExists):
				t.Errorf("put that lost: %v", err)
			}
		})
	}
	group.Wait()
	if winners.Load() != 1 {
		t.Errorf("%d puts succeeded", winners.Load())
	}
	content, err := os.ReadFile(filepath.Join(s.path, "a/b"))
	if err != nil || string(content) != "content" {
		t.Errorf("blob: %q, %v", content, err)
	}
	wantNothingTemporary(t, s)
}

// TestLinkRepeated is a network file system that repeats a link whose reply was
// lost, and is told that the name exists: it is our own file.
func TestLinkRepeated(t *testing.T) {
	s := openStore(t)
	s.link = func(root *os.Root, from, to string) error {
		return errors.Join(root.Link(from, to), &os.LinkError{Err: syscall.EEXIST})
	}
	if err := put(t.Context(), s, "a", "content"); err != nil {
		t.Errorf("put: %v", err)
	}
	wantNothingTemporary(t, s)
	// The same answer about another's file is the truth.
	s.link = func(root *os.Root, _, to string) error {
		if err := root.WriteFile(to, []byte("content"), 0o600); err != nil {
			return err
		}
		return &os.LinkError{Err: syscall.EEXIST}
	}
	if err := put(t.Context(), s, "b", "content"); !errors.Is(err, blobstore.ErrExists) {
		t.Errorf("put against another's file: %v", err)
	}
}

func TestStaleTemporaries(t *testing.T) {
	s := openStore(t)
	old, young := filepath.Join(s.path, ".tmp-old"), filepath.Join(s.path, ".tmp-young")
	other := filepath.Join(s.path, ".other")
	for _, path := range []string{old, young, other} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-25 * time.Hour)
	for _, path := range []string{old, other} {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	for range s.List(t.Context(), "") {
		t.Error("a temporary file is listed")
	}
	s.swept.Store(past.Unix())
	if err := put(t.Context(), s, "blob", "x"); err != nil {
		t.Fatal(err)
	}
	for path, stays := range map[string]bool{old: false, young: true, other: true} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) == stays {
			t.Errorf("%s: %v, want it to stay: %v", filepath.Base(path), err, stays)
		}
	}
}

// TestLinksOut has symbolic links where directories and blobs should be.
func TestLinksOut(t *testing.T) {
	s := openStore(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"out": outside, "blob": filepath.Join(outside, "secret"), "in": ".", "dangling": "nowhere",
	} {
		if err := os.Symlink(to, filepath.Join(s.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"out/secret", "blob", "dangling"} {
		if _, err := blobstore.ReadAll(t.Context(), s, name, 100); err == nil {
			t.Errorf("get of %s succeeded", name)
		}
	}
	err := put(t.Context(), s, "out/new", "x")
	if !errors.Is(err, blobstore.ErrDenied) || blobstore.ClassOf(err) != blobstore.Unrecoverable {
		t.Errorf("put through a link: %v", err)
	}
	if err := s.Delete(t.Context(), "out/secret"); err == nil {
		t.Error("delete through a link succeeded")
	}
	for info := range s.List(t.Context(), "") {
		if info.Name != "" {
			t.Errorf("list yields %s", info.Name)
		}
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside are now %v, %v", entries, err)
	}
}

// TestRootReplaced swaps the root under an open store, as a NAS does that is
// mounted again: directories that were durable there are made anew here.
func TestRootReplaced(t *testing.T) {
	s := openStore(t)
	if err := put(t.Context(), s, "a/b/c", "old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path, s.path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), s, "a/b/c", "new"); !errors.Is(err, blobstore.ErrStoreMissing) {
		t.Errorf("put without a root: %v", err)
	}
	if err := os.Mkdir(s.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), s, "a/b/c", "new"); err != nil {
		t.Errorf("put into the new root: %v", err)
	}
}

// TestBlobOnTheWay puts below a blob.
func TestBlobOnTheWay(t *testing.T) {
	s := openStore(t)
	if err := put(t.Context(), s, "a", "x"); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), s, "a/b", "x"); err == nil || blobstore.ClassOf(err) != blobstore.Unrecoverable {
		t.Errorf("put below a blob: %v", err)
	}
	wantNothingTemporary(t, s)
}

// TestCutFile reads a blob that somebody shortens meanwhile.
func TestCutFile(t *testing.T) {
	s := openStore(t)
	if err := put(t.Context(), s, "a", strings.Repeat("x", 100)); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := os.Truncate(filepath.Join(s.path, "a"), 50); err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if _, err := content.ReadFrom(r); !errors.Is(err, blobstore.ErrCorrupt) || content.Len() != 50 {
		t.Errorf("read of a cut blob: %d bytes, %v", content.Len(), err)
	}
}

func TestClasses(t *testing.T) {
	s := openStore(t)
	for _, c := range []struct {
		err   error
		kind  error
		class blobstore.Class
		hint  bool
	}{
		{syscall.ENOSPC, nil, blobstore.Recoverable, true},
		{syscall.EDQUOT, nil, blobstore.Recoverable, true},
		{syscall.EIO, nil, blobstore.Recoverable, false},
		{syscall.ESTALE, nil, blobstore.Recoverable, false},
		{syscall.EACCES, blobstore.ErrDenied, blobstore.Unrecoverable, true},
		{syscall.EPERM, blobstore.ErrDenied, blobstore.Unrecoverable, true},
		{syscall.EROFS, blobstore.ErrDenied, blobstore.Unrecoverable, true},
		{syscall.ENOENT, blobstore.ErrNotFound, blobstore.Logic, false},
		{syscall.EEXIST, blobstore.ErrExists, blobstore.Logic, false},
		{errNoPublish, nil, blobstore.Unrecoverable, false},
		{context.Canceled, nil, blobstore.Recoverable, false},
	} {
		err := s.fail("put", "a/b", &fs.PathError{Op: "open", Path: ".tmp-x", Err: c.err})
		e, ok := errors.AsType[*blobstore.Error](err)
		if !ok || e.Class != c.class || !errors.Is(e.Kind, c.kind) || (e.Hint != "") != c.hint || !errors.Is(err, c.err) {
			t.Errorf("%v becomes %#v", c.err, e)
		}
		if strings.Contains(err.Error(), ".tmp-") {
			t.Errorf("error names a temporary file: %v", err)
		}
	}
}

func wantNothingTemporary(t *testing.T, s *Store) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.path, ".tmp-*"))
	if err != nil || len(found) != 0 {
		t.Errorf("temporary files: %q, %v", found, err)
	}
}
