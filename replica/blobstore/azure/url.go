package azure

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"lifeboat/replica/blobstore"
)

const examples = "write https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX, " +
	"or azblob://CONTAINER/PREFIX with AZURE_STORAGE_ACCOUNT in the environment"

// target is where a URL points to.
type target struct {
	// service is the URL of the account's blob service without a slash at
	// its end; empty until the environment has told it.
	service string
	// account is the account's name as far as the URL tells it.
	account   string
	container string
	// prefix has no slash at its ends.
	prefix string
}

// String returns the URL without any secret.
func (t target) String() string {
	where := "azblob:/"
	if t.service != "" {
		where = t.service
	}
	where += "/" + t.container
	if t.prefix != "" {
		where += "/" + t.prefix
	}
	return where
}

func (t target) blobPrefix() string {
	if t.prefix == "" {
		return ""
	}
	return t.prefix + "/"
}

// plainText tells that requests go over the wire as they are.
func (t target) plainText() bool { return !strings.HasPrefix(t.service, "https://") }

// parseURL never repeats in an error what may hold a secret: a query, or a
// user with a password.
func parseURL(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own error would repeat a part of the URL.
		return target{}, fmt.Errorf("bad store URL; %s", examples)
	}
	if u.RawQuery != "" || u.ForceQuery || u.User != nil {
		return target{}, errors.New("the store URL must hold no credentials: arguments are seen by everyone on the machine; " +
			"put a shared access signature into the environment as AZURE_STORAGE_SAS_TOKEN")
	}
	if u.Fragment != "" {
		return target{}, fmt.Errorf("store URL with a fragment (#%s); %s", u.Fragment, examples)
	}
	var t target
	path := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "azblob":
		if u.Port() != "" {
			return target{}, fmt.Errorf("azblob URL with a port; %s", examples)
		}
		t.container, t.prefix = u.Hostname(), path
	case "https", "http":
		if path, err = t.setService(u, path); err != nil {
			return target{}, err
		}
		t.container, t.prefix, _ = strings.Cut(path, "/")
	default:
		return target{}, fmt.Errorf("store URL with the scheme %q; %s", u.Scheme, examples)
	}
	return t, t.check()
}

// setService takes the service and the account from a URL, and returns what of
// its path is left.
func (t *target) setService(u *url.URL, path string) (string, error) {
	host := u.Hostname()
	if host == "" {
		return "", fmt.Errorf("store URL without a host; %s", examples)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme == "http" && !loopback {
		return "", errors.New("http only reaches an emulator on this machine; write https")
	}
	t.service = u.Scheme + "://" + u.Host
	if loopback || ip != nil {
		// Without a name for each account, the account is in the path.
		t.account, path, _ = strings.Cut(path, "/")
		if t.account == "" {
			return "", fmt.Errorf("store URL without an account; write %s/ACCOUNT/CONTAINER/PREFIX", t.service)
		}
		t.service += "/" + t.account
		return path, nil
	}
	if first, rest, _ := strings.Cut(host, "."); strings.HasPrefix(rest, "blob.") {
		t.account = strings.TrimSuffix(first, "-secondary")
	}
	return path, nil
}

var validContainer = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)

func (t target) check() error {
	if t.container == "" {
		return fmt.Errorf("store URL without a container; %s", examples)
	}
	if len(t.container) > 63 || !validContainer.MatchString(t.container) {
		return fmt.Errorf("bad container name %q: 3 to 63 lower-case letters, digits and single hyphens; %s", t.container, examples)
	}
	if t.prefix != "" {
		if err := blobstore.ValidName(t.prefix); err != nil {
			return fmt.Errorf("bad prefix in the store URL: %w", err)
		}
		if len(t.prefix) > 1023-blobstore.MaxNameLength {
			return fmt.Errorf("prefix in the store URL has %d bytes, at most %d are allowed",
				len(t.prefix), 1023-blobstore.MaxNameLength)
		}
	}
	return nil
}
