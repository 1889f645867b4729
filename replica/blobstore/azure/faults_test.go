package azure_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/blobstoretest/azurite"
)

// wire stands between a store and the service.
type wire func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (w wire) RoundTrip(request *http.Request) (*http.Response, error) {
	return w(request, func() (*http.Response, error) { return http.DefaultTransport.RoundTrip(request) })
}

func (w wire) client() *http.Client { return &http.Client{Transport: w} }

// creates tells whether a request is the one that creates a blob.
func creates(request *http.Request) bool {
	return request.Method == http.MethodPut && request.Header.Get("If-None-Match") == "*"
}

// carriesChecksum looks for the header in any spelling: the SDK has its own.
func carriesChecksum(request *http.Request) bool {
	for name := range request.Header {
		if strings.EqualFold(name, "Content-MD5") {
			return true
		}
	}
	return false
}

var errReset = errors.New("connection reset")

// loseReply sends the request and loses the answer.
func loseReply(send func() (*http.Response, error)) (*http.Response, error) {
	response, err := send()
	if err == nil {
		err = errors.Join(errReset, response.Body.Close())
	}
	return nil, err
}

// TestLostReply loses the reply to the request that creates the blob: the Put
// has succeeded, and must say so, however often the SDK asked again.
func TestLostReply(t *testing.T) {
	server := emulator
	container := create(t, server, quick(server))
	for _, size := range []int64{0, 1000, 200_000} {
		for lost := int32(1); lost <= 2; lost++ {
			var seen atomic.Int32
			options := quick(server)
			options.Client = wire(func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
				if creates(request) && seen.Add(1) <= lost {
					return loseReply(send)
				}
				return send()
			}).client()
			s := open(t, container.String(), options)
			name, want := strings.ToLower(fresh()), blobstoretest.Content(1, size)
			blobstoretest.MustPut(t, s, name, want)
			if seen.Load() != lost+1 {
				t.Errorf("the blob was created by %d requests, want %d", seen.Load(), lost+1)
			}
			if got := blobstoretest.MustGet(t, s, name); !bytes.Equal(got, want) {
				t.Error("content differs")
			}
		}
	}
}

// TestAllRepliesLost loses every reply: Put cannot know, so it fails in a way
// that makes the caller try again, and that is told that the blob exists.
func TestAllRepliesLost(t *testing.T) {
	server := emulator
	container := create(t, server, quick(server))
	options := quick(server)
	options.Client = wire(func(_ *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		return loseReply(send)
	}).client()
	s := open(t, container.String(), options)
	err := s.Put(t.Context(), "blob", bytes.NewReader([]byte("x")), 1)
	if !errors.Is(err, errReset) || blobstore.ClassOf(err) != blobstore.Recoverable || errors.Is(err, blobstore.ErrExists) {
		t.Errorf("put whose replies are lost: %v", err)
	}
	if err := container.Put(t.Context(), "blob", bytes.NewReader([]byte("x")), 1); !errors.Is(err, blobstore.ErrExists) {
		t.Errorf("put of a blob that exists: %v", err)
	}
}

// TestRetryMeetsOtherWriter lets another writer create the blob, with the same
// content, between two tries of which the first never arrived: the Put has lost.
func TestRetryMeetsOtherWriter(t *testing.T) {
	server := emulator
	container := create(t, server, quick(server))
	for name, size := range map[string]int64{"small": 1000, "large": 200_000} {
		content := blobstoretest.Content(1, size)
		var once sync.Once
		options := quick(server)
		options.Client = wire(func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			failed := false
			if creates(request) {
				once.Do(func() {
					blobstoretest.MustPut(t, container, name, content)
					failed = true
				})
			}
			if failed {
				return nil, errReset
			}
			return send()
		}).client()
		s := open(t, container.String(), options)
		if err := s.Put(t.Context(), name, bytes.NewReader(content), size); !errors.Is(err, blobstore.ErrExists) {
			t.Errorf("put that lost against another writer: %v, want ErrExists", err)
		}
		if got := blobstoretest.MustGet(t, s, name); !bytes.Equal(got, content) {
			t.Error("content differs")
		}
	}
}

