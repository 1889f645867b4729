package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"lifeboat/uploader/api"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "show the main job in a minute: protect, write, kill, restore, compare",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "keep the folders of the demonstration"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return demonstrate(c.Context, c.App.Writer, c.Bool("keep"))
		},
	}
}

const (
	demoVM       = "web01"
	demoDiskSize = 64 << 20
	demoInterval = 2 * time.Second
)

// demo is a small world: a folder of disks, a store, and the two processes.
type demo struct {
	out    io.Writer
	dir    string
	step   int
	filter *child
	upload *child
	client *api.Client
	writer *demoWriter
	disks  []string // as seen on the mount
}

// recorded is what the disks held at a recovery point.
type recorded struct {
	epoch  uint64
	hashes []string
}

func demonstrate(ctx context.Context, out io.Writer, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "lifeboat-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demonstration: %w", err)
	}
	d := &demo{out: out, dir: dir}
	defer func() {
		err = errors.Join(err, d.end())
		if err == nil && !keep {
			err = os.RemoveAll(dir)
		} else {
			fmt.Fprintf(out, "\nThe folders are kept: %s\n", dir)
		}
	}()
	for _, sub := range []string{"vms", "store", "state", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("make a folder for the demonstration: %w", err)
		}
	}
	// Nothing of the demonstration touches a Lifeboat that runs on this host.
	for name, sub := range map[string]string{"LIFEBOAT_RUNTIME_DIR": "run", "LIFEBOAT_STATE_DIR": "state"} {
		if err := os.Setenv(name, filepath.Join(dir, sub)); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	d.client = sidecar()
	defer d.client.Close()
	if err := d.protect(ctx); err != nil {
		return err
	}
	points, err := d.live(ctx)
	if err != nil {
		return err
	}
	return d.recover(ctx, points)
}

// say begins a step.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "\n%d. %s\n", d.step, fmt.Sprintf(format, args...))
}

// tell adds a line to it.
func (d *demo) tell(format string, args ...any) {
	fmt.Fprintf(d.out, "   %s\n", fmt.Sprintf(format, args...))
}

func (d *demo) storeURL() string { return "file://" + filepath.Join(d.dir, "store") }

// protect makes disks, mounts over them, and protects them while a writer
// writes.
func (d *demo) protect(ctx context.Context) error {
	folder := filepath.Join(d.dir, "vms")
	d.say("A folder with the disks of a VM: %s", folder)
	for _, make := range []func(string) (string, string, error){makeVHD, makeRaw} {
		path, what, err := make(folder)
		if err != nil {
			return err
		}
		d.disks = append(d.disks, path)
		d.tell("%s  %s", filepath.Base(path), what)
	}

	d.say("The filter is mounted over the folder; the paths stay the same.")
	var err error
	if d.filter, err = startChild(ctx, filepath.Join(d.dir, "filter.log"), "mount", folder); err != nil {
		return err
	}
	d.tell("lifeboat mount %s   (process %d)", folder, d.filter.pid())

	d.say("A guest writes to both disks from now on, without a pause.")
	if d.writer, err = startWriter(d.disks, demoDiskSize); err != nil {
		return err
	}

	d.say("The sidecar ships to a directory; it could be Azure Blob Storage.")
	if err := d.startUpload(ctx); err != nil {
		return err
	}

	d.say("lifeboat protect --wait %s %s %s", demoVM, filepath.Base(d.disks[0]), filepath.Base(d.disks[1]))
	started, err := d.client.Protect(ctx, api.ProtectRequest{Name: demoVM, Disks: d.disks, FrequencySeconds: demoInterval.Seconds()})
	if err != nil {
		return err
	}
	job, err := waitJob(ctx, d.client, started.Job)
	if err != nil {
		return err
	}
	d.tell("initial replication of %s and the first recovery point took %s, with the guest writing",
		size(job.TotalBytes), job.Ended.Sub(job.Started).Round(time.Millisecond))
	return nil
}

func (d *demo) startUpload(ctx context.Context) (err error) {
	d.upload, err = startChild(ctx, filepath.Join(d.dir, "sidecar.log"), "upload", "--store", d.storeURL())
	if err == nil {
		d.tell("lifeboat upload --store %s   (process %d)", d.storeURL(), d.upload.pid())
	}
	return err
}

