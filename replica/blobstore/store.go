// Package blobstore is the contract of a place that keeps blobs: named,
// immutable runs of bytes. Package azure keeps them in Azure Blob Storage,
// package directory in a file system; package blobstoretest holds every store
// to this contract.
package blobstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Sentinel errors; a store's errors match one of them by errors.Is, or none
// when the cause is something else (a network fault, a full disk). All of a
// store's errors are of type *Error.
var (
	// ErrExists: Put found a blob of that name. Nothing was changed.
	ErrExists = errors.New("blob exists already")
	// ErrNotFound: there is no blob of that name.
	ErrNotFound = errors.New("blob not found")
	// ErrStoreMissing: the container or directory itself does not exist.
	ErrStoreMissing = errors.New("store does not exist")
	// ErrDenied: the credentials are missing, wrong, expired, or lack a right.
	ErrDenied = errors.New("access to the store denied")
	// ErrCorrupt: what was read is not what was written.
	ErrCorrupt = errors.New("blob is damaged")
	// ErrRange: Get was asked for bytes that the blob does not have.
	ErrRange = errors.New("range reaches beyond the end of the blob")
)

// Info describes a blob.
type Info struct {
	// Name is the whole name, with slashes, relative to the store's root.
	Name string
	// Size is in bytes.
	Size int64
	// Modified is when the blob was created, by the store's clock.
	Modified time.Time
}

// Store keeps blobs. All methods may be called concurrently.
//
// Names are slash-separated, made of the characters A-Z a-z 0-9 . _ - in each
// element, with no empty, "." or ".." element and no element that begins or
// ends with a dot; ValidName tells. Every method refuses other names. Nothing
// may lie below the name of a blob: a and a/b are not both blobs, since a
// directory cannot hold both.
type Store interface {
	// Put creates a blob and returns when it is durable. It never overwrites:
	// if the name exists, the error is ErrExists. A Put that fails or is
	// interrupted leaves no blob of that name, or the whole blob; never a
	// part of it; that blob may appear only after Put has returned, when the
	// store's reply was lost. Of several Puts of one name exactly one
	// succeeds. Large content is sent in checksummed pieces, several at a
	// time. content is read by several goroutines, each part more than once,
	// and not after Put has returned.
	Put(ctx context.Context, name string, content io.ReaderAt, size int64) error

	// Get returns length bytes of the blob from offset on; length -1 means to
	// its end. A range that reaches beyond the end is ErrRange. The reader
	// yields exactly the bytes asked for or an error, and is to be closed;
	// it fails once ctx is done.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)

	// Stat returns a blob's size and time.
	Stat(ctx context.Context, name string) (Info, error)

	// List yields the blobs whose names begin with prefix, in the order of
	// their names as bytes. Blobs that come or go meanwhile may be seen or
	// not. What is no valid name is passed over. A failure is yielded as the
	// last element.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]

	// Prefixes yields, for a prefix that ends with a slash or is empty, the
	// distinct next elements below it ("a/" with blobs a/b/c, a/b/d, a/e
	// yields "b"): elements that themselves have blobs below them.
	Prefixes(ctx context.Context, prefix string) iter.Seq2[string, error]

	// Delete removes a blob; it is no error if there is none.
	Delete(ctx context.Context, name string) error

	// String names the store for people: its URL without any secret.
	String() string
}
