package api

import (
	"errors"
	"net/http"
)

// ErrUnavailable: no sidecar answers at the socket, or the connection broke.
var ErrUnavailable = errors.New("the sidecar does not answer")

// Error codes.
const (
	CodeNotFound      = "not-found"         // no such VM or job
	CodeExists        = "exists"            // protected already
	CodeInvalid       = "invalid"           // the request is wrong
	CodePrerequisites = "prerequisites"     // see Checks
	CodeWalkRequired  = "walk-required"     // no points before the replica is complete
	CodePointGivenUp  = "point-given-up"    // merged into the next one
	CodeFilterAway    = "filter-away"       // the VM's filter does not answer
	CodeDivergence    = "divergence"        // the container has another history
	CodeDamaged       = "replica-damaged"   // what lies in the container is not what was written
	CodeFenced        = "fenced"            // another writer has taken over
	CodeStoreDenied   = "store-denied"      // credentials or rights
	CodeStoreMissing  = "store-missing"     // no such container or directory
	CodeStoreRefused  = "store-refused"     // the store says no for good
	CodeStoreAway     = "store-unavailable" // network, throttling, outage
	CodeLocalState    = "local-state"       // the state directory
	CodeCancelled     = "cancelled"         // given up before it ended
	CodeInternal      = "internal"          // none of these
)

// Error is a refusal or failure as it crosses the socket.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Hint tells what to do about it; it may be empty.
	Hint string `json:"hint,omitempty"`
	// Checks are the prerequisites, with CodePrerequisites.
	Checks []Check `json:"checks,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// CodeOf returns the code of an error, CodeInternal if it has none and "" for
// nil.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

func statusOf(code string) int {
	switch code {
	case CodeNotFound:
		return http.StatusNotFound
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeExists, CodeWalkRequired, CodePointGivenUp, CodeDivergence, CodeFenced:
		return http.StatusConflict
	case CodePrerequisites:
		return http.StatusUnprocessableEntity
	case CodeFilterAway, CodeStoreAway, CodeCancelled:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
