package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/keeper"
	"lifeboat/tracker/control"
)

// keep keeps a mount while filters come and go: each is this very binary, even
// if another one has taken its place on disk, or the one that the filter was
// replaced by, with the same arguments.
func keep(ctx context.Context, o mountOptions) error {
	if o.readyFD >= 0 {
		unix.CloseOnExec(o.readyFD) // or a filter would keep it open
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	defer signal.Stop(reload)
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own program: %w", err)
	}
	err = keeper.Run(ctx, keeper.Config{
		Folder: o.fusefs.Folder, Mountpoint: o.mountpoint, Logger: o.log, Standby: o.standby,
		Filter: func(program string) *exec.Cmd {
			filter := exec.Command(program)
			filter.Args = os.Args
			filter.Stdout, filter.Stderr = os.Stdout, os.Stderr
			return filter
		},
		Ready: func() error { return announce(o.readyFD) },
		Listen: func(point string) (net.Listener, error) {
			return control.Listen(keeper.SocketPath(runtimeDir(), point))
		},
		Reload: reload, Program: strings.TrimSuffix(program, " (deleted)"),
	})
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 && !errors.Is(err, keeper.ErrGivenUp) {
		return filterError{e}
	}
	return err
}

// filterError tells the exit code of a filter that has told by itself what went
// wrong.
type filterError struct{ *exec.ExitError }

func (e filterError) Error() string { return "the filter ended: " + e.ExitError.Error() }

// replace has the keeper of a mount start this binary in the filter's place.
func replace(c *cli.Context) error {
	if err := wantArgs(c, 1, 1); err != nil {
		return err
	}
	replaced, err := keeper.Replace(c.Context, runtimeDir(), c.Args().First())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "replaced: the filter is process %d now; requests waited for %v\n", replaced.PID, replaced.Pause.Round(time.Millisecond))
	return nil
}
