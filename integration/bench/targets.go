package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

const diskName = "disk.img"

// target is a folder, as it is seen through something.
type target struct {
	name    string
	mount   string
	process *exec.Cmd
	said    bytes.Buffer
	// protect, unless nil, is called when the disk has been made.
	protect func(context.Context) error
}

func startNative(_ context.Context, base, _ string) (*target, error) {
	dir := filepath.Join(base, "native")
	return &target{name: "native", mount: dir}, os.Mkdir(dir, 0o700)
}

// startLoopback serves a folder by go-fuse's loopback file system, in another
// process of this program.
func startLoopback(ctx context.Context, base, _ string) (*target, error) {
	below, mount := filepath.Join(base, "loopback"), filepath.Join(base, "loopback-mount")
	if err := errors.Join(os.Mkdir(below, 0o700), os.Mkdir(mount, 0o700)); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &target{name: "loopback", mount: mount}
	return t, t.start(ctx, exec.Command(self, "loopback", mount, below))
}

// startFilter mounts the filter over a folder. Its disk will be protected, so
// that every write is tracked; nothing is shipped.
func startFilter(ctx context.Context, base, binary string) (*target, error) {
	dir, sockets := filepath.Join(base, "filter"), filepath.Join(base, "run")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(sockets, 0o700)); err != nil {
		return nil, err
	}
	t := &target{name: "filter", mount: dir}
	t.protect = func(ctx context.Context) error {
		client := control.NewClient(control.SocketPath(sockets, dir))
		defer client.Close()
		_, err := client.Protect(ctx, tracker.Spec{
			ID: "00000000000000000000000000000001", Name: "bench",
			Disks: []tracker.DiskSpec{{ID: "00000000000000000000000000000002", Path: diskName}},
		})
		return err
	}
	cmd := exec.Command(binary, "mount", "--ready-fd", "3", dir)
	cmd.Env = append(os.Environ(), "LIFEBOAT_RUNTIME_DIR="+sockets)
	return t, t.start(ctx, cmd)
}

// start runs a process that writes to descriptor 3 when it serves.
func (t *target) start(ctx context.Context, cmd *exec.Cmd) error {
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close() //nolint:errcheck // only read
	cmd.ExtraFiles, cmd.Stderr = []*os.File{write}, &t.said
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		return fmt.Errorf("start %s: %w", t.name, err)
	}
	t.process = cmd
	stop := context.AfterFunc(ctx, func() { ready.Close() }) //nolint:errcheck // ends the read below
	defer stop()
	if word, err := io.ReadAll(ready); err != nil || len(word) == 0 {
		return errors.Join(fmt.Errorf("%s did not start", t.name), t.stop())
	}
	return nil
}

// stop ends the process, which unmounts.
func (t *target) stop() error {
	if t.process == nil {
		return nil
	}
	err := t.process.Process.Signal(unix.SIGTERM)
	if err = errors.Join(err, t.process.Wait()); err != nil {
		err = fmt.Errorf("stop %s: %w: %s", t.name, err, t.said.String())
	}
	t.process = nil
	return err
}

// prepare writes the whole disk, so that nothing is allocated later.
func (t *target) prepare(ctx context.Context, size int64) error {
	path := filepath.Join(t.mount, diskName)
	args := []string{"--rw=write", "--bs=1M", "--ioengine=psync", "--end_fsync=1"}
	if _, err := fio(ctx, path, args, 0, size); err != nil {
		return fmt.Errorf("make the disk on %s: %w", t.name, err)
	}
	if t.protect == nil {
		return nil
	}
	return t.protect(ctx)
}

// fio runs one job for a time, or once over the file, and returns bytes a
// second, read and written together.
func fio(ctx context.Context, path string, args []string, runtime time.Duration, size int64) (float64, error) {
	all := append([]string{
		"--name=bench", "--filename=" + path, "--size=" + strconv.FormatInt(size, 10),
		"--output-format=json", "--group_reporting", "--norandommap", "--randrepeat=0", "--fallocate=none",
	}, args...)
	if runtime > 0 {
		all = append(all, "--time_based", fmt.Sprintf("--runtime=%dms", runtime.Milliseconds()))
	}
	out, err := exec.CommandContext(ctx, "fio", all...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return 0, fmt.Errorf("fio: %w: %s%s", err, out, exit.Stderr)
		}
		return 0, fmt.Errorf("fio: %w; scripts/install-packages.sh installs it", err)
	}
	var result struct {
		Jobs []struct {
			Error       int
			Read, Write struct {
				Bytes float64 `json:"bw_bytes"`
			}
		}
	}
	// fio may say something before its JSON.
	if at := bytes.IndexByte(out, '{'); at > 0 {
		out = out[at:]
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, fmt.Errorf("read what fio printed: %w", err)
	}
	if len(result.Jobs) != 1 || result.Jobs[0].Error != 0 {
		return 0, fmt.Errorf("fio failed: %s", out)
	}
	return result.Jobs[0].Read.Bytes + result.Jobs[0].Write.Bytes, nil
}
