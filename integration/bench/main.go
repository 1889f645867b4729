// Command bench measures what the filter costs: fio on a native directory, on
// go-fuse's loopback file system without kernel passthrough, and on the filter
// with a protected disk, in turn in one run. Absolute figures of a shared
// machine mean little, so it prints medians and their ratios.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// row is one kind of work.
type row struct {
	name string
	args []string
}

// rows are what a hypervisor does to a disk, from friendly to hard.
var rows = []row{
	{"write 1 MiB, sequential, buffered", []string{"--rw=write", "--bs=1M", "--ioengine=psync", "--direct=0"}},
	{"write 1 MiB, sequential, direct", []string{"--rw=write", "--bs=1M", "--ioengine=psync", "--direct=1"}},
	{"read 1 MiB, sequential, direct", []string{"--rw=read", "--bs=1M", "--ioengine=psync", "--direct=1"}},
	{"write 4 KiB, random, depth 1, buffered", []string{"--rw=randwrite", "--bs=4k", "--ioengine=psync", "--direct=0"}},
	{"write 4 KiB, random, depth 1, direct", []string{"--rw=randwrite", "--bs=4k", "--ioengine=psync", "--direct=1"}},
	{"write 4 KiB, random, depth 16x2, direct", []string{"--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--direct=1", "--iodepth=16", "--numjobs=2"}},
	{"read 4 KiB, random, depth 16x2, direct", []string{"--rw=randread", "--bs=4k", "--ioengine=libaio", "--direct=1", "--iodepth=16", "--numjobs=2"}},
	{"70/30 4 KiB, random, depth 16x2, direct", []string{"--rw=randrw", "--rwmixread=70", "--bs=4k", "--ioengine=libaio", "--direct=1", "--iodepth=16", "--numjobs=2"}},
	{"write 4 KiB, random, fsync every 32, buffered", []string{"--rw=randwrite", "--bs=4k", "--ioengine=psync", "--direct=0", "--fsync=32"}},
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "loopback" {
		exit(serveLoopback(os.Args[2], os.Args[3]))
	}
	turns := flag.Int("turns", 3, "how often each measurement is made")
	runtime := flag.Duration("runtime", 3*time.Second, "how long each measurement is")
	size := flag.Int64("size", 512<<20, "size of the disk in bytes")
	binary := flag.String("lifeboat", "bin/lifeboat", "the program to measure")
	dir := flag.String("dir", "", "where to make the disks (default: a temporary folder)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	exit(run(ctx, *binary, *dir, *turns, *runtime, *size))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, binary, dir string, turns int, runtime time.Duration, size int64) (err error) {
	if turns < 1 {
		return errors.New("at least one turn is needed")
	}
	base, err := os.MkdirTemp(dir, "lifeboat-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	var targets []*target
	defer func() {
		for _, t := range targets {
			err = errors.Join(err, t.stop())
		}
	}()
	for _, start := range []func(context.Context, string, string) (*target, error){startNative, startLoopback, startFilter} {
		t, err := start(ctx, base, binary)
		if err != nil {
			return err
		}
		targets = append(targets, t)
		if err := t.prepare(ctx, size); err != nil {
			return err
		}
	}
	fmt.Printf("%d turns of %s each, disk of %d MiB, medians in MB/s\n\n", turns, runtime, size>>20)
	const columns = "%-48s %9s %9s %9s %14s %16s\n"
	fmt.Printf(columns, "work", targets[0].name, targets[1].name, targets[2].name, "filter/native", "filter/loopback")
	for _, r := range rows {
		medians, err := measure(ctx, r, targets, turns, runtime, size)
		if err != nil {
			return err
		}
		text := func(v float64, format string) string { return fmt.Sprintf(format, v) }
		fmt.Printf(columns, r.name,
			text(medians[0]/1e6, "%.1f"), text(medians[1]/1e6, "%.1f"), text(medians[2]/1e6, "%.1f"),
			text(medians[2]/medians[0], "%.2f"), text(medians[2]/medians[1], "%.2f"))
	}
	return nil
}

// measure runs one kind of work on each target in turn, several times, and
// returns each target's median in bytes a second.
func measure(ctx context.Context, r row, targets []*target, turns int, runtime time.Duration, size int64) ([]float64, error) {
	all := make([][]float64, len(targets))
	for range turns {
		for i, t := range targets {
			speed, err := fio(ctx, filepath.Join(t.mount, diskName), r.args, runtime, size)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", r.name, t.name, err)
			}
			all[i] = append(all[i], speed)
		}
	}
	medians := make([]float64, len(targets))
	for i := range all {
		slices.Sort(all[i])
		medians[i] = all[i][len(all[i])/2]
	}
	return medians, nil
}
