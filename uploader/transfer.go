package uploader

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
)

// transfer bounds what all VMs together have under way: so many uploads, and
// one buffer more than that, so that the next segment can be built meanwhile.
// A buffer is never held while waiting for another, so the last one cannot be
// waited for by its holder.
type transfer struct {
	buffers chan *segment.Writer // nil stands for one that was not made yet
	uploads chan struct{}
	chunks  sync.Pool // of *[]byte, to read into
}

func newTransfer(parallel int) *transfer {
	t := &transfer{buffers: make(chan *segment.Writer, parallel+1), uploads: make(chan struct{}, parallel)}
	for range parallel + 1 {
		t.buffers <- nil
	}
	return t
}

// buffer waits for a free buffer; give it back with release.
func (t *transfer) buffer(ctx context.Context) (*segment.Writer, error) {
	select {
	case w := <-t.buffers:
		if w != nil {
			return w, nil
		}
		w, err := segment.NewWriter()
		if err != nil {
			t.buffers <- nil
		}
		return w, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// chunk returns a buffer of so many bytes; give it back to chunks.
func (t *transfer) chunk(size int) *[]byte {
	if b, ok := t.chunks.Get().(*[]byte); ok && len(*b) == size {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (t *transfer) release(w *segment.Writer) { t.buffers <- w }

// flight is a group of uploads for one VM. The first error stops the building
// of more segments, but uploads under way end as they end.
type flight struct {
	transfer   *transfer
	repository *replica.Repository
	vm         string
	uploads    sync.WaitGroup
	mu         sync.Mutex
	err        error
}

// put uploads a finished segment in the background and gives its buffer back.
// done is called when it is durable.
func (f *flight) put(ctx context.Context, diskID string, buffer *segment.Writer, sealed segment.Sealed, done func()) {
	f.uploads.Go(func() {
		defer f.transfer.release(buffer)
		select {
		case f.transfer.uploads <- struct{}{}:
			defer func() { <-f.transfer.uploads }()
		case <-ctx.Done():
			f.fail(ctx.Err())
			return
		}
		if err := putSegment(ctx, f.repository, f.vm, diskID, sealed); err != nil {
			f.fail(err)
			return
		}
		done()
	})
}

func (f *flight) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *flight) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// wait returns when no upload is under way any more. It joins err, the error of
// whoever built the segments.
func (f *flight) wait(err error) error {
	f.uploads.Wait()
	if uploading := f.failure(); uploading != nil && !errors.Is(err, uploading) {
		return errors.Join(uploading, err)
	}
	return err
}

// putSegment puts a segment. That one of its name is there already is success if
// it is the very same: then the reply to an earlier try was lost.
func putSegment(ctx context.Context, repository *replica.Repository, vm, diskID string, sealed segment.Sealed) error {
	err := repository.PutSegment(ctx, vm, diskID, sealed)
	if !errors.Is(err, blobstore.ErrExists) {
		return err
	}
	ref := sealed.Ref
	epoch, part, _ := replica.ParseSegmentName(ref.Name)
	_, found, readErr := repository.FindIndex(ctx, vm, diskID, replica.SegmentInfo{Name: ref.Name, Epoch: epoch, Part: part, Size: ref.Size})
	if readErr == nil && found == ref {
		return nil
	}
	// Another writer was faster; the next attempt looks for free names.
	return fmt.Errorf("segment name is taken: %w", errors.Join(err, readErr))
}
