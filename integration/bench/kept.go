package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Titles of columns, for a mount that outlives its filter and two that do not,
// which tell what a ratio is worth.
const (
	kept       = "with a keeper"
	alone      = "without"
	aloneAgain = "without again"
)

// names is the work that makes and removes files. Its speed is a million times
// that of the others, so that a table shows how many files it made a second.
var names = work{name: "create and remove a file, files/s"}

// keptWorks are what a keeper could slow: what it holds, and the journal of what
// changes names.
var keptWorks = []work{
	{"write 4 KiB random, depth 16 × 2, direct", slices.Concat(shapes[2].args, depth16x2, []string{"--direct=1"})},
	{"read 4 KiB random, depth 16 × 2, direct", slices.Concat(shapes[3].args, depth16x2, []string{"--direct=1"})},
	{"write 1 MiB sequential, depth 1, buffered", slices.Concat(shapes[0].args, depthOne, []string{"--direct=0"})},
	names,
}

// keeper compares a protected disk on a mount with a keeper and on one without, in
// more and shorter turns, as pairs does.
func (b *bench) keeper(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, b.stop()) }()
	turns, was := 3*b.turns, b.runtime
	b.runtime /= 4
	defer func() { b.runtime = was }()
	var all []contender
	for _, c := range []struct {
		name, folder string
		flags        []string
	}{{alone, "alone", nil}, {kept, "kept", []string{"--keeper"}}, {aloneAgain, "again", nil}} {
		one, err := b.protectedContender(ctx, c.name, c.folder, c.flags...)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	fmt.Printf("\n### Keeper\n\n%d turns of %s each, disks of %d MiB, protected; medians in MB/s or files/s, and medians of the ratios of each turn.\n",
		turns, b.runtime, b.size>>20)
	columns := []column{{of: alone}, {of: kept}, {aloneAgain, alone}, {kept, alone}}
	head(columns)
	var results []result
	for _, w := range keptWorks {
		if !b.wanted.MatchString(w.name) {
			continue
		}
		m, err := compare(ctx, w, all, turns)
		if err != nil {
			return err
		}
		line(w, m, columns)
		results = append(results, result{w, m})
	}
	b.judge(goal{"a keeper costs nothing", column{kept, alone}, 0.97, everyWork}, results)
	return nil
}

// protectedContender mounts a folder and protects a disk in it. The disk's pages
// are not in the cache of the mount, but in that of the folder below.
func (b *bench) protectedContender(ctx context.Context, name, folder string, flags ...string) (c contender, err error) {
	disk := fileOf[protected]
	dir, err := b.disks(ctx, folder, b.size, disk)
	if err != nil {
		return c, err
	}
	_, client, err := b.filter(ctx, dir, flags...)
	if err != nil {
		return c, err
	}
	defer client.Close()
	path := filepath.Join(dir, disk)
	c = contender{name: name, measure: func(ctx context.Context, w work) (float64, error) {
		if err := errors.Join(b.quiet(path, false), forgetPages(path)); err != nil {
			return 0, err
		}
		if w.name == names.name {
			return makeFiles(ctx, dir, b.runtime)
		}
		return fio(ctx, path, w, b.runtime, b.size)
	}}
	return c, errors.Join(protect(ctx, client, disk), overwrite(ctx, path, b.size))
}

// makeFiles makes and removes files for a time, one by one.
func makeFiles(ctx context.Context, dir string, runtime time.Duration) (float64, error) {
	begun, made := time.Now(), 0
	for time.Since(begun) < runtime && ctx.Err() == nil {
		path := filepath.Join(dir, fmt.Sprintf("file-%d.img", made%100))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return 0, err
		}
		if err := errors.Join(f.Close(), os.Remove(path)); err != nil {
			return 0, err
		}
		made++
	}
	return 1e6 * float64(made) / time.Since(begun).Seconds(), ctx.Err()
}