// TestDamagedOnTheWay turns a bit of what is sent: the service must notice, and
// the Put send it again.
func TestDamagedOnTheWay(t *testing.T) {
	server := emulator
	container := create(t, server, quick(server))
	for _, size := range []int64{1000, 200_000} {
		for _, damaged := range []int32{2, 100} {
			var seen atomic.Int32
			options := quick(server)
			options.Client = wire(func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
				if carriesChecksum(request) && seen.Add(1) <= damaged {
					body, err := io.ReadAll(request.Body)
					if err != nil {
						return nil, err
					}
					body[len(body)/2] ^= 1
					request.Body = io.NopCloser(bytes.NewReader(body))
				}
				return send()
			}).client()
			s := open(t, container.String(), options)
			name, want := fresh(), blobstoretest.Content(1, size)
			err := s.Put(t.Context(), name, bytes.NewReader(want), size)
			if damaged == 100 {
				e, ok := errors.AsType[*blobstore.Error](err)
				if !ok || e.Code != "Md5Mismatch" || e.Class != blobstore.Recoverable {
					t.Errorf("put of %d bytes over a wire that damages all: %v", size, err)
				}
				if _, err := s.Stat(t.Context(), name); !errors.Is(err, blobstore.ErrNotFound) {
					t.Errorf("stat after a damaged put: %v", err)
				}
				continue
			}
			if seen.Load() < 3 {
				t.Errorf("%d requests with content, two of them damaged", seen.Load())
			}
			if err != nil {
				t.Fatalf("put of %d bytes, two of them damaged: %v", size, err)
			}
			if got := blobstoretest.MustGet(t, s, name); !bytes.Equal(got, want) {
				t.Error("content differs")
			}
		}
	}
}

// TestBrokenDownload breaks the connection in the middle of downloads.
func TestBrokenDownload(t *testing.T) {
	server := emulator
	container := create(t, server, quick(server))
	want := blobstoretest.Content(1, 300_000)
	blobstoretest.MustPut(t, container, "blob", want)
	for _, breaks := range []int32{2, 1000} {
		var left atomic.Int32
		left.Store(breaks)
		options := quick(server)
		options.Client = wire(func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			response, err := send()
			if err == nil && request.Method == http.MethodGet && left.Add(-1) >= 0 {
				after := int64(100_000)
				if breaks == 1000 {
					after = 0
				}
				response.Body = &brokenBody{response.Body, after}
			}
			return response, err
		}).client()
		s := open(t, container.String(), options)
		got, err := blobstore.ReadAll(t.Context(), s, "blob", 1<<20)
		if breaks == 2 && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("download that broke twice: %d bytes, %v", len(got), err)
		}
		if breaks == 1000 && (!errors.Is(err, errReset) || blobstore.ClassOf(err) != blobstore.Recoverable) {
			t.Errorf("download that always breaks: %d bytes, %v", len(got), err)
		}
	}
}

// brokenBody fails after left bytes.
type brokenBody struct {
	io.ReadCloser

	left int64
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errReset
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// TestNothingListens reaches for a port that nothing listens on: an attempt
// ends, and the error says what to look at.
func TestNothingListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := "http://" + listener.Addr().String() + "/devstoreaccount1/container"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, where, azure.Options{Getenv: (&azurite.Server{}).Getenv, RetryDelay: time.Millisecond})
	_, err = s.Stat(t.Context(), "blob")
	e, ok := errors.AsType[*blobstore.Error](err)
	if !ok || e.Class != blobstore.Recoverable || e.Hint == "" || !strings.Contains(err.Error(), "refused") {
		t.Errorf("stat where nothing listens: %v", err)
	}
}

// TestHangs talks to something that accepts and never answers.
func TestHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	options := azure.Options{
		Getenv: (&azurite.Server{}).Getenv, Tries: 2, TryTimeout: 50 * time.Millisecond, RetryDelay: time.Millisecond,
	}
	s := open(t, "http://"+listener.Addr().String()+"/devstoreaccount1/container", options)
	err = s.Put(t.Context(), "blob", bytes.NewReader(nil), 0)
	if blobstore.ClassOf(err) != blobstore.Recoverable || err == nil {
		t.Errorf("put to a service that hangs: %v", err)
	}
}
