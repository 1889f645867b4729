package azure_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/blobstoretest/azurite"
)

// environment is what a store finds its credentials in.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestWrongKey(t *testing.T) {
	server := emulator
	s := create(t, server, quick(server))
	options := quick(server)
	options.Getenv = environment{
		"AZURE_STORAGE_ACCOUNT": azurite.Account,
		"AZURE_STORAGE_KEY":     base64.StdEncoding.EncodeToString([]byte("wrong")),
	}.get
	wrong := open(t, s.String(), options)
	err := wrong.Put(t.Context(), "blob", bytes.NewReader([]byte("x")), 1)
	e, ok := errors.AsType[*blobstore.Error](err)
	if !ok || !errors.Is(err, blobstore.ErrDenied) || e.Class != blobstore.Unrecoverable || e.Hint == "" || e.Code == "" {
		t.Errorf("put with a wrong key: %v", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %v", err)
	}
}

// TestSignature works with a shared access signature, with one that has expired
// and with one that may only read; no error tells the signature.
func TestSignature(t *testing.T) {
	server := emulator
	s := create(t, server, quick(server))
	blobstoretest.MustPut(t, s, "old", []byte("x"))
	all := sas.ContainerPermissions{Read: true, Add: true, Create: true, Write: true, Delete: true, List: true}
	for _, c := range []struct {
		name        string
		permissions sas.ContainerPermissions
		expiry      time.Duration
		read, write bool
	}{
		{"all", all, time.Hour, true, true},
		{"read only", sas.ContainerPermissions{Read: true, List: true}, time.Hour, true, false},
		{"expired", all, -time.Hour, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			signature := sign(t, s.String(), c.permissions, time.Now().Add(c.expiry))
			options := quick(server)
			options.Getenv = environment{"AZURE_STORAGE_ACCOUNT": azurite.Account, "AZURE_STORAGE_SAS_TOKEN": "?" + signature}.get
			signed := open(t, s.String(), options)
			_, secret, _ := strings.Cut(signature, "sig=")
			secret, _, _ = strings.Cut(secret, "&")
			for op, done := range map[string]struct {
				err  error
				want bool
			}{
				"stat": {stat(t, signed), c.read},
				"list": {list(t, signed), c.read},
				"put":  {signed.Put(t.Context(), "new", bytes.NewReader([]byte("x")), 1), c.write},
			} {
				if (done.err == nil) != done.want {
					t.Errorf("%s: %v", op, done.err)
				}
				if done.err == nil {
					continue
				}
				if !errors.Is(done.err, blobstore.ErrDenied) || blobstore.ClassOf(done.err) != blobstore.Unrecoverable {
					t.Errorf("%s is not denied: %v", op, done.err)
				}
				if strings.Contains(fmt.Sprintf("%v %+v", done.err, done.err), secret) {
					t.Errorf("%s tells the signature: %v", op, done.err)
				}
			}
		})
	}
}

// TestSignatureStaysSecret has the transport itself fail, whose errors hold the
// whole URL.
func TestSignatureStaysSecret(t *testing.T) {
	options := azure.Options{
		Getenv: environment{"AZURE_STORAGE_SAS_TOKEN": "sv=2024-01-01&sig=VERYSECRET"}.get, Tries: 1,
	}
	s := open(t, "http://127.0.0.1:1/devstoreaccount1/container", options)
	for op, err := range map[string]error{
		"put":  s.Put(t.Context(), "blob", bytes.NewReader(nil), 0),
		"stat": stat(t, s),
		"list": list(t, s),
	} {
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "VERYSECRET") {
			t.Errorf("%s: %v", op, err)
		}
	}
	if strings.Contains(s.String(), "SECRET") {
		t.Errorf("store calls itself %s", s)
	}
}

func TestCredentials(t *testing.T) {
	server := emulator
	s := create(t, server, quick(server))
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(azurite.Key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environment environment
		says        string
	}{
		"connection string":           {environment{"AZURE_STORAGE_CONNECTION_STRING": server.ConnectionString()}, ""},
		"key without account":         {environment{"AZURE_STORAGE_KEY": azurite.Key}, ""},
		"key in a file":               {environment{"AZURE_STORAGE_KEY_FILE": keyFile}, ""},
		"key in an empty file":        {environment{"AZURE_STORAGE_KEY_FILE": empty}, "is empty"},
		"key in a missing file":       {environment{"AZURE_STORAGE_KEY_FILE": empty + "x"}, "AZURE_STORAGE_KEY_FILE"},
		"key for another account":     {environment{"AZURE_STORAGE_ACCOUNT": "other", "AZURE_STORAGE_KEY": azurite.Key}, `for "other"`},
		"key not in base64":           {environment{"AZURE_STORAGE_KEY": "?SECRET?"}, "base64"},
		"no signature":                {environment{"AZURE_STORAGE_SAS_TOKEN": "SECRET"}, "no shared access signature"},
		"connection string no pairs":  {environment{"AZURE_STORAGE_CONNECTION_STRING": "SECRET"}, "NAME=VALUE"},
		"connection string no key":    {environment{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a"}, "neither"},
		"connection string elsewhere": {environment{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=U0VDUkVU"}, `for "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			options := quick(server)
			options.Getenv = c.environment.get
			s, err := azure.Open(t.Context(), s.String(), options)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				blobstoretest.MustPut(t, s, fresh(), nil)
				return
			}
			if !errors.Is(err, blobstore.ErrDenied) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("open: %v; want it to say %q", err, c.says)
			}
		})
	}
}

