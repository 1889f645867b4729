package control

import (
	"context"
	"errors"
	"net/http"

	"lifeboat/tracker"
)

// ErrUnavailable: nobody answers at the socket, or the connection broke. The
// request may have been carried out or not.
var ErrUnavailable = errors.New("the filter does not answer")

// ErrVersion: the other side speaks another version of the API.
var ErrVersion = errors.New("the filter speaks another version of the control API")

// Codes of refusals.
const (
	CodeNotFound     = "not-found"     // tracker.ErrNotFound
	CodeExists       = "exists"        // tracker.ErrExists
	CodeEpochGone    = "epoch-gone"    // tracker.ErrEpochGone
	CodeWalkRequired = "walk-required" // tracker.ErrWalkRequired
	CodeInvalid      = "invalid"       // tracker.ErrInvalid
	CodeCancelled    = "cancelled"     // context.Canceled: the filter is stopping
	CodeInternal     = "internal"      // none: a fault of the machine below
)

// Error is a refusal as it crosses the socket.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Hint tells what to do about it; it may be empty.
	Hint string `json:"hint,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the sentinel error that the code stands for, or nil.
func (e *Error) Unwrap() error {
	for _, k := range kinds() {
		if k.code == e.Code {
			return k.sentinel
		}
	}
	return nil
}

type kind struct {
	code     string
	status   int
	sentinel error
	hint     string
}

func kinds() []kind {
	return []kind{
		{CodeNotFound, http.StatusNotFound, tracker.ErrNotFound, "list what is protected with: lifeboat status"},
		{CodeExists, http.StatusConflict, tracker.ErrExists, "list what is protected with: lifeboat status"},
		{CodeEpochGone, http.StatusGone, tracker.ErrEpochGone, "ask for the VM's sealed epochs again"},
		{CodeWalkRequired, http.StatusConflict, tracker.ErrWalkRequired, "recovery points are made again when the walk has ended; see: lifeboat status"},
		{CodeInvalid, http.StatusBadRequest, tracker.ErrInvalid, ""},
		{CodeCancelled, http.StatusServiceUnavailable, context.Canceled, "try again"},
	}
}

// refusal returns how err is told to the client, and with which status.
func refusal(err error) (*Error, int) {
	status := http.StatusInternalServerError
	e := &Error{Code: CodeInternal, Message: err.Error()}
	for _, k := range kinds() {
		if errors.Is(err, k.sentinel) {
			e.Code, status, e.Hint = k.code, k.status, k.hint
			break
		}
	}
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		e.Hint = h.Hint()
	}
	return e, status
}
