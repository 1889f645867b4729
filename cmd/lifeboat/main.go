// Command lifeboat protects virtual machines whose disks are files: a filter
// is mounted over their folder, a sidecar ships what changes to a store, and
// any recovery point in the store can be restored.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args))
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string) int {
	app := newApp()
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	report(os.Stderr, err)
	return exitCode(err)
}

func newApp() *cli.App {
	app := &cli.App{
		Name:                 "lifeboat",
		Usage:                "disaster recovery for virtual machines whose disks are files",
		Version:              version,
		HideVersion:          true, // there is a command
		EnableBashCompletion: true,
		// Errors are reported by run, once.
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q: see lifeboat help", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			mountCommand(), uploadCommand(),
			protectCommand(), unprotectCommand(), statusCommand(), cutCommand(), pointsCommand(), resumeCommand(), jobsCommand(),
			restoreCommand(), demoCommand(), versionCommand(),
		},
	}
	wrong := func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	app.OnUsageError = wrong
	for _, command := range app.Commands {
		command.OnUsageError = wrong
	}
	return app
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return show(c, map[string]string{"version": version}, func() {
				fmt.Fprintln(c.App.Writer, "lifeboat", version)
			})
		},
	}
}
