package azure

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"lifeboat/replica/blobstore"
)

// readTries bounds how often a download that broke off is taken up again where
// it was, for each read.
const readTries = 3

// Get implements blobstore.Store.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.valid("get", name); err != nil {
		return nil, err
	}
	if offset < 0 || length <= 0 && length != -1 {
		return s.getNothing(ctx, name, offset, length)
	}
	want := blob.HTTPRange{Offset: offset}
	if length > 0 {
		want.Count = length
	}
	response, err := s.blob(name).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: want})
	if bloberror.HasCode(err, bloberror.InvalidRange) {
		// Nothing is left from the blob's end on, which may be what was
		// asked for; the service calls that an invalid range.
		return s.getNothing(ctx, name, offset, length)
	}
	if err != nil {
		return nil, s.fail(ctx, "get", name, err)
	}
	fail := func(err error) error { return s.failRead(ctx, name, err) }
	got, err := checkAnswer(response, length)
	if err != nil {
		if response.Body != nil {
			_ = response.Body.Close()
		}
		if errors.Is(err, errFewer) {
			// The service cuts a range that reaches beyond the end.
			return s.getNothing(ctx, name, offset, length)
		}
		return nil, s.fail(ctx, "get", name, err)
	}
	reader := response.NewRetryReader(ctx, &blob.RetryReaderOptions{MaxRetries: readTries, EarlyCloseAsError: true})
	return blobstore.Exactly(reader, got, fail), nil
}

var errFewer = errors.New("the service sent fewer bytes than were asked for")

// checkAnswer returns how many bytes the service is going to send, which must
// be what was asked for.
func checkAnswer(response blob.DownloadStreamResponse, length int64) (int64, error) {
	switch {
	case response.Body == nil:
		return 0, errors.New("the service sent no content")
	case response.ContentLength == nil:
		return 0, errNoLength
	case length < 0:
		return *response.ContentLength, nil
	case *response.ContentLength < length:
		return 0, errFewer
	case *response.ContentLength > length:
		return 0, fmt.Errorf("the service sent %d bytes, %d were asked for", *response.ContentLength, length)
	default:
		return length, nil
	}
}

// getNothing answers what no range of HTTP can say: it tells from the blob's
// size what is wrong with the range, or that it is empty.
func (s *Store) getNothing(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	info, err := s.Stat(ctx, name)
	if e, ok := errors.AsType[*blobstore.Error](err); ok {
		e.Op = "get"
		return nil, e
	}
	n, err := blobstore.Span(s, name, info.Size, offset, length)
	if err != nil {
		return nil, err
	}
	if n != 0 {
		return nil, s.fail(ctx, "get", name, fmt.Errorf("the service has no bytes from %d on of a blob of %d", offset, info.Size))
	}
	return io.NopCloser(eof{}), nil
}

// eof is a reader of nothing.
type eof struct{}

// Read implements io.Reader.
func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// failRead makes the store's error of one of reading a blob's content.
func (s *Store) failRead(ctx context.Context, name string, err error) error {
	if bloberror.HasCode(err, bloberror.ConditionNotMet) {
		// The download is tied to the blob that it began with.
		err = errors.New("the blob was replaced while it was read")
	}
	return s.fail(ctx, "get", name, err)
}
