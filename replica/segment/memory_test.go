package segment

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"lifeboat/replica/blobstore"
)

// oneBlob is a store of a single blob, for reading; the rest of the contract is
// nobody's concern here.
type oneBlob struct {
	blobstore.Store
	content []byte
}

func (s oneBlob) Get(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length < 0 {
		length = int64(len(s.content)) - offset
	}
	if offset < 0 || offset+length > int64(len(s.content)) {
		return nil, fmt.Errorf("%w: %s has no bytes %d+%d", blobstore.ErrRange, name, offset, length)
	}
	return io.NopCloser(bytes.NewReader(s.content[offset : offset+length])), nil
}
