package azure_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/azure"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/blobstoretest/azurite"
)

// TestIdentity works without any secret, with the identity that the machine
// has: here an endpoint that hands out tokens as those of Azure's machines do.
func TestIdentity(t *testing.T) {
	certificate, key, pool := selfSigned(t)
	server, err := azurite.Launch(t.Context(), azurite.Options{Certificate: certificate, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	options := azure.Options{
		Getenv: func(string) string { return "" }, RetryDelay: time.Millisecond,
		Client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	}

	// The refusal comes first: a token, once given, is kept by the process.
	asIdentity(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	})
	err = stat(t, open(t, server.URL(fresh()), options))
	if !errors.Is(err, blobstore.ErrDenied) || blobstore.ClassOf(err) != blobstore.Unrecoverable || strings.Contains(err.Error(), "\n") {
		t.Errorf("stat with an identity that is refused: %v", err)
	}

	asIdentity(t, func(w http.ResponseWriter, _ *http.Request) {
		expiry := time.Now().Add(time.Hour)
		_ = json.NewEncoder(w).Encode(map[string]string{ // the test fails if the client is not answered
			"access_token": token(expiry), "expires_on": strconv.FormatInt(expiry.Unix(), 10),
			"resource": "https://storage.azure.com", "token_type": "Bearer",
		})
	})
	options.Create = true
	s := open(t, server.URL(fresh()), options)
	want := blobstoretest.Content(1, 100_000)
	blobstoretest.MustPut(t, s, "a/b", want)
	if got := blobstoretest.MustGet(t, s, "a/b"); !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	if names := blobstoretest.Names(t, s, ""); len(names) != 1 {
		t.Errorf("listed %q", names)
	}
}

// asIdentity gives this process an identity until the test has ended.
func asIdentity(t *testing.T, answer http.HandlerFunc) {
	t.Helper()
	endpoint := httptest.NewServer(answer)
	t.Cleanup(endpoint.Close)
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
	t.Setenv("IDENTITY_ENDPOINT", endpoint.URL)
	t.Setenv("IDENTITY_HEADER", "header")
}

// token returns a bearer token without a signature.
func token(expiry time.Time) string {
	claims := fmt.Sprintf(
		`{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/00000000-0000-0000-0000-000000000000/","iat":%d,"nbf":%d,"exp":%d}`,
		expiry.Add(-2*time.Hour).Unix(), expiry.Add(-2*time.Hour).Unix(), expiry.Unix(),
	)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte("none"))
}

// selfSigned makes a certificate for this machine, and what to trust it by.
func selfSigned(t *testing.T) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	directory := t.TempDir()
	certificate, key = filepath.Join(directory, "certificate.pem"), filepath.Join(directory, "key.pem")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: privateDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key, pool
}

// TestIdentityUnavailable has a machine that cannot say just now who it is:
// that passes.
func TestIdentityUnavailable(t *testing.T) {
	asIdentity(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	s := open(t, "https://127.0.0.1:1/account/container", azure.Options{Getenv: func(string) string { return "" }, Tries: 1})
	_, err := s.Stat(ctx, "old")
	if err == nil || blobstore.ClassOf(err) != blobstore.Recoverable {
		t.Errorf("stat without an identity: %v", err)
	}
}
