// Package blobstoretest holds every store to the contract of package blobstore,
// and makes stores fail where a test wants them to. Only tests import it.
package blobstoretest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"lifeboat/replica/blobstore"
)

// Suite says what to hold to the contract.
type Suite struct {
	// Open returns an empty store for one test.
	Open func(t *testing.T) blobstore.Store
	// OpenMissing returns a store whose container or directory is missing.
	OpenMissing func(t *testing.T) blobstore.Store
	// LargeSize is a size in bytes that needs several pieces; at least 1000.
	LargeSize int64
	// Page is how many blobs the store lists in one request, or 0 if it knows
	// no such thing. Small values keep the test quick.
	Page int
}

// Run runs the whole suite.
func Run(t *testing.T, s Suite) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"sizes", testSizes},
		{"create only", testCreateOnly},
		{"racing puts", testRacingPuts},
		{"racing large puts", testRacingLargePuts},
		{"short content", testShortContent},
		{"failing content", testFailingContent},
		{"ranges", testRanges},
		{"reader at", testReaderAt},
		{"read all", testReadAll},
		{"list", testList},
		{"list stops", testListStops},
		{"prefixes", testPrefixes},
		{"delete", testDelete},
		{"not found", testNotFound},
		{"bad names", testBadNames},
		{"cancelled", testCancelled},
		{"cancelled put", testCancelledPut},
		{"cancelled reader", testCancelledReader},
		{"missing store", testMissingStore},
		{"concurrent use", testConcurrentUse},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// Content returns size bytes that depend on the seed alone and do not compress.
func Content(seed uint64, size int64) []byte {
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = source.Read(content) // it never fails
	return content
}

// MustPut puts a blob, or ends the test.
func MustPut(t testing.TB, s blobstore.Store, name string, content []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
		t.Fatalf("put: %v", err)
	}
}

// MustGet returns a blob's content, or ends the test.
func MustGet(t testing.TB, s blobstore.Store, name string) []byte {
	t.Helper()
	content, err := get(t.Context(), s, name, 0, -1)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	return content
}

// Names returns the names of all blobs that begin with prefix, or ends the
// test.
func Names(t testing.TB, s blobstore.Store, prefix string) []string {
	t.Helper()
	names := []string{}
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		names = append(names, info.Name)
	}
	return names
}

func get(ctx context.Context, s blobstore.Store, name string, offset, length int64) (content []byte, err error) {
	r, err := s.Get(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	content, err = io.ReadAll(r)
	if closeErr := r.Close(); err == nil && closeErr != nil {
		return nil, fmt.Errorf("close after all was read: %w", closeErr)
	}
	return content, err
}