// live takes recovery points while the guest writes and the sidecar dies.
func (d *demo) live(ctx context.Context) ([]recorded, error) {
	var points []recorded
	d.say("A recovery point every %s, and some on demand. At those the guest is held for a moment and the\n   disks are hashed, by other means than Lifeboat's, to compare later.", demoInterval)
	for range 3 {
		if err := pause(ctx, demoInterval); err != nil {
			return nil, err
		}
		point, err := d.record(ctx)
		if err != nil {
			return nil, err
		}
		points = append(points, point)
	}

	d.say("The sidecar is killed with SIGKILL while it ships. The guest does not notice.")
	before := d.writer.writes.Load()
	if err := d.upload.kill(); err != nil {
		return nil, err
	}
	if err := pause(ctx, demoInterval); err != nil {
		return nil, err
	}
	if err := d.writer.failed(); err != nil {
		return nil, fmt.Errorf("the guest's write failed while the sidecar was dead: %w", err)
	}
	d.tell("%d writes went on meanwhile; a new sidecar takes up where the old one was", d.writer.writes.Load()-before)
	if err := d.startUpload(ctx); err != nil {
		return nil, err
	}
	point, err := d.record(ctx)
	return append(points, point), err
}

// record takes a recovery point at a moment when the guest is held, and hashes
// what the disks hold then.
func (d *demo) record(ctx context.Context) (recorded, error) {
	release := d.writer.hold()
	defer release()
	hashes, err := hashFiles(d.disks)
	if err != nil {
		return recorded{}, err
	}
	// The sidecar needs a moment to find the filter after it was started.
	point, err := retry(ctx, func() (api.Point, error) { return d.client.Cut(ctx, demoVM, true) })
	if err != nil {
		return recorded{}, err
	}
	d.tell("recovery point %3d of %s   %s %.16s  %s %.16s", point.Epoch, point.Time.Local().Format("15:04:05.000"),
		filepath.Base(d.disks[0]), hashes[0], filepath.Base(d.disks[1]), hashes[1])
	return recorded{epoch: point.Epoch, hashes: hashes}, nil
}

// recover restores the oldest and the newest recorded point, with both
// processes gone.
func (d *demo) recover(ctx context.Context, points []recorded) error {
	status, err := d.client.Status(ctx)
	if err != nil {
		return err
	}
	for _, vm := range status.VMs {
		d.say("lifeboat status: VM %s is %s, health %s, newest recovery point %s ago, %d writes so far.",
			vm.Name, vm.State, vm.Health, ago(vm.AgeSeconds), d.writer.writes.Load())
	}
	d.say("The site is lost: guest, filter and sidecar end. What is left is the store.")
	if err := d.stop(); err != nil {
		return err
	}
	for _, point := range []recorded{points[0], points[len(points)-1]} {
		target := filepath.Join(d.dir, fmt.Sprintf("restored-%d", point.epoch))
		d.say("lifeboat restore %s --point %d --to %s --store %s", demoVM, point.epoch, target, d.storeURL())
		began := time.Now()
		if err := restoreQuietly(ctx, d.storeURL(), demoVM, point.epoch, target); err != nil {
			return err
		}
		took := time.Since(began)
		var paths []string
		for _, disk := range d.disks {
			paths = append(paths, filepath.Join(target, filepath.Base(disk)))
		}
		hashes, err := hashFiles(paths)
		if err != nil {
			return err
		}
		for i := range hashes {
			if hashes[i] != point.hashes[i] {
				return fmt.Errorf("%s of recovery point %d is not what it was: %s, recorded was %s", paths[i], point.epoch, hashes[i], point.hashes[i])
			}
			d.tell("%s %.16s  equal to what was recorded", filepath.Base(paths[i]), hashes[i])
		}
		d.tell("restored and verified in %s", took.Round(time.Millisecond))
	}
	fmt.Fprintln(d.out, "\nEvery compared disk is, byte for byte, what it was at its recovery point.")
	return nil
}

// stop ends the guest and the two processes in an orderly way.
func (d *demo) stop() error {
	var errs []error
	if d.writer != nil {
		errs = append(errs, d.writer.stop())
		d.writer = nil
	}
	for _, c := range []**child{&d.upload, &d.filter} {
		if *c != nil {
			errs = append(errs, (*c).terminate())
			*c = nil
		}
	}
	return errors.Join(errs...)
}

// end leaves nothing running, whatever happened.
func (d *demo) end() error { return d.stop() }
