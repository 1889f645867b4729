package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// Titles of columns, for a disk of which each block is written once.
const (
	marked     = "marked"
	firstTouch = "first touch"
	saving     = "before-image"
)

// first measures what the first write to a block costs in an epoch, and what
// it costs when the block has to be saved before: random writes on a large
// disk, sequential ones on a disk that is in memory with all that is saved of
// it. Each disk is by turns protected and not.
func (b *bench) first(ctx context.Context) error {
	fmt.Printf("\n### First touches and before-images\n\n%d turns of at most %s each, no block is written twice: random ones of a disk of %d MiB, sequential ones of %d MiB. Medians in MB/s, and medians of the ratios of each turn.\n",
		b.turns, b.runtime, b.large>>20, b.size>>20)
	head(firstColumns)
	var results []result
	for _, part := range []struct {
		works []work
		size  int64
	}{{onceRandom, b.large}, {onceSequential, b.size}} {
		some, err := b.firstOn(ctx, part.size, part.works)
		if err != nil {
			return err
		}
		results = append(results, some...)
	}
	b.judge(goal{"first touches", column{firstTouch, untracked}, 0.9, func(w work) bool { return w.is("--rw=randwrite") }}, results)
	b.judge(goal{"before-images", column{saving, untracked}, 0.5, func(w work) bool { return w.is("--rw=write") }}, results)
	return nil
}

var firstColumns = []column{
	{of: untracked},
	{of: marked},
	{of: firstTouch},
	{of: saving},
	{marked, untracked},
	{firstTouch, untracked},
	{saving, untracked},
}

func (b *bench) firstOn(ctx context.Context, size int64, works []work) (results []result, err error) {
	defer func() { err = errors.Join(err, b.stop()) }()
	const name = "disk.img"
	dir, err := b.disks(ctx, fmt.Sprintf("first-%d", size), size, name)
	if err != nil {
		return nil, err
	}
	// As much as the disk takes, so that no epoch is given up meanwhile.
	_, client, err := b.filter(ctx, dir, "--before-images", "100")
	if err != nil {
		return nil, err
	}
	defer client.Close()
	path := filepath.Join(dir, name)
	// All stages have the same past, but for what the tracker knows of it.
	stage := func(title string, steps ...func(context.Context) error) contender {
		return contender{name: title, measure: func(ctx context.Context, w work) (float64, error) {
			for _, step := range steps {
				if err := step(ctx); err != nil {
					return 0, err
				}
			}
			if err := errors.Join(b.quiet(path, false), forgetPages(path), memory()); err != nil {
				return 0, err
			}
			return fioOnce(ctx, path, w, b.runtime, size)
		}}
	}
	forget := func(ctx context.Context) error { return b.forget(ctx, client) }
	write := func(ctx context.Context) error { return overwrite(ctx, path, size) }
	track := func(ctx context.Context) error { return protect(ctx, client, name) }
	rollover := func(ctx context.Context) error {
		_, err := client.Rollover(ctx, benchVM, 0)
		return err
	}
	all := []contender{
		stage(untracked, forget, write),
		stage(marked, forget, track, write),
		stage(firstTouch, forget, write, track),
		stage(saving, forget, track, write, rollover),
	}
	all = slices.DeleteFunc(all, func(c contender) bool { return !b.stages.MatchString(c.name) })
	for _, w := range works {
		if !b.wanted.MatchString(w.name) {
			continue
		}
		m, err := compare(ctx, w, all, b.turns)
		if err != nil {
			return nil, err
		}
		line(w, m, firstColumns)
		results = append(results, result{w, m})
	}
	return results, b.forget(ctx, client)
}

// forget ends the protection, if there is one.
func (b *bench) forget(ctx context.Context, client *control.Client) error {
	if err := client.Unprotect(ctx, benchVM); err != nil && !errors.Is(err, tracker.ErrNotFound) {
		return err
	}
	return nil
}
