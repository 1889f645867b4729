package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"lifeboat/uploader/api"
)

func sidecar() *api.Client { return api.NewClient(api.SocketPath(runtimeDir())) }

func protectCommand() *cli.Command {
	return &cli.Command{
		Name:      "protect",
		Usage:     "protect a VM: name it and its disks, as they are seen on the mount",
		ArgsUsage: "VM DISK...",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "frequency", Usage: "copy frequency: a recovery point every `TIME`, 1s to 15m (default: the sidecar's)"},
			&cli.BoolFlag{Name: "wait", Usage: "return when the VM is protected: initial replication is done and the first recovery point exists"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, -1); err != nil {
				return err
			}
			request := api.ProtectRequest{Name: c.Args().First(), FrequencySeconds: c.Duration("frequency").Seconds()}
			for _, disk := range c.Args().Tail() {
				path, err := filepath.Abs(disk)
				if err != nil {
					return usagef("disk %s: %w", disk, err)
				}
				request.Disks = append(request.Disks, path)
			}
			client := sidecar()
			defer client.Close()
			started, err := client.Protect(c.Context, request)
			if err != nil {
				return err
			}
			if !c.Bool("json") {
				for _, check := range started.Checks {
					printCheck(c.App.Writer, check)
				}
				fmt.Fprintf(c.App.Writer, "VM %s is tracked; job %s replicates it.\n", started.Name, started.Job)
			}
			if !c.Bool("wait") {
				return show(c, started, func() {})
			}
			job, err := waitJob(c.Context, client, started.Job)
			if err != nil {
				return err
			}
			return show(c, job, func() {
				fmt.Fprintf(c.App.Writer, "VM %s is protected, after %s.\n", job.Name, job.Ended.Sub(job.Started).Round(time.Millisecond))
			})
		},
	}
}

// waitJob follows a job to its end; a job that failed is an error.
func waitJob(ctx context.Context, client *api.Client, id string) (api.Job, error) {
	bar := newProgress(os.Stderr)
	defer bar.end()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		job, err := client.Job(ctx, id)
		if err != nil && !errors.Is(err, api.ErrUnavailable) {
			return job, err
		}
		if err == nil {
			if job.Done() {
				return job, jobError(job)
			}
			bar.show(stepName(job), job.DoneBytes, job.TotalBytes)
			if job.Error != nil {
				bar.note("%s; tried again by itself", job.Error.Message)
			}
		}
		// A sidecar that is being restarted takes the job up again.
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-ticker.C:
		}
	}
}

func stepName(job api.Job) string {
	if job.Step < 1 || job.Step > len(job.Steps) {
		return job.Kind
	}
	return fmt.Sprintf("%s (step %d of %d)", job.Steps[job.Step-1], job.Step, len(job.Steps))
}

func jobError(job api.Job) error {
	if job.State == api.JobSucceeded {
		return nil
	}
	if job.Error != nil {
		return fmt.Errorf("job %s %s: %w", job.ID, job.State, job.Error)
	}
	return fmt.Errorf("job %s %s", job.ID, job.State)
}

func unprotectCommand() *cli.Command {
	return &cli.Command{
		Name:      "unprotect",
		Usage:     "end the protection of a VM; its recovery points stay in the store",
		ArgsUsage: "VM",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "free the name of a VM that the store has and no filter tracks any more"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			client := sidecar()
			defer client.Close()
			vm := c.Args().First()
			if err := client.Unprotect(c.Context, vm, c.Bool("force")); err != nil {
				return err
			}
			return show(c, map[string]string{"vm": vm, "state": "not protected"}, func() {
				fmt.Fprintf(c.App.Writer, "VM %s is not protected any more; its recovery points stay.\n", vm)
			})
		},
	}
}

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "try again at once what failed, after its cause was mended",
		ArgsUsage: "VM",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			client := sidecar()
			defer client.Close()
			vm := c.Args().First()
			if err := client.Resume(c.Context, vm); err != nil {
				return err
			}
			return show(c, map[string]string{"vm": vm}, func() {
				fmt.Fprintf(c.App.Writer, "VM %s: tried again now; see lifeboat status.\n", vm)
			})
		},
	}
}
