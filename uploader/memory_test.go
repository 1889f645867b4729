package uploader

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"lifeboat/replica/blobstore"
)

// memory is a store in memory. Tests reach into blobs to damage them.
type memory struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

func newMemory() *memory { return &memory{blobs: map[string][]byte{}} }

func (m *memory) Put(_ context.Context, name string, content io.ReaderAt, size int64) error {
	data, err := io.ReadAll(io.NewSectionReader(content, 0, size))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blobs[name]; ok {
		return fmt.Errorf("%w: %s", blobstore.ErrExists, name)
	}
	m.blobs[name] = data
	return nil
}

func (m *memory) Get(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", blobstore.ErrNotFound, name)
	}
	if length < 0 {
		length = int64(len(data)) - offset
	}
	if offset < 0 || length < 0 || offset+length > int64(len(data)) {
		return nil, fmt.Errorf("%w: %s has no bytes %d+%d", blobstore.ErrRange, name, offset, length)
	}
	return io.NopCloser(bytes.NewReader(data[offset : offset+length])), nil
}

func (m *memory) Stat(_ context.Context, name string) (blobstore.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[name]
	if !ok {
		return blobstore.Info{}, fmt.Errorf("%w: %s", blobstore.ErrNotFound, name)
	}
	return blobstore.Info{Name: name, Size: int64(len(data))}, nil
}

func (m *memory) names(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.blobs)), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

func (m *memory) List(ctx context.Context, prefix string) iter.Seq2[blobstore.Info, error] {
	return func(yield func(blobstore.Info, error) bool) {
		for _, name := range m.names(prefix) {
			if !yield(m.Stat(ctx, name)) {
				return
			}
		}
	}
}

func (m *memory) Prefixes(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		last := ""
		for _, name := range m.names(prefix) {
			element, _, below := strings.Cut(strings.TrimPrefix(name, prefix), "/")
			if below && element != last && !yield(element, nil) {
				return
			}
			last = element
		}
	}
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, name)
	return nil
}

func (m *memory) String() string { return "memory" }

var _ blobstore.Store = (*memory)(nil)
