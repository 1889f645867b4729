package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"lifeboat/tracker/control"
	"lifeboat/uploader"
	"lifeboat/uploader/api"
)

func uploadCommand() *cli.Command {
	return &cli.Command{
		Name:  "upload",
		Usage: "run the sidecar: ship what the filters track to a store",
		Description: "Credentials for Azure come from the environment: AZURE_STORAGE_CONNECTION_STRING,\n" +
			"AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, or whatever\n" +
			"DefaultAzureCredential finds (a managed identity, the Azure CLI).",
		Flags: []cli.Flag{
			storeFlag(),
			&cli.StringSliceFlag{Name: "folder", Usage: "serve the filter of this `DIR` only (repeatable; default: all filters found)"},
			&cli.StringFlag{Name: "state", Usage: "`DIR` for checksum tables and settings (default $LIFEBOAT_STATE_DIR, else /var/lib/lifeboat)"},
			&cli.DurationFlag{Name: "frequency", Value: uploader.DefaultFrequency, Usage: "copy frequency of VMs that have none of their own"},
			&cli.IntFlag{Name: "parallel", Value: uploader.DefaultParallel, Usage: "`N` uploads at once"},
			&cli.BoolFlag{Name: "create", Usage: "make the container or directory if it is missing"},
			&cli.IntFlag{Name: "ready-fd", Value: -1, Usage: "write a line to this descriptor `N` and close it when the sidecar answers"},
			logFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			if c.String("store") == "" {
				return usagef("upload needs --store URL, the store to ship to, or LIFEBOAT_STORE")
			}
			log, err := newLogger(c)
			if err != nil {
				return err
			}
			state := c.String("state")
			if state == "" {
				if state, err = stateDir(); err != nil {
					return err
				}
			}
			return upload(c.Context, uploadOptions{
				url: c.String("store"), create: c.Bool("create"), folders: c.StringSlice("folder"), state: state,
				frequency: c.Duration("frequency"), parallel: c.Int("parallel"), readyFD: c.Int("ready-fd"), log: log,
			})
		},
	}
}

type uploadOptions struct {
	url       string
	create    bool
	folders   []string
	state     string
	frequency time.Duration
	parallel  int
	readyFD   int
	log       *slog.Logger
}

// upload runs the sidecar until ctx ends.
func upload(ctx context.Context, o uploadOptions) (err error) {
	store, err := openStore(ctx, o.url, o.create)
	if err != nil && o.create && exitCode(err) == exitAway {
		// It cannot be made now; if it is there, all is well when it is back.
		store, err = openStore(ctx, o.url, false)
	}
	if err != nil {
		return err
	}
	service, err := uploader.New(uploader.Config{
		Store: store, Filters: uploader.NewDiscovery(runtimeDir(), o.folders), StateDir: o.state,
		Parallel: o.parallel, Frequency: o.frequency, Version: version, Logger: o.log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	// A store that is merely away must not keep the sidecar from starting: it
	// tries again. One that refuses is told now.
	if err := service.CheckStore(ctx); err != nil {
		if exitCode(err) != exitAway {
			return fmt.Errorf("open store %s: %w", store, err)
		}
		o.log.Warn("store cannot be reached yet", "store", store.String(), "error", err)
	}
	listener, err := control.Listen(api.SocketPath(runtimeDir()))
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- api.Serve(serving, listener, service, o.log) }()
	o.log.Info("sidecar started", "store", store.String(), "state", o.state, "socket", api.SocketPath(runtimeDir()))
	if err := announce(o.readyFD); err != nil {
		return err
	}
	err = service.Run(ctx)
	stop()
	if _, e := daemon.SdNotify(false, daemon.SdNotifyStopping); e != nil {
		o.log.Debug("systemd not notified", "error", e)
	}
	return errors.Join(err, <-served)
}
