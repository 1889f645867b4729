package blobstore

import (
	"errors"
	"strings"
)

// Class tells what a caller can do about an error.
type Class int

const (
	// Recoverable: trying again later may help. It is the zero value, since
	// an error that nobody knows must not stop replication for good.
	Recoverable Class = iota
	// Unrecoverable: it stays so until a person acts.
	Unrecoverable
	// Logic: the store works and has answered; what the answer means is for
	// the caller to judge (a blob exists already, or does not exist).
	Logic
	// Fenced: another writer has taken over; stop writing.
	Fenced
)

// String names the class for logs.
func (c Class) String() string {
	switch c {
	case Unrecoverable:
		return "unrecoverable"
	case Logic:
		return "logic"
	case Fenced:
		return "fenced"
	default:
		return "recoverable"
	}
}

// Error is what every method of a store fails with.
type Error struct {
	// Op is the method in lower case: "put", "get", "list"…
	Op string
	// Name is the blob's name or prefix; it may be empty.
	Name string
	// Store is the store's String.
	Store string
	// Class tells whether trying again can help.
	Class Class
	// Code is the service's own name of the error, or empty.
	Code string
	// Hint tells a person what to do, or is empty.
	Hint string
	// Kind is one of the sentinel errors, or nil.
	Kind error
	// Err is the cause. Its text holds no secret. It may be nil when Kind
	// says all.
	Err error
}

// Error tells the operation, its object, the cause and the hint, in a line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Name != "" {
		b.WriteString(" " + e.Name)
	}
	if e.Store != "" {
		b.WriteString(" in " + e.Store)
	}
	if e.Kind != nil {
		b.WriteString(": " + e.Kind.Error())
	}
	if e.Err != nil && !errors.Is(e.Kind, e.Err) {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the sentinel and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// ClassOf returns the class of a store's error, or of an error that wraps one.
// Other errors are judged by the sentinel they match; what matches none is
// Recoverable.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return classOfKind(err)
}

// NewError returns an error of the class that kind, one of the sentinels, has
// by itself.
func NewError(op, name string, kind, cause error) *Error {
	return &Error{Op: op, Name: name, Class: classOfKind(kind), Kind: kind, Err: cause}
}

// Invalid returns the error of a call that is wrong by itself, whatever the
// store holds.
func Invalid(op, name string, cause error) *Error {
	return &Error{Op: op, Name: name, Class: Unrecoverable, Err: cause}
}

func classOfKind(kind error) Class {
	for _, logic := range []error{ErrExists, ErrNotFound, ErrRange} {
		if errors.Is(kind, logic) {
			return Logic
		}
	}
	for _, final := range []error{ErrStoreMissing, ErrDenied, ErrCorrupt} {
		if errors.Is(kind, final) {
			return Unrecoverable
		}
	}
	return Recoverable
}
