// Package azure keeps blobs in a container of Azure Blob Storage, as block
// blobs. It is the only package that knows azblob.
//
// # Creating exactly once
//
// A blob is created by one request that carries If-None-Match: *, either Put
// Blob with the whole content or, for content longer than a block, Put Block
// List after the blocks were staged. The service decides between two writers,
// and a name never shows a part of a blob.
//
// When the reply to that request is lost, the SDK repeats it, and the
// repetition is refused because the blob exists by now. So each call of Put
// draws a random id of 16 bytes and creates the blob with the id in its
// metadata. When told that the blob exists, Put reads the metadata: its own id
// proves that its own earlier try took effect, since no other call knows the
// id and nobody overwrites; everything else is ErrExists. Equal content proves
// nothing: two writers may have made the same manifest, and one must lose. If
// the metadata cannot be read, the outcome is unknown, and the error says so by
// its class, Recoverable: the next Put then finds the blob.
//
// Staged blocks of all writers of a name lie in one pool, and committing one
// writer's list discards the others' blocks. So the ids of blocks begin with
// the id of the Put: no blob is ever made of blocks of two writers. A list that
// is refused because its blocks are gone has met another writer.
//
// # Integrity
//
// Each request that carries content carries its MD5, computed from an earlier
// reading of the same bytes; the service refuses content that differs. What
// memory or the network damaged is read and sent again, three times.
package azure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"lifeboat/replica/blobstore"
)

// Store is a container, or the blobs below a prefix in it; it implements
// blobstore.Store.
type Store struct {
	container *container.Client
	// prefix is empty or ends with a slash.
	prefix  string
	name    string
	options Options
}

var _ blobstore.Store = (*Store)(nil)

// Open returns the store at a URL of one of the forms
//
//	azblob://CONTAINER[/PREFIX]
//	https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX]
//	http://127.0.0.1:PORT/ACCOUNT/CONTAINER[/PREFIX]
//
// with credentials from the environment: see Options. It makes no request
// unless the options say to create the container, so that a site without
// network can start.
func Open(ctx context.Context, rawURL string, options Options) (*Store, error) {
	options = options.withDefaults()
	target, err := parseURL(rawURL)
	if err != nil {
		return nil, &blobstore.Error{Op: "open", Class: blobstore.Unrecoverable, Err: err}
	}
	access, err := findAccess(&target, options.Getenv)
	if err != nil {
		return nil, &blobstore.Error{
			Op: "open", Store: target.String(), Class: blobstore.Unrecoverable, Kind: blobstore.ErrDenied, Err: err,
		}
	}
	client, err := access.connect(target, options)
	if err != nil {
		return nil, &blobstore.Error{
			Op: "open", Store: target.String(), Class: blobstore.Unrecoverable, Kind: blobstore.ErrDenied, Err: scrubbed(err),
		}
	}
	s := &Store{container: client, prefix: target.blobPrefix(), name: target.String(), options: options}
	if options.Create {
		if _, err := client.Create(ctx, nil); err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
			return nil, s.fail(ctx, "create", "", err)
		}
	}
	return s, nil
}

// String implements blobstore.Store.
func (s *Store) String() string { return s.name }

// Stat implements blobstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (blobstore.Info, error) {
	if err := s.valid("stat", name); err != nil {
		return blobstore.Info{}, err
	}
	properties, err := s.properties(ctx, name)
	if err != nil {
		return blobstore.Info{}, s.fail(ctx, "stat", name, err)
	}
	info := blobstore.Info{Name: name, Modified: modified(properties.CreationTime, properties.LastModified)}
	if properties.ContentLength == nil {
		return blobstore.Info{}, s.fail(ctx, "stat", name, errNoLength)
	}
	info.Size = *properties.ContentLength
	return info, nil
}

// Delete implements blobstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.valid("delete", name); err != nil {
		return err
	}
	_, err := s.blob(name).Delete(ctx, nil)
	if err == nil || bloberror.HasCode(err, bloberror.BlobNotFound) {
		return nil
	}
	return s.fail(ctx, "delete", name, err)
}

var errNoLength = errors.New("the service's answer does not tell the blob's length")

func (s *Store) valid(op, name string) error {
	return s.refuse(op, name, blobstore.ValidName(name))
}

// refuse makes the store's error of a call that is wrong by itself, and nil of
// nil.
func (s *Store) refuse(op, name string, cause error) error {
	if cause == nil {
		return nil
	}
	e := blobstore.Invalid(op, name, cause)
	e.Store = s.name
	return e
}

func (s *Store) blob(name string) *blob.Client { return s.container.NewBlobClient(s.prefix + name) }

func (s *Store) properties(ctx context.Context, name string) (blob.GetPropertiesResponse, error) {
	properties, err := s.blob(name).GetProperties(ctx, nil)
	if err != nil {
		return properties, fmt.Errorf("properties: %w", err)
	}
	return properties, nil
}

// modified returns when a blob was created; the time of the last change is the
// same, unless somebody changed its properties.
func modified(created, changed *time.Time) time.Time {
	switch {
	case created != nil:
		return *created
	case changed != nil:
		return *changed
	default:
		return time.Time{}
	}
}
