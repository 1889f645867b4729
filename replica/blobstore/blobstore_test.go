package blobstore_test

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"lifeboat/replica/blobstore"
)

// FuzzValidName holds ValidName to what it is for: no valid name means another
// path than it says, and each beginning of it is a valid prefix.
func FuzzValidName(f *testing.F) {
	for _, name := range []string{"a", "a/b.seg", "../a", "a//b", ".a", "a.", "a/./b", "A-_/0", "a\x00b", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if blobstore.ValidName(name) != nil {
			return
		}
		if path.Clean("/"+name) != "/"+name || strings.Contains(name, "..") && path.Dir(name) == ".." {
			t.Errorf("%q is valid and means another path", name)
		}
		for i := range len(name) + 1 {
			if err := blobstore.ValidPrefix(name[:i]); err != nil {
				t.Errorf("%q is valid, its beginning is not: %v", name, err)
			}
		}
	})
}

func TestErrorText(t *testing.T) {
	cause := errors.New("no route to host")
	for _, c := range []struct {
		err  *blobstore.Error
		want string
	}{
		{
			&blobstore.Error{Op: "put", Name: "a/b", Store: "file:///x", Kind: blobstore.ErrExists},
			"put a/b in file:///x: blob exists already",
		},
		{
			&blobstore.Error{Op: "list", Store: "azblob://c", Err: cause, Hint: "check the network"},
			"list in azblob://c: no route to host; check the network",
		},
		{
			blobstore.NewError("get", "a", blobstore.ErrCorrupt, cause),
			"get a: blob is damaged: no route to host",
		},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("error says %q, want %q", got, c.want)
		}
	}
}

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want blobstore.Class
	}{
		{errors.New("unknown"), blobstore.Recoverable},
		{nil, blobstore.Recoverable},
		{blobstore.ErrDenied, blobstore.Unrecoverable},
		{fmt.Errorf("ship: %w", blobstore.NewError("put", "a", blobstore.ErrExists, nil)), blobstore.Logic},
		{errors.Join(io.EOF, &blobstore.Error{Class: blobstore.Fenced}), blobstore.Fenced},
		{&blobstore.Error{Kind: blobstore.ErrDenied, Class: blobstore.Recoverable}, blobstore.Recoverable},
	} {
		if got := blobstore.ClassOf(c.err); got != c.want {
			t.Errorf("class of %v is %v, want %v", c.err, got, c.want)
		}
	}
}

// TestExactly reads from a source that has less, as much, or more than it
// should: an end that comes too early is never taken for the end.
func TestExactly(t *testing.T) {
	mark := errors.New("marked")
	for _, has := range []int{0, 9, 10, 11, 1000} {
		r := blobstore.Exactly(io.NopCloser(strings.NewReader(strings.Repeat("x", has))), 10, func(err error) error {
			return errors.Join(mark, err)
		})
		got, err := io.ReadAll(r)
		if has >= 10 && (err != nil || len(got) != 10) {
			t.Errorf("10 of %d bytes: got %d, %v", has, len(got), err)
		}
		if has < 10 && (!errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, mark)) {
			t.Errorf("10 of %d bytes: got %d, %v", has, len(got), err)
		}
	}
}
