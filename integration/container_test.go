package integration

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/stores"
)

// copyContainer copies all blobs of the container to files, as any tool would,
// and returns the URL of the directory: a store, too.
func (s *site) copyContainer(t *testing.T) string {
	t.Helper()
	from, err := stores.Open(t.Context(), s.store, stores.Options{Azure: azure.Options{Getenv: s.azurite.Getenv}})
	must(t, err)
	dir := filepath.Join(s.dir, "copy")
	var copies errgroup.Group
	copies.SetLimit(restorers)
	for blob, err := range from.List(t.Context(), "") {
		must(t, err)
		copies.Go(func() error { return copyBlob(t, from, blob, filepath.Join(dir, blob.Name)) })
	}
	must(t, copies.Wait())
	return "file://" + dir
}

func copyBlob(t *testing.T, from blobstore.Store, blob blobstore.Info, to string) error {
	content, err := from.Get(t.Context(), blob.Name, 0, blob.Size)
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // read to its end
	data, err := io.ReadAll(content)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	return err
}
