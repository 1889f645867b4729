package directory

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"lifeboat/replica/blobstore"
)

// List implements blobstore.Store. At any time it holds the entries of one
// directory for each level of the tree.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blobstore.Info, error] {
	return func(yield func(blobstore.Info, error) bool) {
		if err := blobstore.ValidPrefix(prefix); err != nil {
			yield(blobstore.Info{}, s.invalid("list", prefix, err))
			return
		}
		root, err := s.root("list", prefix)
		if err != nil {
			yield(blobstore.Info{}, err)
			return
		}
		defer closeRoot(root)
		err = walk(ctx, root, prefix, func(info blobstore.Info) error {
			if !yield(info, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(blobstore.Info{}, s.fail("list", prefix, err))
		}
	}
}

// Prefixes implements blobstore.Store. A directory without a blob somewhere
// below it is no element: directories are no part of the contract.
func (s *Store) Prefixes(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := blobstore.ValidDirectory(prefix); err != nil {
			yield("", s.invalid("list", prefix, err))
			return
		}
		root, err := s.root("list", prefix)
		if err != nil {
			yield("", err)
			return
		}
		defer closeRoot(root)
		if err := prefixes(ctx, root, prefix, yield); err != nil && !errors.Is(err, errStopped) {
			yield("", s.fail("list", prefix, err))
		}
	}
}

// errStopped ends a walk whose caller has seen enough.
var errStopped = errors.New("stopped")

func prefixes(ctx context.Context, root *os.Root, prefix string, yield func(string, error) bool) error {
	entries, err := readDirectory(root, path.Clean(prefix))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.isDirectory {
			continue
		}
		full := false
		err := walk(ctx, root, prefix+e.name+"/", func(blobstore.Info) error {
			full = true
			return errStopped
		})
		if err != nil && !errors.Is(err, errStopped) {
			return err
		}
		if full && !yield(e.name, nil) {
			return errStopped
		}
	}
	return nil
}

// walk visits the blobs whose names begin with prefix, in their order.
func walk(ctx context.Context, root *os.Root, prefix string, visit func(blobstore.Info) error) error {
	above, begin := path.Split(prefix)
	entries, err := readDirectory(root, path.Clean(above))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.name, begin) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := above + e.name
		if e.isDirectory {
			if err := walk(ctx, root, name+"/", visit); err != nil {
				return err
			}
			continue
		}
		info, err := statBlob(root, name)
		if isAbsent(err) {
			continue // deleted since the directory was read
		}
		if err != nil {
			return err
		}
		if err := visit(blobstore.Info{Name: name, Size: info.Size(), Modified: info.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}

type entry struct {
	name        string
	isDirectory bool
}

// key is what the entry's place in the order of whole names depends on: below a
// directory names go on with a slash, which sorts before letters and digits but
// after "-" and ".".
func (e entry) key() string {
	if e.isDirectory {
		return e.name + "/"
	}
	return e.name
}

// readDirectory returns what may be blobs or hold blobs, in the order of the
// blobs' whole names; nothing if there is no such directory.
func readDirectory(root *os.Root, directory string) ([]entry, error) {
	f, err := root.Open(directory)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var entries []entry
	for {
		batch, err := f.ReadDir(1024)
		for _, d := range batch {
			if blobstore.ValidName(d.Name()) != nil {
				continue
			}
			if kind := d.Type(); kind.IsDir() || kind.IsRegular() {
				entries = append(entries, entry{d.Name(), kind == fs.ModeDir})
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if isAbsent(err) {
			return nil, nil // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key(), b.key()) })
	return entries, nil
}
