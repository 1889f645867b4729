package uploader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
	"lifeboat/uploader/api"
)

func TestClassify(t *testing.T) {
	store := func(kind error, class blobstore.Class) error {
		return &blobstore.Error{Op: "put", Kind: kind, Class: class, Err: errors.New("cause")}
	}
	for name, c := range map[string]struct {
		err  error
		want class
		code string
	}{
		"network":             {store(nil, blobstore.Recoverable), recoverable, api.CodeStoreAway},
		"credentials":         {store(blobstore.ErrDenied, blobstore.Unrecoverable), unrecoverable, api.CodeStoreDenied},
		"no container":        {store(blobstore.ErrStoreMissing, blobstore.Unrecoverable), unrecoverable, api.CodeStoreMissing},
		"bad request":         {store(nil, blobstore.Unrecoverable), unrecoverable, api.CodeStoreRefused},
		"another writer":      {store(nil, blobstore.Fenced), unrecoverable, api.CodeFenced},
		"name taken":          {store(blobstore.ErrExists, blobstore.Logic), recoverable, api.CodeStoreAway},
		"damage":              {&segment.DamageError{Blob: "x", Cause: store(blobstore.ErrNotFound, blobstore.Logic)}, unrecoverable, api.CodeDamaged},
		"other manifest":      {&replica.DivergenceError{Blob: "x"}, unrecoverable, api.CodeDivergence},
		"other history":       {errDiverged, unrecoverable, api.CodeDivergence},
		"newer format":        {replica.ErrFormat, unrecoverable, api.CodeStoreRefused},
		"filter away":         {control.ErrUnavailable, filterAway, api.CodeFilterAway},
		"epoch merged":        {tracker.ErrEpochGone, lookAgain, api.CodePointGivenUp},
		"walk required":       {tracker.ErrWalkRequired, lookAgain, api.CodePointGivenUp},
		"VM gone":             {tracker.ErrNotFound, filterAway, api.CodeNotFound},
		"disk cannot be read": {&control.Error{Code: control.CodeInternal, Message: "input/output error"}, recoverable, api.CodeInternal},
		"state directory":     {&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, recoverable, api.CodeLocalState},
		"no space":            {syscall.ENOSPC, recoverable, api.CodeLocalState},
		"unknown":             {errors.New("?"), recoverable, api.CodeInternal},
	} {
		got, e := classify(t.Context(), fmt.Errorf("ship: %w", c.err))
		if got != c.want || e.Code != c.code || e.Message == "" {
			t.Errorf("%s: class %d, %+v", name, got, e)
		}
		if got == unrecoverable && e.Hint == "" {
			t.Errorf("%s: an operator is not told what to do", name)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, _ := classify(ended, store(nil, blobstore.Recoverable)); got != stopping {
		t.Errorf("while stopping: class %d", got)
	}
	hinted := &blobstore.Error{Op: "put", Kind: blobstore.ErrDenied, Class: blobstore.Unrecoverable, Hint: "renew the token"}
	if _, e := classify(t.Context(), hinted); e.Hint != "renew the token" {
		t.Errorf("the store's hint is lost: %+v", e)
	}
}
