package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"lifeboat/fusefs"
	"lifeboat/fusefs/handover"
	"lifeboat/fusefs/keeper"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

func mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount the filter over a folder of VM disks, and serve it until it is unmounted",
		ArgsUsage: "DIR [MOUNTPOINT]",
		Description: "MOUNTPOINT is DIR itself unless given, so that the paths of the disks stay the same.\n" +
			"SIGTERM or SIGINT unmounts; if a process uses the mount, the filter says which and goes on.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "ready-fd", Value: -1, Usage: "write a line to this descriptor `N` and close it when the mount is ready"},
			&cli.IntFlag{Name: "readers", Usage: "at most `N` request loops at a time (default: 8)"},
			&cli.StringFlag{Name: "direct", Value: string(fusefs.DirectBuffered), Usage: "`WHAT` becomes of a guest's O_DIRECT: pass it on to the disk file, or serve it buffered from the page cache; a flush is an fsync either way"},
			&cli.IntFlag{Name: "before-images", Value: 10, Usage: "before-images may take `PERCENT` of the size of a VM's disks, at least 64 MiB; beyond, the oldest recovery point that was not shipped is given up"},
			&cli.BoolFlag{Name: "no-passthrough", Usage: "serve also what is no disk through the filter"},
			&cli.BoolFlag{Name: "keeper", Usage: "keep the mount if the filter dies: another one takes over, and what is open stays open (as root, Linux 6.9 or later)"},
			&cli.BoolFlag{Name: "standby", Value: true, Usage: "with --keeper, have a second filter ready at all times, for a shorter pause"},
			&cli.BoolFlag{Name: "replace", Usage: "have the keeper of the mount on DIR replace its filter by this program, while the mount stays in use"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "`PATTERN` of names that are never taken for disks (repeatable)"},
			logFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			switch direct := fusefs.Direct(c.String("direct")); direct {
			case fusefs.DirectPass, fusefs.DirectBuffered:
			default:
				return usagef("--direct %s: give pass or buffered", direct)
			}
			if c.Bool("replace") {
				return replace(c)
			}
			if percent := c.Int("before-images"); percent < 1 {
				return usagef("--before-images %d: give a percentage of at least 1", percent)
			}
			log, err := newLogger(c)
			if err != nil {
				return err
			}
			estate, err := keeper.Estate()
			if err != nil {
				return err
			}
			o := mountOptions{
				fusefs: fusefs.Options{
					Folder: c.Args().Get(0), Logger: log, Readers: c.Int("readers"), Direct: fusefs.Direct(c.String("direct")),
					NoPassthrough: c.Bool("no-passthrough"), Excluded: c.StringSlice("exclude"),
				},
				imageShare: float64(c.Int("before-images")) / 100,
				mountpoint: c.Args().Get(1),
				readyFD:    c.Int("ready-fd"),
				standby:    c.Bool("standby"),
				log:        log,
			}
			if c.Bool("keeper") && estate == nil {
				return keep(c.Context, o)
			}
			if estate != nil {
				o.inherit(estate)
			}
			return mount(c.Context, o)
		},
	}
}

type mountOptions struct {
	fusefs     fusefs.Options
	imageShare float64
	mountpoint string
	readyFD    int
	standby    bool // if there is a keeper
	log        *slog.Logger
}

// inherit has the filter serve what its keeper gave it.
func (o *mountOptions) inherit(estate *handover.Estate) {
	o.fusefs.Estate, o.fusefs.Folder, o.mountpoint = estate, estate.State.Folder(), estate.State.Point()
}

