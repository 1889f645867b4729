package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"lifeboat/replica"
	"lifeboat/uploader/api"
)

func cutCommand() *cli.Command {
	return &cli.Command{
		Name:      "cut",
		Usage:     "make a recovery point now",
		ArgsUsage: "VM",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait", Usage: "return when the recovery point is committed in the store"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			client := sidecar()
			defer client.Close()
			point, err := client.Cut(c.Context, c.Args().First(), c.Bool("wait"))
			if err != nil {
				return err
			}
			return show(c, point, func() {
				word := "cut, not yet committed"
				if c.Bool("wait") {
					word = "committed"
				}
				fmt.Fprintf(c.App.Writer, "recovery point %d of %s, %s: %s\n", point.Epoch, point.Name, local(point.Time), word)
			})
		},
	}
}

func pointsCommand() *cli.Command {
	return &cli.Command{
		Name:        "points",
		Usage:       "list the recovery points of a VM, oldest first",
		ArgsUsage:   "VM",
		Description: "With --store the store alone is asked; else the sidecar.",
		Flags:       []cli.Flag{storeFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			points, err := listPoints(c)
			if err != nil {
				return err
			}
			return show(c, points, func() { printPoints(c.App.Writer, points) })
		},
	}
}

func listPoints(c *cli.Context) ([]api.Point, error) {
	vm := c.Args().First()
	if !c.IsSet("store") {
		client := sidecar()
		defer client.Close()
		points, err := client.Points(c.Context, vm)
		return append([]api.Point{}, points...), err
	}
	repository, err := openRepository(c.Context, c.String("store"))
	if err != nil {
		return nil, err
	}
	found, err := repository.FindVM(c.Context, vm)
	if err != nil {
		return nil, err
	}
	epochs, err := repository.Epochs(c.Context, found.ID)
	if err != nil {
		return nil, err
	}
	manifests, err := repository.Points(c.Context, found.ID, epochs)
	if err != nil {
		return nil, err
	}
	points := make([]api.Point, 0, len(manifests))
	for _, m := range manifests {
		points = append(points, api.Point{
			VM: found.ID, Name: found.Name, Epoch: m.Epoch, Time: m.Time,
			Consistency: string(m.Consistency), SizeBytes: m.Size(), StoredBytes: m.Stored(),
		})
	}
	return points, nil
}

func printPoints(w io.Writer, points []api.Point) {
	rows := [][]string{{"POINT", "TIME", "CONSISTENCY", "DISKS", "STORED"}}
	for _, p := range points {
		rows = append(rows, []string{fmt.Sprint(p.Epoch), local(p.Time), p.Consistency, size(p.SizeBytes), size(p.StoredBytes)})
	}
	table(w, rows)
}

// openRepository opens what a store holds, for reading.
func openRepository(ctx context.Context, url string) (*replica.Repository, error) {
	if url == "" {
		return nil, usagef("no store given: use --store URL or set LIFEBOAT_STORE")
	}
	store, err := openStore(ctx, url, false)
	if err != nil {
		return nil, err
	}
	return replica.Open(ctx, store)
}
