package azure

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// access is what proves who we are: a key, a shared access signature, or, when
// both are empty, the identity of the machine.
type access struct {
	account, key, sas string
}

// findAccess looks for credentials, and completes the target by what they tell.
func findAccess(t *target, getenv func(string) string) (access, error) {
	text, err := lookUp(getenv, "AZURE_STORAGE_CONNECTION_STRING")
	if err != nil {
		return access{}, err
	}
	if text != "" {
		return parseConnectionString(t, text)
	}
	a := access{account: getenv("AZURE_STORAGE_ACCOUNT")}
	if a.key, err = lookUp(getenv, "AZURE_STORAGE_KEY"); err != nil {
		return access{}, err
	}
	if a.key == "" {
		if a.sas, err = lookUp(getenv, "AZURE_STORAGE_SAS_TOKEN"); err != nil {
			return access{}, err
		}
	}
	if a.account == "" {
		a.account = t.account
	}
	if a.account == "" && (t.service == "" || a.key != "") {
		return access{}, errors.New("the storage account is not known; set AZURE_STORAGE_ACCOUNT")
	}
	if t.service == "" {
		t.service = "https://" + a.account + ".blob.core.windows.net"
		t.account = a.account
	}
	return a, a.check(*t)
}

// check refuses credentials that are not for the target, or would be given to
// the network.
func (a *access) check(t target) error {
	if t.account != "" && a.account != t.account {
		return fmt.Errorf("the store URL is for the account %q, the environment for %q", t.account, a.account)
	}
	if a.sas != "" {
		a.sas = strings.TrimPrefix(a.sas, "?")
		query, err := url.ParseQuery(a.sas)
		if err != nil || query.Get("sig") == "" {
			return errors.New("AZURE_STORAGE_SAS_TOKEN is no shared access signature; it has the form sv=…&sig=…")
		}
	}
	if a.key == "" && a.sas == "" && t.plainText() {
		return errors.New("no credentials; set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN " +
			"(the machine's identity is used over https only)")
	}
	return nil
}

// connect returns a client for the target's container.
func (a access) connect(t target, options Options) (*container.Client, error) {
	where := t.service + "/" + t.container
	o := &container.ClientOptions{ClientOptions: options.client()}
	switch {
	case a.key != "":
		credential, err := container.NewSharedKeyCredential(a.account, a.key)
		if err != nil {
			return nil, errors.New("the account key is not in base64; copy it again from the portal")
		}
		return container.NewClientWithSharedKeyCredential(where, credential, o)
	case a.sas != "":
		return container.NewClientWithNoCredential(where+"?"+a.sas, o)
	default:
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, err
		}
		return container.NewClient(where, credential, o)
	}
}

// parseConnectionString takes the account, its service and the credentials from
// what the portal calls a connection string. The SDK's own parser would not let
// us see whether it is for the account of the URL.
func parseConnectionString(t *target, text string) (access, error) {
	fields := make(map[string]string)
	for field := range strings.SplitSeq(strings.Trim(text, "; \n"), ";") {
		name, value, found := strings.Cut(field, "=")
		if !found {
			return access{}, errors.New("the connection string is not of the form NAME=VALUE;NAME=VALUE…")
		}
		fields[name] = value
	}
	a := access{account: fields["AccountName"], key: fields["AccountKey"], sas: fields["SharedAccessSignature"]}
	if a.key == "" && a.sas == "" || a.key != "" && a.account == "" {
		return access{}, errors.New("the connection string has neither AccountName with AccountKey nor SharedAccessSignature")
	}
	service := strings.TrimSuffix(fields["BlobEndpoint"], "/")
	if service == "" {
		if a.account == "" {
			return access{}, errors.New("the connection string has neither AccountName nor BlobEndpoint")
		}
		service = orElse(fields["DefaultEndpointsProtocol"], "https") + "://" + a.account + ".blob." +
			orElse(fields["EndpointSuffix"], "core.windows.net")
	}
	named, err := parseURL(service + "/" + t.container)
	if err != nil {
		return access{}, fmt.Errorf("BlobEndpoint of the connection string: %w", err)
	}
	if t.service == "" {
		t.service, t.account = named.service, named.account
	}
	if a.account == "" {
		a.account = named.account
	}
	return a, a.check(*t)
}

// lookUp returns the value of a variable, or the content of the file that the
// variable of the same name with _FILE names.
func lookUp(getenv func(string) string, name string) (string, error) {
	if value := getenv(name); value != "" {
		return strings.TrimSpace(value), nil
	}
	path := getenv(name + "_FILE")
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	if value := strings.TrimSpace(string(content)); value != "" {
		return value, nil
	}
	return "", fmt.Errorf("%s_FILE: %s is empty", name, path)
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}
