package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"lifeboat/uploader/api"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "show state and health of the protected VMs",
		ArgsUsage:   "[VM]",
		Description: "The exit code is 0 when the sidecar answers, whatever the health.",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			client := sidecar()
			defer client.Close()
			status, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			if name := c.Args().First(); name != "" {
				for _, vm := range status.VMs {
					if vm.Name == name || vm.ID == name {
						return show(c, vm, func() { printVM(c.App.Writer, vm) })
					}
				}
				return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("VM %s is not protected", name), Hint: "lifeboat status lists those that are"}
			}
			return show(c, status, func() { printStatus(c.App.Writer, status) })
		},
	}
}

func printStatus(w io.Writer, s api.Status) {
	fmt.Fprintf(w, "sidecar  %s, process %d, since %s\nstore    %s\n", s.Version, s.PID, local(s.Started), s.Store)
	for _, f := range s.Filters {
		state := "answers"
		if !f.Available {
			state = "does not answer"
		}
		fmt.Fprintf(w, "filter   %s %s\n", f.Mountpoint, state)
	}
	if len(s.VMs) == 0 {
		fmt.Fprintln(w, "\nNo VM is protected: see lifeboat protect.")
		return
	}
	for _, vm := range s.VMs {
		fmt.Fprintln(w)
		printVM(w, vm)
	}
}

func printVM(w io.Writer, vm api.VM) {
	fmt.Fprintf(w, "%s  %s, health %s\n", vm.Name, vm.State, vm.Health)
	for _, r := range vm.Reasons {
		fmt.Fprintf(w, "  %s: %s (%s, since %s)\n", r.Health, r.Text, r.Code, local(r.Since))
	}
	if vm.Newest != nil {
		fmt.Fprintf(w, "  newest recovery point  %d of %s, %s ago\n", vm.Newest.Epoch, local(vm.Newest.Time), ago(vm.AgeSeconds))
	} else {
		fmt.Fprintln(w, "  newest recovery point  none yet")
	}
	fmt.Fprintf(w, "  pending                %s in %d epochs that wait and the open one; copy frequency %s\n", size(vm.PendingBytes), vm.WaitingEpochs, ago(vm.FrequencySeconds))
	if vm.GivenUp > 0 {
		fmt.Fprintf(w, "  given up               %d recovery points, merged into the ones after\n", vm.GivenUp)
	}
	if cycle := vm.LastCycle; cycle != nil {
		fmt.Fprintf(w, "  last cycle             %d blocks as %s in %s\n", cycle.Blocks, size(cycle.Bytes), ago(cycle.Seconds))
	}
	if job := vm.Job; job != nil {
		fmt.Fprintf(w, "  job %s  %s: %s, %s of %s\n", job.ID, job.Kind, stepName(*job), size(job.DoneBytes), size(job.TotalBytes))
	}
	for _, disk := range vm.Disks {
		note := ""
		if disk.Removed {
			note = "  (removed)"
		}
		fmt.Fprintf(w, "  disk                   %s  %s%s\n", disk.Path, size(disk.SizeBytes), note)
	}
}

func jobsCommand() *cli.Command {
	return &cli.Command{
		Name:      "jobs",
		Usage:     "list the jobs, newest first, or those of one VM",
		ArgsUsage: "[VM]",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			client := sidecar()
			defer client.Close()
			all, err := client.Jobs(c.Context)
			if err != nil {
				return err
			}
			jobs := []api.Job{} // an empty list is [] in JSON
			for _, job := range all {
				if name := c.Args().First(); name == "" || job.Name == name || job.VM == name {
					jobs = append(jobs, job)
				}
			}
			return show(c, jobs, func() { printJobs(c.App.Writer, jobs) })
		},
	}
}

func printJobs(w io.Writer, jobs []api.Job) {
	rows := [][]string{{"JOB", "VM", "KIND", "STATE", "STEP", "STARTED"}}
	for _, job := range jobs {
		rows = append(rows, []string{job.ID, job.Name, job.Kind, string(job.State), stepName(job), local(job.Started)})
	}
	table(w, rows)
	for _, job := range jobs {
		if job.Error != nil {
			fmt.Fprintf(w, "%s: %s\n", job.ID, job.Error.Message)
		}
	}
}
