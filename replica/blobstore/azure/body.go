package azure

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

var (
	errShort   = errors.New("content is shorter than its size")
	errRevoked = errors.New("the call that gave the content has returned")
)

// body is a piece of the content of a Put, as the SDK wants it: seekable, since
// it is sent again when a request is repeated. The transport may go on reading
// a request's body after the request has failed; revoke ends that, so that the
// content is the caller's own again when Put returns.
type body struct {
	content     io.ReaderAt
	start, size int64

	mu      sync.Mutex
	at      int64
	revoked bool
	broken  error
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revoked {
		return 0, errRevoked
	}
	if b.broken != nil {
		return 0, b.broken
	}
	if b.at >= b.size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), b.size-b.at)
	n, err := b.content.ReadAt(p[:want], b.start+b.at)
	b.at += int64(n)
	if int64(n) == want {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = errShort
	}
	b.broken = contentError{err}
	return n, b.broken
}

// Seek implements io.Seeker.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	b.at = offset
	return offset, nil
}

// Close implements io.Closer. The content is the caller's to close.
func (b *body) Close() error { return nil }

// revoke waits for a Read that is under way and makes all later ones fail. It
// returns what was wrong with the content, if anything was.
func (b *body) revoke() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revoked = true
	return b.broken
}

// contentError is a fault of the content. It tells the SDK that sending it
// again does not help.
type contentError struct{ error }

// NonRetriable marks the error for the SDK.
func (contentError) NonRetriable() {}

// Unwrap returns the cause.
func (e contentError) Unwrap() error { return e.error }