// mount serves a folder until ctx ends and nobody uses the mount, or until
// somebody unmounts it.
func mount(ctx context.Context, o mountOptions) (err error) {
	started := time.Now()
	if o.mountpoint == "" {
		o.mountpoint = o.fusefs.Folder
	}
	point, err := filepath.Abs(o.mountpoint)
	if err != nil {
		return fmt.Errorf("mount %s: %w", o.mountpoint, err)
	}
	below, err := filepath.Abs(o.fusefs.Folder)
	if err != nil {
		return fmt.Errorf("mount %s: %w", o.fusefs.Folder, err)
	}
	logs := newTracking(o.log)
	o.fusefs.MakeRoom, o.fusefs.LetGo = logs.makeRoom, logs.letGo
	fs, err := fusefs.Open(o.fusefs) // with a keeper it stands by until it is needed
	if errors.Is(err, handover.ErrDismissed) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	folder, err := os.Open(fs.Folder())
	if err != nil {
		return fmt.Errorf("open folder %s: %w", below, err)
	}
	defer folder.Close() //nolint:errcheck // only a directory descriptor
	measured := newMetrics(fs)
	left := passesFrom(o.fusefs.Estate, o.log)
	logs.config = tracker.Config{
		Folder: folder, FileSystem: attacher{fs}, Logger: o.log, ImageShare: o.imageShare,
		RolloverPause: measured.rolloverPause, Passes: left,
	}
	defer func() { err = errors.Join(err, logs.close()) }()
	socket := &controlSocket{
		path: control.SocketPath(runtimeDir(), point), log: o.log,
		info: control.Info{Version: version, Folder: below, Mountpoint: point, PID: os.Getpid(), Started: started},
	}
	socket.answering.Handle("GET /metrics", measured.handler())
	// The protected disks are attached before the first request can come, if
	// only early ones.
	early := logs.anticipate()
	if !early {
		if err := logs.open(); err != nil {
			return fmt.Errorf("mount %s: %w", below, err)
		}
		if err := socket.listen(); err != nil {
			return err
		}
	}
	m, err := fs.Mount(o.mountpoint)
	if err != nil {
		return errors.Join(err, socket.close())
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		if early {
			err := logs.openLate(serving)
			if errors.Is(err, errOtherBuild) {
				// Guests wait, and the keeper has another filter do what they want.
				o.log.Error("this filter ends", "error", err)
				os.Exit(exitFailed)
			}
			if err != nil || !socket.listenLate(serving) {
				served <- nil // it was stopped
				return
			}
		}
		served <- socket.serve(serving, logs.logs.Load())
	}()
	o.log.Info("mounted", "folder", below, "mountpoint", point, "control", socket.path)
	if o.fusefs.Estate != nil {
		// Requests are being answered, but an upgrade has succeeded only now.
		select {
		case <-logs.settled:
			err = o.fusefs.Estate.Ready()
		case <-m.Done():
		}
	} else {
		err = announce(o.readyFD)
	}
	err = errors.Join(err, waitForEnd(ctx, m, o.log))
	stopServing()
	return errors.Join(err, <-served)
}

// waitForEnd unmounts when ctx ends. While the mount is in use it goes on
// serving: a VM whose disks vanish is worse than a service that does not stop.
func waitForEnd(ctx context.Context, m *fusefs.Mount, log *slog.Logger) error {
	select {
	case <-m.Done():
		return m.Wait()
	case <-ctx.Done():
	}
	const again = time.Second
	said := ""
	for {
		unmounting, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := m.Unmount(unmounting)
		cancel()
		busy, isBusy := errors.AsType[*fusefs.BusyError](err)
		if !isBusy {
			return err
		}
		if text := busy.Error(); text != said {
			said = text
			log.Warn("asked to stop, but the mount is in use; serving on until it is free", "holders", text)
		}
		select {
		case <-m.Done():
			return m.Wait()
		case <-time.After(again):
		}
	}
}

// announce tells whoever started the filter that the mount is there.
func announce(fd int) error {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if fd < 0 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	if f == nil {
		return usagef("--ready-fd %d: no such descriptor", fd)
	}
	_, err := f.WriteString("ready\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write to the descriptor of --ready-fd: %w", err)
	}
	return nil
}

// attacher joins tracker and file system, which do not know each other.
type attacher struct{ fs *fusefs.FS }

func (a attacher) Attach(device, inode uint64, d tracker.Tracked) error {
	return a.fs.Attach(fusefs.FileID{Device: device, Inode: inode}, d)
}

func (a attacher) Anticipate(device, inode uint64, d tracker.Tracked) {
	a.fs.Anticipate(fusefs.FileID{Device: device, Inode: inode}, d)
}

func (a attacher) Watch(file *os.File, w tracker.Witness) { a.fs.Watch(file, w) }

func (a attacher) Look() { a.fs.Look() }

func (a attacher) Detach(device, inode uint64) {
	a.fs.Detach(fusefs.FileID{Device: device, Inode: inode})
}
