package main

import (
	"errors"
	"fmt"
	"io"

	"lifeboat/fusefs"
	"lifeboat/fusefs/keeper"
	"lifeboat/recovery"
	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
	"lifeboat/tracker/changelog"
	"lifeboat/uploader"
	"lifeboat/uploader/api"
)

// Exit codes: a promise, told in docs/CLI.md.
const (
	exitOK       = 0
	exitFailed   = 1 // nothing of the below
	exitUsage    = 2 // the command line or an argument is wrong
	exitNotFound = 3 // no such VM, recovery point, job
	exitRefused  = 4 // something is in the way: a busy mount, an existing file
	exitAway     = 5 // filter, sidecar or store cannot be reached: try again
	exitDenied   = 6 // the store refuses: credentials, rights, missing container
	exitDamaged  = 7 // what lies in the store is damaged or has another history
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// apiExit maps the codes of the sidecar's errors.
var apiExit = map[string]int{
	api.CodeNotFound:      exitNotFound,
	api.CodeExists:        exitRefused,
	api.CodeInvalid:       exitUsage,
	api.CodePrerequisites: exitRefused,
	api.CodeWalkRequired:  exitRefused,
	api.CodePointGivenUp:  exitRefused,
	api.CodeFilterAway:    exitAway,
	api.CodeDivergence:    exitDamaged,
	api.CodeDamaged:       exitDamaged,
	api.CodeFenced:        exitRefused,
	api.CodeStoreDenied:   exitDenied,
	api.CodeStoreMissing:  exitDenied,
	api.CodeStoreRefused:  exitDenied,
	api.CodeStoreAway:     exitAway,
}

// exitCode returns the code for an error by its class.
func exitCode(err error) int {
	if e, ok := errors.AsType[*api.Error](err); ok {
		if code, ok := apiExit[e.Code]; ok {
			return code
		}
		return exitFailed
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if e, ok := errors.AsType[filterError](err); ok {
		return e.ExitCode()
	}
	if _, ok := errors.AsType[*fusefs.BusyError](err); ok {
		return exitRefused
	}
	if _, ok := errors.AsType[*segment.DamageError](err); ok {
		return exitDamaged
	}
	if _, ok := errors.AsType[*replica.DivergenceError](err); ok {
		return exitDamaged
	}
	switch {
	case errors.Is(err, api.ErrUnavailable), errors.Is(err, keeper.ErrNoKeeper):
		return exitAway
	case errors.Is(err, recovery.ErrTargetExists), errors.Is(err, changelog.ErrInUse), errors.Is(err, uploader.ErrInUse),
		errors.Is(err, keeper.ErrNotReplaced):
		return exitRefused
	case errors.Is(err, recovery.ErrNotEqual), errors.Is(err, blobstore.ErrCorrupt):
		return exitDamaged
	case errors.Is(err, replica.ErrUnknownVM), errors.Is(err, replica.ErrNoPoint), errors.Is(err, replica.ErrNoRepository):
		return exitNotFound
	case errors.Is(err, blobstore.ErrDenied), errors.Is(err, blobstore.ErrStoreMissing):
		return exitDenied
	}
	if e, ok := errors.AsType[*blobstore.Error](err); ok {
		if e.Class == blobstore.Recoverable {
			return exitAway
		}
		return exitDenied
	}
	return exitFailed
}

// report tells a person what went wrong and, if it is known, what to do.
func report(w io.Writer, err error) {
	fmt.Fprintf(w, "lifeboat: %v\n", err)
	if e, ok := errors.AsType[*api.Error](err); ok {
		for _, check := range e.Checks {
			printCheck(w, check)
		}
		if e.Hint != "" {
			fmt.Fprintf(w, "  what to do: %s\n", e.Hint)
		}
	}
	switch {
	case errors.Is(err, api.ErrUnavailable):
		fmt.Fprintln(w, "  what to do: start the sidecar with 'lifeboat upload --store URL', as the same user and with the same LIFEBOAT_RUNTIME_DIR")
	case errors.Is(err, keeper.ErrNoKeeper):
		fmt.Fprintln(w, "  what to do: give the folder or the mount point of a 'lifeboat mount --keeper', as the same user and with the same LIFEBOAT_RUNTIME_DIR")
	case errors.Is(err, recovery.ErrTargetExists):
		fmt.Fprintln(w, "  what to do: restore into another folder, or replace the files with --force")
	case errors.Is(err, blobstore.ErrStoreMissing):
		fmt.Fprintln(w, "  what to do: look for a mistake in the URL; 'lifeboat upload --create' makes a container or directory that is missing")
	}
}

func printCheck(w io.Writer, check api.Check) {
	if check.OK {
		fmt.Fprintf(w, "  pass  %s\n", check.Item)
		return
	}
	fmt.Fprintf(w, "  FAIL  %s: %s\n", check.Item, check.Message)
	if check.Hint != "" {
		fmt.Fprintf(w, "        what to do: %s\n", check.Hint)
	}
}
