package directory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"lifeboat/replica/blobstore"
)

func (s *Store) invalid(op, name string, cause error) error {
	e := blobstore.Invalid(op, name, cause)
	e.Store = s.name
	return e
}

// failRoot makes the store's error of one of opening the root.
func (s *Store) failRoot(op, name string, err error) error {
	info, statErr := os.Stat(s.path)
	if isAbsent(err) || statErr == nil && !info.IsDir() {
		e := blobstore.NewError(op, name, blobstore.ErrStoreMissing, plain(err))
		e.Store = s.name
		e.Hint = "create the directory, or mount the file system that holds it"
		return e
	}
	return s.fail(op, name, err)
}

// fail makes the store's error of one of the file system.
func (s *Store) fail(op, name string, err error) error {
	e := &blobstore.Error{Op: op, Name: name, Store: s.name, Err: plain(err)}
	if code, ok := errors.AsType[syscall.Errno](err); ok {
		e.Code = code.Error()
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case isAbsent(err):
		e.Kind = blobstore.ErrNotFound
	case errors.Is(err, fs.ErrExist):
		e.Kind = blobstore.ErrExists
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Kind = blobstore.ErrDenied
		e.Hint = "check the owner, the mode and the mount options of the directory"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "make room on the file system, or raise the quota"
	case isEscape(err):
		e.Kind = blobstore.ErrDenied
		e.Hint = "a symbolic link leads out of the store; mount what it points to in its place"
	case errors.Is(err, errContent), errors.Is(err, errNoPublish):
		e.Class = blobstore.Unrecoverable
	}
	if e.Kind != nil {
		e.Class = blobstore.NewError(op, name, e.Kind, nil).Class
	}
	return e
}

// isAbsent tells that a path does not exist: also because what should be one
// of its directories is a file.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// isEscape recognises the refusal of os.Root, which has no exported error.
func isEscape(err error) bool {
	return err != nil && strings.Contains(plain(err).Error(), "escapes")
}

// plain takes the path from an error of the file system: the store's error
// names the blob already, and a temporary file's name helps nobody.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
