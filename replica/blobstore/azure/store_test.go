package azure_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/blobstoretest/azurite"
)

// quick are options with which the tests need neither large content nor time.
func quick(s *azurite.Server) azure.Options {
	return azure.Options{Getenv: s.Getenv, BlockSize: 64 << 10, PageSize: 5, RetryDelay: time.Millisecond}
}

func open(t *testing.T, url string, options azure.Options) *azure.Store {
	t.Helper()
	s, err := azure.Open(t.Context(), url, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// create opens a new container.
func create(t *testing.T, s *azurite.Server, options azure.Options) *azure.Store {
	t.Helper()
	options.Create = true
	return open(t, s.URL(fresh()), options)
}

func fresh() string { return "c" + strings.ToLower(rand.Text()) }

func TestContract(t *testing.T) {
	server := emulator
	for name, prefix := range map[string]string{"container": "", "prefix": "/some/where"} {
		t.Run(name, func(t *testing.T) {
			blobstoretest.Run(t, blobstoretest.Suite{
				Open: func(t *testing.T) blobstore.Store {
					options := quick(server)
					options.Create = true
					return open(t, server.URL(fresh())+prefix, options)
				},
				OpenMissing: func(t *testing.T) blobstore.Store {
					return open(t, server.URL(fresh())+prefix, quick(server))
				},
				LargeSize: 5*64<<10 + 123,
				Page:      5,
			})
		})
	}
}

// TestPrefixApart opens two prefixes of which one begins like the other: what
// lies in one is not seen in the other.
func TestPrefixApart(t *testing.T) {
	server := emulator
	whole := create(t, server, quick(server))
	a := open(t, whole.String()+"/a", quick(server))
	ab := open(t, whole.String()+"/ab", quick(server))
	blobstoretest.MustPut(t, a, "x/y", []byte("a"))
	blobstoretest.MustPut(t, ab, "x/y", []byte("ab"))
	if got := blobstoretest.Names(t, whole, ""); strings.Join(got, " ") != "a/x/y ab/x/y" {
		t.Errorf("container lists %q", got)
	}
	for s, want := range map[*azure.Store]string{a: "a", ab: "ab"} {
		if got := blobstoretest.Names(t, s, ""); len(got) != 1 || got[0] != "x/y" {
			t.Errorf("%v lists %q", s, got)
		}
		if got := blobstoretest.MustGet(t, s, "x/y"); string(got) != want {
			t.Errorf("%v has %q", s, got)
		}
	}
}

// TestDefaultBlocks sends content of several blocks of the size that is used.
func TestDefaultBlocks(t *testing.T) {
	server := emulator
	s := create(t, server, azure.Options{Getenv: server.Getenv})
	want := blobstoretest.Content(1, 20<<20+1)
	blobstoretest.MustPut(t, s, "large", want)
	if got := blobstoretest.MustGet(t, s, "large"); !bytes.Equal(got, want) {
		t.Error("content differs")
	}
}
