package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"lifeboat/replica/blobstore"
)

// temporaryPrefix begins the names of temporary files. No blob's name begins
// with a dot, so they are never mistaken for blobs.
const temporaryPrefix = ".tmp-"

// copySize is how much is copied between two looks at the context.
const copySize = 1 << 20

var (
	// errContent: the content given to Put is not as long as was said.
	errContent = errors.New("content is shorter than its size")
	// errNoPublish: there is no way to publish a file without the danger of
	// overwriting another.
	errNoPublish = errors.New("the file system has neither links nor RENAME_NOREPLACE")
)

// Put implements blobstore.Store.
func (s *Store) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if size < 0 {
		return s.invalid("put", name, fmt.Errorf("negative size %d", size))
	}
	root, err := s.begin(ctx, "put", name)
	if err != nil {
		return err
	}
	defer closeRoot(root)
	s.sweepDaily(root)
	// Most names that are taken are seen here, before anything is written.
	if _, err := root.Lstat(name); err == nil {
		return s.fail("put", name, fs.ErrExist)
	}
	if err := s.put(ctx, root, name, content, size); err != nil {
		return s.failPut(name, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, root *os.Root, name string, content io.ReaderAt, size int64) error {
	directory := parentOf(name)
	if err := s.synced.makeAll(root, directory); err != nil {
		return err
	}
	temporary := temporaryPrefix + rand.Text()
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer func() {
		// The link stays; after a rename there is nothing to remove. What
		// remains of a failure here is swept later.
		_ = f.Close()
		_ = root.Remove(temporary)
	}()
	if err := copyContent(ctx, f, content, size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := s.publish(root, f, temporary, name); err != nil {
		return err
	}
	return syncDirectory(root, directory)
}

// publish gives the written file its name, unless the name is taken.
func (s *Store) publish(root *os.Root, f *os.File, temporary, name string) error {
	err := s.link(root, temporary, name)
	if linksUnsupported(err) {
		err = renameNoReplace(root, temporary, name)
	}
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A network file system whose reply was lost has repeated the call, and
	// found what the first one did. It is ours if it is this very file.
	mine, statErr := f.Stat()
	there, lstatErr := root.Lstat(name)
	if statErr == nil && lstatErr == nil && os.SameFile(mine, there) {
		return nil
	}
	return err
}

func linksUnsupported(err error) bool {
	for _, code := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK, unix.EINVAL} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

func renameNoReplace(root *os.Root, temporary, name string) error {
	from, err := root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := root.Open(parentOf(name))
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }()
	err = unix.Renameat2(int(from.Fd()), temporary, int(to.Fd()), path.Base(name), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errNoPublish
	}
	return err
}

func copyContent(ctx context.Context, f io.Writer, content io.ReaderAt, size int64) error {
	buffer := make([]byte, min(copySize, size))
	for offset := int64(0); offset < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buffer[:min(copySize, size-offset)]
		n, err := content.ReadAt(piece, offset)
		if n < len(piece) {
			if errors.Is(err, io.EOF) {
				return errContent
			}
			return err
		}
		if _, err := f.Write(piece); err != nil {
			return err
		}
		offset += int64(n)
	}
	return nil
}

// failPut makes the store's error of one of put. The root and the name were
// fine before, so a path that does not exist now is a fault, not an answer.
func (s *Store) failPut(name string, err error) error {
	if !isAbsent(err) {
		return s.fail("put", name, err)
	}
	e := &blobstore.Error{Op: "put", Name: name, Store: s.name, Err: plain(err)}
	if errors.Is(err, unix.ENOTDIR) {
		e.Class = blobstore.Unrecoverable
		e.Hint = "what should be a directory on the way to it is a blob"
	}
	return e
}
