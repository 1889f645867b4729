// Command bench measures what the filter costs: fio on a native folder, on
// other FUSE file systems without kernel passthrough, and on the filter's disks
// in each state, in turns, in one run. Absolute figures of a shared machine mean
// little, so it prints medians of ratios as well, and says which goals they
// meet. What it prints is Markdown; progress goes to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are what is measured, and how.
type options struct {
	turns       int
	runtime     time.Duration
	size, large int64
	binary      string
	// foreign are programs that take the arguments of libfuse's passthrough_hp.
	foreign []string
	// builds are to be compared with each other.
	builds []build
	// wanted are the works that are measured, in all parts but steady and pause.
	wanted *regexp.Regexp
	// stages are measured at first touches.
	stages *regexp.Regexp
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "loopback" {
		exit(serveLoopback(os.Args[2], os.Args[3]))
	}
	var o options
	flag.IntVar(&o.turns, "turns", 5, "how often each measurement is made")
	flag.DurationVar(&o.runtime, "runtime", 2*time.Second, "how long each measurement is")
	flag.Int64Var(&o.size, "size", 512<<20, "size of a disk in bytes")
	flag.Int64Var(&o.large, "large", 10<<30, "size in bytes of the disk of which no block is written twice")
	flag.StringVar(&o.binary, "lifeboat", "bin/lifeboat", "the program to measure")
	dir := flag.String("dir", "", "where to make the disks (default: a temporary folder)")
	flag.Func("foreign", "a FUSE file system to compare with, called as `PROGRAM` --foreground FOLDER MOUNTPOINT (repeatable)", func(program string) error {
		o.foreign = append(o.foreign, program)
		return nil
	})
	flag.Func("build", "`NAME=PROGRAM`, builds of the program to compare with the first of them (repeatable), with -only builds", func(text string) error {
		named, err := parseBuild(text)
		o.builds = append(o.builds, named)
		return err
	})
	wanted := flag.String("works", "", "in all parts but steady and pause, measure only works whose name this `REGEXP` matches")
	stages := flag.String("stages", "", "at first touches, measure only columns whose title this `REGEXP` matches")
	only := flag.String("only", "", "of steady, pairs, first, pause, keeper and builds, measure these alone (separated by commas)")
	flag.Parse()
	var err error
	if o.wanted, err = regexp.Compile(*wanted); err != nil {
		exit(fmt.Errorf("-works: %w", err))
	}
	if o.stages, err = regexp.Compile(*stages); err != nil {
		exit(fmt.Errorf("-stages: %w", err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	exit(run(ctx, o, *dir, *only))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options, dir, only string) (err error) {
	if o.turns < 1 {
		return errors.New("at least one turn is needed")
	}
	base, err := os.MkdirTemp(dir, "lifeboat-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	b := &bench{options: o, base: base}
	if err := b.describe(); err != nil {
		return err
	}
	parts := []struct {
		name string
		run  func(context.Context) error
	}{{"steady", b.steady}, {"pairs", b.pairs}, {"first", b.first}, {"pause", b.pauses}, {"keeper", b.keeper}, {"builds", b.compareBuilds}}
	for _, part := range parts {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Println()
		for _, verdict := range b.verdicts {
			fmt.Println(verdict)
		}
		b.verdicts = nil
	}
	return nil
}

// progress tells how far it is.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}
