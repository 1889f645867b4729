package main

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/keeper"
)

// keep keeps a mount while filters come and go: each is this very binary, even
// if another one has taken its place on disk, with the same arguments.
func keep(ctx context.Context, o mountOptions) error {
	if o.readyFD >= 0 {
		unix.CloseOnExec(o.readyFD) // or a filter would keep it open
	}
	err := keeper.Run(ctx, keeper.Config{
		Folder: o.fusefs.Folder, Mountpoint: o.mountpoint, Logger: o.log,
		Filter: func() *exec.Cmd {
			filter := exec.Command("/proc/self/exe")
			filter.Args = os.Args
			filter.Stdout, filter.Stderr = os.Stdout, os.Stderr
			return filter
		},
		Ready: func() error { return announce(o.readyFD) },
	})
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
		return filterError{e}
	}
	return err
}

// filterError tells the exit code of a filter that has told by itself what went
// wrong.
type filterError struct{ *exec.ExitError }

func (e filterError) Error() string { return "the filter ended: " + e.ExitError.Error() }
