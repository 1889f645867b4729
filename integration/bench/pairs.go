package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// pairs measures again, in more and shorter turns, what should be alike: a
// machine that others use, too, is steadier over a second than over a minute.
func (b *bench) pairs(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, b.stop()) }()
	dir, err := b.disks(ctx, native, b.size, "disk.img")
	if err != nil {
		return err
	}
	below, err := b.onFile(ctx, native, filepath.Join(dir, "disk.img"))
	if err != nil {
		return err
	}
	all, err := b.filterContenders(ctx, "buffered")
	if err != nil {
		return err
	}
	all = append(all, below)
	turns, runtime := 3*b.turns, b.runtime/4
	was := b.runtime
	b.runtime = runtime
	defer func() { b.runtime = was }()
	for _, p := range []struct {
		title   string
		of      []string
		columns []column
		goal    goal
	}{
		{
			"Tracking and none",
			[]string{untracked, protected, again},
			[]column{{of: untracked}, {of: protected}, {again, untracked}, {protected, untracked}},
			goal{"tracking costs nothing", column{protected, untracked}, 0.97, work.writes},
		},
		{
			"Kernel passthrough and none",
			[]string{native, passed},
			[]column{{of: native}, {of: passed}, {passed, native}},
			goal{"what is no disk", column{passed, native}, 0.95, everyWork},
		},
	} {
		of := slices.DeleteFunc(slices.Clone(all), func(c contender) bool { return !slices.Contains(p.of, c.name) })
		fmt.Printf("\n### %s, closer\n\n%d turns of %s each; medians in MB/s, and medians of the ratios of each turn.\n", p.title, turns, runtime)
		head(p.columns)
		var results []result
		for _, w := range works() {
			if !p.goal.concerns(w) || !b.wanted.MatchString(w.name) {
				continue
			}
			began := time.Now()
			m, err := compare(ctx, w, of, turns)
			if err != nil {
				return err
			}
			line(w, m, p.columns)
			results = append(results, result{w, m})
			b.progress("%s: %s", w.name, time.Since(began).Round(time.Second))
		}
		b.judge(p.goal, results)
	}
	return nil
}
