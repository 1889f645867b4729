// Package stores opens a store by its URL. It stands beside package blobstore
// and not in it, so that the contract does not depend on those who keep it.
package stores

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/directory"
)

// Options say how to open a store.
type Options struct {
	// Create makes the directory or the container if it is missing.
	Create bool
	// Azure holds what only package azure knows; its Create is set from the
	// one above.
	Azure azure.Options
}

const examples = "write file:///mnt/nas/replica, https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX, or azblob://CONTAINER/PREFIX"

// Open returns the store at a URL with the scheme file, https, http (for an
// emulator on this machine only) or azblob. Credentials come from the
// environment, never from the URL: see azure.Options. A directory must exist,
// unless options say to make it; a container is not looked at until it is used.
func Open(ctx context.Context, rawURL string, options Options) (blobstore.Store, error) {
	scheme, _, found := strings.Cut(rawURL, ":")
	if !found {
		return nil, invalid(fmt.Errorf("store %q is no URL", withoutQuery(rawURL)))
	}
	switch strings.ToLower(scheme) {
	case "file":
		return openDirectory(rawURL, options)
	case "https", "http", "azblob":
		options.Azure.Create = options.Create
		s, err := azure.Open(ctx, rawURL, options.Azure)
		if err != nil {
			return nil, err
		}
		return s, nil
	default:
		return nil, invalid(fmt.Errorf("store URL with the unknown scheme %q", scheme))
	}
}

func openDirectory(rawURL string, options Options) (blobstore.Store, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, invalid(fmt.Errorf("bad store URL: %w", err))
	case u.Host != "" && u.Host != "localhost":
		return nil, invalid(fmt.Errorf("file URL with the host %q; a path begins after three slashes", u.Host))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return nil, invalid(errors.New("file URL with more than a path; write %3F for ? and %23 for # in names"))
	case !strings.HasPrefix(u.Path, "/"):
		return nil, invalid(errors.New("file URL without an absolute path"))
	}
	s, err := directory.Open(u.Path, directory.Options{Create: options.Create})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func invalid(cause error) error {
	e := blobstore.Invalid("open", "", cause)
	e.Hint = examples
	return e
}

// withoutQuery keeps a signature out of an error.
func withoutQuery(text string) string {
	text, _, _ = strings.Cut(text, "?")
	return text
}
