package directory_test

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/directory"
)

func open(t *testing.T) *directory.Store {
	t.Helper()
	s, err := directory.Open(filepath.Join(t.TempDir(), "new", "root"), directory.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	blobstoretest.Run(t, blobstoretest.Suite{
		Open: func(t *testing.T) blobstore.Store { return open(t) },
		OpenMissing: func(t *testing.T) blobstore.Store {
			root := t.TempDir()
			s, err := directory.Open(root, directory.Options{})
			if err != nil {
				t.Fatal(err)
			}
			remove(t, root)
			return s
		},
		LargeSize: 3<<20 + 123,
	})
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
