package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lifeboat/fusefs"
	"lifeboat/recovery"
	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/uploader/api"
)

func TestFlagsFirst(t *testing.T) {
	for line, want := range map[string]string{
		"restore web01 --to /x --json":            "restore --to /x --json web01",
		"restore --to /x web01 --point 7":         "restore --to /x --point 7 web01",
		"restore web01 --to=/x":                   "restore --to=/x web01",
		"protect vm a b --wait --frequency 5s":    "protect --wait --frequency 5s vm a b",
		"protect vm -- --wait":                    "protect vm -- --wait",
		"cut --wait vm":                           "cut --wait vm",
		"points vm --nonsense":                    "points --nonsense vm",
		"nonsense a --b":                          "nonsense a --b",
		"":                                        "",
		"upload --store":                          "upload --store",
		"mount /dir --ready-fd 3 --exclude *.iso": "mount --ready-fd 3 --exclude *.iso /dir",
	} {
		args := append([]string{"lifeboat"}, strings.Fields(line)...)
		got := flagsFirst(newApp(), slices.Clone(args))
		if strings.Join(got[1:], " ") != want {
			t.Errorf("%q becomes %q, want %q", line, got[1:], want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for want, errs := range map[int][]error{
		exitUsage:    {usagef("x"), &api.Error{Code: api.CodeInvalid}},
		exitNotFound: {replica.ErrUnknownVM, replica.ErrNoPoint, replica.ErrNoRepository, &api.Error{Code: api.CodeNotFound}},
		exitRefused:  {&fusefs.BusyError{}, recovery.ErrTargetExists, &api.Error{Code: api.CodePrerequisites}},
		exitAway:     {api.ErrUnavailable, &blobstore.Error{Class: blobstore.Recoverable}, &api.Error{Code: api.CodeStoreAway}},
		exitDenied: {
			blobstore.ErrDenied, blobstore.ErrStoreMissing,
			&blobstore.Error{Class: blobstore.Unrecoverable}, &api.Error{Code: api.CodeStoreDenied},
		},
		exitDamaged: {blobstore.ErrCorrupt, recovery.ErrNotEqual, &api.Error{Code: api.CodeDamaged}},
		exitFailed:  {errors.New("anything else"), &api.Error{Code: "a code of a later version"}},
	} {
		for _, err := range errs {
			if got := exitCode(fmt.Errorf("wrapped: %w", err)); got != want {
				t.Errorf("%#v ends with %d, want %d", err, got, want)
			}
		}
	}
}

// TestUsage: what is wrong with a command line ends with the code for it.
func TestUsage(t *testing.T) {
	t.Setenv("LIFEBOAT_RUNTIME_DIR", t.TempDir())
	for _, line := range []string{
		"restore", "restore vm", "restore vm --to /x --point yesterday", "restore vm --to /x",
		"cut", "protect vm", "mount", "mount a b c", "status --nonsense", "upload",
		"points vm --store nonsense://x",
	} {
		if got := run(t.Context(), append([]string{"lifeboat"}, strings.Fields(line)...)); got != exitUsage && got != exitDenied {
			t.Errorf("lifeboat %s ends with %d", line, got)
		}
	}
	if got := run(t.Context(), []string{"lifeboat", "status"}); got != exitAway {
		t.Errorf("status without a sidecar ends with %d", got)
	}
}
