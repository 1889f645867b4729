package azure

import (
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Options say how to reach and use a container. The zero value is right for
// use; tests change the rest.
type Options struct {
	// Create makes the container if it is missing.
	Create bool

	// Getenv is where credentials come from; nil means os.Getenv. The first
	// of these that is set counts:
	//
	//	AZURE_STORAGE_CONNECTION_STRING
	//	AZURE_STORAGE_KEY, with AZURE_STORAGE_ACCOUNT
	//	AZURE_STORAGE_SAS_TOKEN
	//
	// Each of them may be given as a file that holds it, by the variable of
	// the same name with _FILE at its end. Without any, the identity of the
	// machine or of its user is used (DefaultAzureCredential), over https
	// only.
	Getenv func(string) string

	// Client makes the requests; nil means the SDK's own.
	Client *http.Client

	// BlockSize is the size in bytes of the pieces of large content, and
	// what is sent in one request at most; 0 means 8 MiB.
	BlockSize int64
	// Parallel is how many pieces of one blob are sent at a time; 0 means 4.
	Parallel int
	// PageSize is how many blobs are listed in one request; 0 leaves it to
	// the service, which means 5000.
	PageSize int32

	// Tries bounds how often one request is made, so that an attempt ends;
	// 0 means 3. Longer outages are the caller's to wait for.
	Tries int32
	// TryTimeout bounds one try, the transfer of a block included; 0 means 3
	// minutes, which four blocks at a time keep on a line of 1.5 Mbit/s.
	TryTimeout time.Duration
	// RetryDelay is the first pause between two tries, which then grows; 0
	// means 0.8 s.
	RetryDelay time.Duration
}

func (o Options) withDefaults() Options {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.BlockSize == 0 {
		o.BlockSize = 8 << 20
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Tries == 0 {
		o.Tries = 3
	}
	if o.TryTimeout == 0 {
		o.TryTimeout = 3 * time.Minute
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 800 * time.Millisecond
	}
	return o
}

func (o Options) client() azcore.ClientOptions {
	c := azcore.ClientOptions{
		Retry: policy.RetryOptions{
			MaxRetries:    o.Tries - 1,
			TryTimeout:    o.TryTimeout,
			RetryDelay:    o.RetryDelay,
			MaxRetryDelay: 20 * time.Second,
		},
		Telemetry: policy.TelemetryOptions{ApplicationID: "lifeboat"},
	}
	if o.Tries == 1 {
		c.Retry.MaxRetries = -1 // the SDK takes 0 for its default
	}
	if o.Client != nil {
		c.Transport = o.Client
	}
	return c
}
