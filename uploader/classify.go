package uploader

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
	"lifeboat/uploader/api"
)

// class tells what follows from an error.
type class int

const (
	recoverable   class = iota // try again by the schedule
	unrecoverable              // wait for an operator
	lookAgain                  // the situation has changed: decide anew at once
	filterAway                 // ask the filter again in a second
	stopping                   // the sidecar is being stopped
)

// errDiverged: the container holds what this sidecar did not write.
var errDiverged = errors.New("the container's history is not the filter's")

// classify judges an error and says it in the words of the API. An error that
// nobody knows is recoverable: it must not stop replication for good.
func classify(ctx context.Context, err error) (class, *api.Error) {
	e := &api.Error{Code: api.CodeInternal, Message: err.Error()}
	as := func(c class, code, hint string) (class, *api.Error) {
		e.Code, e.Hint = code, hint
		if b, ok := errors.AsType[*blobstore.Error](err); ok && b.Hint != "" {
			e.Hint = b.Hint
		}
		return c, e
	}
	var damage *segment.DamageError
	var divergence *replica.DivergenceError
	switch {
	case ctx.Err() != nil:
		return as(stopping, api.CodeCancelled, "")
	case errors.Is(err, control.ErrUnavailable):
		return as(filterAway, api.CodeFilterAway, "start it with: lifeboat mount")
	case errors.Is(err, tracker.ErrEpochGone), errors.Is(err, tracker.ErrWalkRequired):
		return as(lookAgain, api.CodePointGivenUp, "")
	case errors.Is(err, errDiverged), errors.As(err, &divergence):
		return as(unrecoverable, api.CodeDivergence, "another sidecar may write to the same container, or the filter's state was put back: "+
			"stop the other one and run lifeboat resume; if that does not help, unprotect the VM and protect it anew")
	case errors.As(err, &damage):
		return as(unrecoverable, api.CodeDamaged, "recovery points that rest on it cannot be restored: put the blob back from a copy and run lifeboat resume, "+
			"or unprotect the VM and protect it anew")
	case errors.Is(err, replica.ErrFormat):
		return as(unrecoverable, api.CodeStoreRefused, "use the version of lifeboat that wrote the container, or a newer one")
	case errors.Is(err, tracker.ErrNotFound):
		return as(filterAway, api.CodeNotFound, "")
	}
	if refused, ok := errors.AsType[*control.Error](err); ok {
		return as(recoverable, api.CodeInternal, refused.Hint)
	}
	if b, ok := errors.AsType[*blobstore.Error](err); ok {
		return classifyStore(b, as)
	}
	var path *fs.PathError
	if errors.As(err, &path) || errors.Is(err, syscall.ENOSPC) {
		return as(recoverable, api.CodeLocalState, "look at the sidecar's state directory: is there space, is it writable?")
	}
	return recoverable, e
}

func classifyStore(b *blobstore.Error, as func(class, string, string) (class, *api.Error)) (class, *api.Error) {
	switch {
	case errors.Is(b, blobstore.ErrDenied):
		return as(unrecoverable, api.CodeStoreDenied, "check the credentials and their rights, then run: lifeboat resume")
	case errors.Is(b, blobstore.ErrStoreMissing):
		return as(unrecoverable, api.CodeStoreMissing, "create it, then run: lifeboat resume")
	}
	switch b.Class {
	case blobstore.Fenced:
		return as(unrecoverable, api.CodeFenced, "another sidecar writes to the replica: stop it, then run: lifeboat resume")
	case blobstore.Unrecoverable:
		return as(unrecoverable, api.CodeStoreRefused, "correct the cause, then run: lifeboat resume")
	}
	return as(recoverable, api.CodeStoreAway, "it is tried again by itself; to try at once: lifeboat resume")
}
