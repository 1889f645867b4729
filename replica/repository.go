package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
)

// Repository is a container that holds replicas. Its methods may be called
// concurrently.
type Repository struct {
	store blobstore.Store
	about about
}

// about is the document that makes a container a repository.
type about struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// ErrNoRepository tells that the store is reachable, but holds no replicas.
var ErrNoRepository = errors.New("there is no " + repositoryName + ": nothing was ever replicated to here")

// Create makes an empty store a repository. If it is one already, the error
// matches blobstore.ErrExists.
func Create(ctx context.Context, store blobstore.Store) (*Repository, error) {
	r := &Repository{store: store, about: about{Format: format, ID: NewID(), Created: time.Now().UTC()}}
	data, err := encodeDocument(r.about)
	if err == nil {
		err = put(ctx, store, repositoryName, data)
	}
	if err != nil {
		return nil, fmt.Errorf("creating a repository in %s: %w", store, err)
	}
	return r, nil
}

// Open opens a repository. Without one the error matches ErrNoRepository.
func Open(ctx context.Context, store blobstore.Store) (*Repository, error) {
	r := &Repository{store: store}
	data, err := r.read(ctx, repositoryName)
	if errors.Is(err, blobstore.ErrNotFound) {
		err = ErrNoRepository
	}
	if err == nil {
		err = r.about.decode(data)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the repository in %s: %w", store, err)
	}
	return r, nil
}

// OpenOrCreate opens the repository, or creates it where there is none; of
// several that do so at once, all get the same one.
func OpenOrCreate(ctx context.Context, store blobstore.Store) (*Repository, error) {
	r, err := Open(ctx, store)
	if !errors.Is(err, ErrNoRepository) {
		return r, err
	}
	r, err = Create(ctx, store)
	if errors.Is(err, blobstore.ErrExists) {
		return Open(ctx, store)
	}
	return r, err
}

func (a *about) decode(data []byte) error {
	if err := decodeDocument(data, a); err != nil {
		return &segment.DamageError{Blob: repositoryName, Cause: err}
	}
	if !ValidID(a.ID) {
		return &segment.DamageError{Blob: repositoryName, Cause: fmt.Errorf("repository id %q is not 32 hexadecimal digits", a.ID)}
	}
	return nil
}

// ID returns the repository's random identity.
func (r *Repository) ID() string { return r.about.ID }

// Store returns the store that the repository lies in.
func (r *Repository) Store() blobstore.Store { return r.store }

// read returns the content of a document. A missing one is a DamageError that
// also matches blobstore.ErrNotFound: documents are only read by names that
// something told to exist.
func (r *Repository) read(ctx context.Context, name string) ([]byte, error) {
	data, err := blobstore.ReadAll(ctx, r.store, name, maxDocument)
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, blobstore.ErrCorrupt) {
		return nil, &segment.DamageError{Blob: name, Cause: err}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}

func put(ctx context.Context, store blobstore.Store, name string, data []byte) error {
	return store.Put(ctx, name, bytes.NewReader(data), int64(len(data)))
}

// putOnce puts a document that is the same whoever puts it: finding it there
// already, byte by byte, is success. It makes a Put whose answer was lost safe
// to repeat.
func (r *Repository) putOnce(ctx context.Context, name string, data []byte) error {
	err := put(ctx, r.store, name, data)
	if !errors.Is(err, blobstore.ErrExists) {
		return err
	}
	found, readErr := r.read(ctx, name)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	if !bytes.Equal(found, data) {
		return &DivergenceError{Blob: name}
	}
	return nil
}

// DivergenceError tells that the container's history is not the one that the
// caller knows: somebody else has written, or something was lost. Whoever
// writes has to stop and resynchronize.
type DivergenceError struct {
	// Blob is where it showed.
	Blob string
	// Cause says how, if it is not that the blob exists with other content.
	Cause error
}

// Error names the blob and how the histories differ.
func (e *DivergenceError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("the replica's history has diverged at %s: %v; resynchronization is required", e.Blob, e.Cause)
	}
	return fmt.Sprintf("the replica's history has diverged: %s exists with other content than ours; another writer was there, resynchronization is required", e.Blob)
}

// Unwrap returns the cause.
func (e *DivergenceError) Unwrap() error { return e.Cause }
