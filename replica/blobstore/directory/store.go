// Package directory keeps blobs as files below a directory: the embedded
// default, and the way to a NAS. A blob's name is its path below the root.
//
// A blob is written to a hidden temporary file in the root, synced, and then
// published by link(2), which fails if the name is taken: the file system
// decides between two writers, and a name never shows a part of a blob. Where
// the file system has no links, renameat2 with RENAME_NOREPLACE does the same.
// Directories are synced before Put returns, new ones and those of others that
// may be new. A crash leaves at most a temporary file; such files are removed
// when they are a day old.
//
// All paths go through os.Root, so that neither a name nor a symbolic link
// leads out of the root. The root is opened anew for each operation: a NAS that
// was mounted again is found, one that is gone is ErrStoreMissing.
package directory

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"

	"lifeboat/replica/blobstore"
)

// What is in a backup is as secret as the disks themselves.
const (
	fileMode      fs.FileMode = 0o600
	directoryMode fs.FileMode = 0o700
)

// Options say how to open a store.
type Options struct {
	// Create makes the root and its parents if they are missing.
	Create bool
}

// Store is a directory of blobs; it implements blobstore.Store.
type Store struct {
	path   string
	name   string
	synced syncedDirectories
	// swept is when stale temporary files were last looked for, in Unix
	// seconds.
	swept atomic.Int64
	// link publishes a file; tests put in its place what a file system
	// without links does.
	link func(root *os.Root, temporary, name string) error
}

var _ blobstore.Store = (*Store)(nil)

// Open returns the store at path, which must be absolute and exist unless
// options say to make it.
func Open(path string, options Options) (*Store, error) {
	s := &Store{
		path: filepath.Clean(path),
		name: (&url.URL{Scheme: "file", Path: filepath.Clean(path)}).String(),
		link: (*os.Root).Link,
	}
	if !filepath.IsAbs(path) {
		return nil, s.invalid("open", "", fmt.Errorf("path %q is not absolute", path))
	}
	if options.Create {
		if err := makeRoot(s.path); err != nil {
			return nil, s.fail("open", "", err)
		}
	}
	root, err := s.root("open", "")
	if err != nil {
		return nil, err
	}
	defer closeRoot(root)
	s.sweep(root)
	return s, nil
}

// String implements blobstore.Store.
func (s *Store) String() string { return s.name }

// Stat implements blobstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (blobstore.Info, error) {
	root, err := s.begin(ctx, "stat", name)
	if err != nil {
		return blobstore.Info{}, err
	}
	defer closeRoot(root)
	info, err := statBlob(root, name)
	if err != nil {
		return blobstore.Info{}, s.fail("stat", name, err)
	}
	return blobstore.Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Delete implements blobstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	root, err := s.begin(ctx, "delete", name)
	if err != nil {
		return err
	}
	defer closeRoot(root)
	_, err = statBlob(root, name)
	if err == nil {
		err = root.Remove(name)
	}
	if isAbsent(err) {
		return nil
	}
	if err == nil {
		err = syncDirectory(root, parentOf(name))
	}
	if err != nil {
		return s.fail("delete", name, err)
	}
	return nil
}

// begin checks what every operation on one blob checks first, and opens the
// root.
func (s *Store) begin(ctx context.Context, op, name string) (*os.Root, error) {
	if err := blobstore.ValidName(name); err != nil {
		return nil, s.invalid(op, name, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, s.fail(op, name, err)
	}
	return s.root(op, name)
}

func (s *Store) root(op, name string) (*os.Root, error) {
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return nil, s.failRoot(op, name, err)
	}
	return root, nil
}

// closeRoot closes a descriptor that nothing was written through, so there is
// no error that could matter.
func closeRoot(root *os.Root) { _ = root.Close() }

// statBlob returns the information of a blob's file. What is no regular file is
// no blob: neither a directory nor a symbolic link.
func statBlob(root *os.Root, name string) (fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	return info, err
}
