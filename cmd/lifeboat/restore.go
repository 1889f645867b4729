package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"lifeboat/recovery"
	"lifeboat/uploader/api"
)

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "make the disks of a VM as they were at a recovery point, from the store alone",
		ArgsUsage: "VM",
		Description: "Each disk is written at its path relative to its folder, read back, and compared with the\n" +
			"checksum that the source had; only then does it get its name.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "point", Value: "latest", Usage: "`POINT`: latest, an epoch's number, or a time (the newest point at or before it)"},
			&cli.StringFlag{Name: "to", Usage: "`DIR` to restore into"},
			storeFlag(),
			&cli.BoolFlag{Name: "force", Usage: "replace files that exist"},
			&cli.IntFlag{Name: "parallel", Usage: "`N` requests at once (default 8)"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			if c.String("to") == "" {
				return usagef("restore needs --to DIR, the folder to restore into")
			}
			return restore(c)
		},
	}
}

// restored is what restore prints as JSON.
type restored struct {
	VM      string         `json:"vm"`
	Name    string         `json:"name"`
	Epoch   uint64         `json:"epoch"`
	Time    time.Time      `json:"time"`
	Seconds float64        `json:"seconds"`
	Disks   []restoredDisk `json:"disks"`
}

type restoredDisk struct {
	ID           string `json:"id"`
	Path         string `json:"path"`
	SizeBytes    int64  `json:"size_bytes"`
	FetchedBytes int64  `json:"fetched_bytes"`
	Checksum     string `json:"checksum"`
}

func restore(c *cli.Context) error {
	selector, err := recovery.ParseSelector(c.String("point"), time.Local)
	if err != nil {
		return usageError{err}
	}
	url, err := storeURL(c)
	if err != nil {
		return err
	}
	repository, err := openRepository(c.Context, url)
	if err != nil {
		return err
	}
	vm, err := repository.FindVM(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	point, err := recovery.FindPoint(c.Context, repository, vm.ID, selector)
	if err != nil {
		return err
	}
	bar := newProgress(os.Stderr)
	report, err := recovery.Restore(c.Context, repository, vm.ID, point.Epoch, c.String("to"), recovery.Options{
		Force: c.Bool("force"), Parallel: c.Int("parallel"),
		Progress: func(p recovery.Progress) {
			bar.show("restore and verify", p.Fetched+p.Verified, p.ToFetch+p.ToVerify)
		},
	})
	bar.end()
	if err != nil {
		return err
	}
	out := restored{VM: vm.ID, Name: vm.Name, Epoch: report.Point.Epoch, Time: report.Point.Time, Seconds: report.Duration.Seconds()}
	for _, d := range report.Disks {
		out.Disks = append(out.Disks, restoredDisk{ID: d.ID, Path: d.Path, SizeBytes: d.Size, FetchedBytes: d.Fetched, Checksum: fmt.Sprint(d.Checksum)})
	}
	return show(c, out, func() {
		fmt.Fprintf(c.App.Writer, "recovery point %d of %s, %s, in %s:\n", out.Epoch, out.Name, local(out.Time), ago(out.Seconds))
		for _, d := range out.Disks {
			fmt.Fprintf(c.App.Writer, "  %s  %s, equal to the source (checksum %s)\n", d.Path, size(d.SizeBytes), d.Checksum)
		}
	})
}

// storeURL returns the store to restore from: the one given, else the one of
// a sidecar that runs here.
func storeURL(c *cli.Context) (string, error) {
	if url := c.String("store"); url != "" {
		return url, nil
	}
	client := sidecar()
	defer client.Close()
	status, err := client.Status(c.Context)
	if errors.Is(err, api.ErrUnavailable) {
		return "", usagef("no store given, and no sidecar runs here that has one: use --store URL or set LIFEBOAT_STORE")
	}
	return status.Store, err
}