// TestClasses answers as the service would, for what Azurite never says.
func TestClasses(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		class  blobstore.Class
		kind   error
	}{
		{408, "OperationTimedOut", blobstore.Recoverable, nil},
		{429, "", blobstore.Recoverable, nil},
		{500, "InternalError", blobstore.Recoverable, nil},
		{502, "", blobstore.Recoverable, nil},
		{503, "ServerBusy", blobstore.Recoverable, nil},
		{504, "", blobstore.Recoverable, nil},
		{409, "ContainerBeingDeleted", blobstore.Recoverable, nil},
		{409, "LeaseAlreadyPresent", blobstore.Recoverable, nil},
		{409, "SnapshotOperationRateExceeded", blobstore.Recoverable, nil},
		{409, "SomethingNew", blobstore.Recoverable, nil},
		{400, "Crc64Mismatch", blobstore.Recoverable, nil},
		{412, "ConditionNotMet", blobstore.Logic, nil},
		{404, "BlobNotFound", blobstore.Logic, blobstore.ErrNotFound},
		{412, "LeaseIdMismatchWithBlobOperation", blobstore.Fenced, nil},
		{409, "LeaseNotPresentWithBlobOperation", blobstore.Fenced, nil},
		{412, "LeaseLost", blobstore.Fenced, nil},
		{412, "LeaseIdMissing", blobstore.Fenced, nil},
		{401, "InvalidAuthenticationInfo", blobstore.Unrecoverable, blobstore.ErrDenied},
		{403, "AuthenticationFailed", blobstore.Unrecoverable, blobstore.ErrDenied},
		{403, "AuthorizationFailure", blobstore.Unrecoverable, blobstore.ErrDenied},
		{403, "AuthorizationPermissionMismatch", blobstore.Unrecoverable, blobstore.ErrDenied},
		{403, "InsufficientAccountPermissions", blobstore.Unrecoverable, blobstore.ErrDenied},
		{403, "AccountIsDisabled", blobstore.Unrecoverable, blobstore.ErrDenied},
		{403, "ContainerDisabled", blobstore.Unrecoverable, blobstore.ErrDenied},
		{404, "ContainerNotFound", blobstore.Unrecoverable, blobstore.ErrStoreMissing},
		{409, "BlobImmutableDueToPolicy", blobstore.Unrecoverable, nil},
		{409, "BlobArchived", blobstore.Unrecoverable, nil},
		{400, "InvalidHeaderValue", blobstore.Unrecoverable, nil},
	} {
		t.Run(fmt.Sprint(c.status, c.code), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("x-ms-error-code", c.code)
				w.WriteHeader(c.status)
			}))
			t.Cleanup(server.Close)
			s := open(t, server.URL+"/devstoreaccount1/container", azure.Options{
				Getenv: (&azurite.Server{}).Getenv, Tries: 2, RetryDelay: time.Millisecond,
			})
			err := s.Delete(t.Context(), "blob")
			if c.code == "BlobNotFound" {
				err = stat(t, s)
			}
			e, ok := errors.AsType[*blobstore.Error](err)
			if !ok || e.Class != c.class || e.Code != c.code || !errors.Is(e.Kind, c.kind) {
				t.Errorf("%#v (%v), want class %v, kind %v", e, err, c.class, c.kind)
			}
			if c.class == blobstore.Unrecoverable && c.kind != nil && e.Hint == "" {
				t.Errorf("no hint: %v", err)
			}
		})
	}
}

func stat(t *testing.T, s *azure.Store) error {
	t.Helper()
	_, err := s.Stat(t.Context(), "old")
	return err
}

func list(t *testing.T, s *azure.Store) error {
	t.Helper()
	for _, err := range s.List(t.Context(), "") {
		return err
	}
	return nil
}

// sign returns a shared access signature for a container, without the question
// mark.
func sign(t *testing.T, containerURL string, permissions sas.ContainerPermissions, expiry time.Time) string {
	t.Helper()
	credential, err := container.NewSharedKeyCredential(azurite.Account, azurite.Key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(containerURL, credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := expiry.Add(-24 * time.Hour)
	signed, err := client.GetSASURL(permissions, expiry, &container.GetSASURLOptions{StartTime: &start})
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(signed, "?")
	return query
}
