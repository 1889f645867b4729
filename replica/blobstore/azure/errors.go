package azure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"lifeboat/replica/blobstore"
)

// verdict is what we think of a refusal of the service.
type verdict struct {
	kind  error
	class blobstore.Class
	hint  string
}

// judge judges by the service's code and, where that says nothing, by the
// status. What nobody knows is recoverable.
func judge(code string, status int) verdict {
	switch code {
	case "BlobAlreadyExists":
		return verdict{kind: blobstore.ErrExists, class: blobstore.Logic}
	case "BlobNotFound":
		return verdict{kind: blobstore.ErrNotFound, class: blobstore.Logic}
	case "InvalidRange":
		return verdict{kind: blobstore.ErrRange, class: blobstore.Logic}
	case "ConditionNotMet":
		return verdict{class: blobstore.Logic}
	case "ContainerNotFound":
		return verdict{blobstore.ErrStoreMissing, blobstore.Unrecoverable, "create the container, or correct the store URL"}
	case "ContainerBeingDeleted", "LeaseAlreadyPresent", "SnapshotOperationRateExceeded", "Md5Mismatch", "Crc64Mismatch":
		return verdict{class: blobstore.Recoverable}
	case "BlobArchived":
		return verdict{class: blobstore.Unrecoverable, hint: "rehydrate the blob from the archive tier to hot or cool, which takes hours"}
	case "LeaseLost", "LeaseIdMissing":
		return fenced()
	}
	switch {
	case strings.HasPrefix(code, "LeaseIdMismatch"), strings.HasPrefix(code, "LeaseNotPresent"):
		return fenced()
	case strings.HasPrefix(code, "BlobImmutableDueTo"):
		return verdict{class: blobstore.Unrecoverable, hint: "the container's immutability policy or a legal hold protects the blob"}
	}
	return judgeStatus(code, status)
}

func judgeStatus(code string, status int) verdict {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return verdict{blobstore.ErrDenied, blobstore.Unrecoverable, deniedHint(code)}
	case http.StatusNotFound:
		return verdict{kind: blobstore.ErrNotFound, class: blobstore.Logic}
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return verdict{class: blobstore.Unrecoverable}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return verdict{hint: "the storage account is busy; it passes"}
	default:
		return verdict{}
	}
}

func fenced() verdict {
	return verdict{class: blobstore.Fenced, hint: "another writer has taken over; only one may write to a replica"}
}

func deniedHint(code string) string {
	switch code {
	case "AuthorizationPermissionMismatch", "InsufficientAccountPermissions":
		return "give the identity the role Storage Blob Data Contributor, or the signature the rights rcwdl"
	case "AuthorizationSourceIPMismatch":
		return "the signature or the account's firewall does not allow this machine's address"
	case "AccountIsDisabled", "ContainerDisabled":
		return "enable the storage account again in the portal"
	default:
		return "check the account key or the signature, its expiry, the account's firewall, and this machine's clock"
	}
}

// fail makes the store's error of any error of the SDK.
func (s *Store) fail(ctx context.Context, op, name string, err error) error {
	if e, ok := errors.AsType[*blobstore.Error](err); ok {
		return e
	}
	e := &blobstore.Error{Op: op, Name: name, Store: s.name, Err: scrubbed(err)}
	if cause := ctx.Err(); cause != nil {
		e.Err = cause
		return e
	}
	if response, ok := errors.AsType[*azcore.ResponseError](err); ok {
		v := judge(response.ErrorCode, response.StatusCode)
		e.Kind, e.Class, e.Hint, e.Code = v.kind, v.class, v.hint, response.ErrorCode
		return e
	}
	if _, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		e.Kind, e.Class, e.Hint = blobstore.ErrDenied, blobstore.Unrecoverable, deniedHint("")
		return e
	}
	if errors.Is(err, errShort) {
		e.Class = blobstore.Unrecoverable
		return e
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		e.Hint = "check the network, the name service and the proxy of this machine"
	}
	return e
}

// scrubbed returns an error with the sense of err and a short text without
// secrets: the SDK's own texts go over many lines, and those of the transport
// hold whole URLs with their signatures.
func scrubbed(err error) error {
	text := ""
	if response, ok := errors.AsType[*azcore.ResponseError](err); ok {
		text = fmt.Sprintf("the service answers %d %s", response.StatusCode, orElse(response.ErrorCode, http.StatusText(response.StatusCode)))
	} else if e, ok := errors.AsType[*url.Error](err); ok {
		text = e.Err.Error()
	} else {
		text = err.Error()
	}
	return &scrubbedError{text: withoutSecrets(text), cause: err}
}

// scrubbedError matches what its cause matches, but never shows it: it has no
// Unwrap, through which the cause could be printed after all.
type scrubbedError struct {
	text  string
	cause error
}

// Error implements error.
func (e *scrubbedError) Error() string { return e.text }

// Is implements what errors.Is asks.
func (e *scrubbedError) Is(target error) bool { return errors.Is(e.cause, target) }

var secret = regexp.MustCompile(`(?i)((?:sig|sharedaccesssignature|accountkey|client_secret|access_token)["']?[=:]\s*["']?)[^&\s"';]+`)

func withoutSecrets(text string) string {
	return secret.ReplaceAllString(strings.Join(strings.Fields(text), " "), "${1}REDACTED")
}
