package stores_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/blobstoretest/azurite"
	"lifeboat/replica/blobstore/stores"
)

func TestOpen(t *testing.T) {
	server := azurite.Start(t)
	options := stores.Options{Create: true, Azure: azure.Options{Getenv: server.Getenv}}
	connection := func(name string) string {
		if name == "AZURE_STORAGE_CONNECTION_STRING" {
			return server.ConnectionString()
		}
		return ""
	}
	root := filepath.Join(t.TempDir(), "with space", "replica")
	for _, open := range []struct {
		url     string
		options stores.Options
		name    string
	}{
		{"file://" + strings.ReplaceAll(root, " ", "%20"), options, "file://" + strings.ReplaceAll(root, " ", "%20")},
		{"file://localhost" + root + "2", options, "file://" + strings.ReplaceAll(root, " ", "%20") + "2"},
		{server.URL("one"+"-container") + "/a/b/", options, server.URL("one-container") + "/a/b"},
		{"azblob://two/x", stores.Options{Create: true, Azure: azure.Options{Getenv: connection}}, server.URL("two") + "/x"},
	} {
		s, err := stores.Open(t.Context(), open.url, open.options)
		if err != nil {
			t.Errorf("open %s: %v", open.url, err)
			continue
		}
		if s.String() != open.name {
			t.Errorf("store %s calls itself %s", open.url, s)
		}
		blobstoretest.MustPut(t, s, "a/b", []byte("content"))
		again, err := stores.Open(t.Context(), s.String(), stores.Options{Azure: open.options.Azure})
		if err != nil {
			t.Fatalf("open %s by its own name: %v", s, err)
		}
		if got := blobstoretest.MustGet(t, again, "a/b"); string(got) != "content" {
			t.Errorf("%s yields %q", again, got)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	nothing := func(string) string { return "" }
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, says string }{
		{"", "is no URL"},
		{"/mnt/nas", "is no URL"},
		{"container?sig=SECRET", "is no URL"},
		{"ftp://host/path", `scheme "ftp"`},
		{"s3://bucket", `scheme "s3"`},
		{"file:relative", "absolute path"},
		{"file://relative/path", `host "relative"`},
		{"file:///a?b", "more than a path"},
		{"file:///a%zz", "bad store URL"},
		{"file://" + file, "does not exist"},
		{"file://" + file + "/missing", "does not exist"},
		{"https://account.blob.core.windows.net", "without a container"},
		{"https://account.blob.core.windows.net/Container", "bad container name"},
		{"https://account.blob.core.windows.net/a--b/c", "bad container name"},
		{"https://account.blob.core.windows.net/container/../x", "bad prefix"},
		{"https://account.blob.core.windows.net/container?sv=1&sig=SECRET", "AZURE_STORAGE_SAS_TOKEN"},
		{"https://user:SECRET@account.blob.core.windows.net/container", "no credentials"},
		{"https://account.blob.core.windows.net:SECRET/container", "bad store URL"},
		{"https:///container", "without a host"},
		{"http://account.blob.core.windows.net/container", "write https"},
		{"http://127.0.0.1:10000", "without an account"},
		{"http://127.0.0.1:10000/devstoreaccount1", "without a container"},
		{"http://127.0.0.1:10000/devstoreaccount1/container", "no credentials"},
		{"azblob://container", "AZURE_STORAGE_ACCOUNT"},
		{"azblob://", "without a container"},
	} {
		_, err := stores.Open(t.Context(), c.url, stores.Options{Azure: azure.Options{Getenv: nothing}})
		if err == nil {
			t.Errorf("open %q succeeded", c.url)
			continue
		}
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("open %q: %v; want it to say %q", c.url, err, c.says)
		}
		if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("open %q: %v tells the secret", c.url, err)
		}
		if class := blobstore.ClassOf(err); class != blobstore.Unrecoverable {
			t.Errorf("open %q: %v", c.url, class)
		}
	}
	_, err := stores.Open(t.Context(), "file://"+file+"/missing", stores.Options{})
	if e, ok := errors.AsType[*blobstore.Error](err); !ok || !errors.Is(err, blobstore.ErrStoreMissing) || e.Hint == "" {
		t.Errorf("open of a missing directory: %v", err)
	}
}
