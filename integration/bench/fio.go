package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

// fio runs a work on a file for a time, blocks chosen anew each time, and
// returns bytes a second, read and written together.
func fio(ctx context.Context, path string, w work, runtime time.Duration, size int64) (float64, error) {
	return runFio(ctx, path, w, size, "--norandommap", "--time_based", limit(runtime))
}

// fioOnce does the same, but ends when each block was touched once.
func fioOnce(ctx context.Context, path string, w work, runtime time.Duration, size int64) (float64, error) {
	return runFio(ctx, path, w, size, limit(runtime))
}

// overwrite writes a whole file, front to back.
func overwrite(ctx context.Context, path string, size int64) error {
	_, err := runFio(ctx, path, work{args: []string{"--rw=write", "--bs=1M", "--ioengine=psync"}}, size)
	return err
}

func limit(runtime time.Duration) string {
	return fmt.Sprintf("--runtime=%dms", runtime.Milliseconds())
}

func runFio(ctx context.Context, path string, w work, size int64, flags ...string) (float64, error) {
	args := []string{"--filename=" + path}
	if path == "" { // the work names the files
		args = nil
	}
	args = append(args,
		"--name=bench", "--filesize="+strconv.FormatInt(size, 10),
		"--output-format=json", "--group_reporting", "--randrepeat=0", "--fallocate=none",
		"--invalidate=0", // what the page cache holds stays there
	)
	run := exec.CommandContext(ctx, "fio", slices.Concat(args, w.args, flags)...)
	// Killed, it would leave its jobs behind, and they the mount in use.
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
	run.WaitDelay = 10 * time.Second
	out, err := run.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			said, _, _ := bytes.Cut(append(exit.Stderr, out...), []byte("\n"))
			return 0, fmt.Errorf("fio: %w: %s", err, said)
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
		return 0, errors.New("fio failed, but said success")
	}
	return result.Jobs[0].Read.Bytes + result.Jobs[0].Write.Bytes, nil
}
