package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Names of what works are done on, and titles of columns.
const (
	native      = "native"
	loopback    = "loopback"
	passed      = "passthrough"
	untracked   = "untracked"
	again       = "untracked again"
	protected   = "protected"
	directPrior = "pass: "
)

// The files in a filter's folder. The filter takes the first for no disk, so
// that the kernel passes it through.
var fileOf = map[string]string{passed: "plain.dat", untracked: "untracked.img", again: "untracked.img", protected: "protected.img"}

// contenders starts everything that the steady state is compared with.
func (b *bench) contenders(ctx context.Context) ([]contender, error) {
	dir, err := b.disks(ctx, native, b.size, "disk.img")
	if err != nil {
		return nil, err
	}
	c, err := b.onFile(ctx, native, filepath.Join(dir, "disk.img"))
	if err != nil {
		return nil, err
	}
	all := []contender{c}
	starts := map[string]func(ctx context.Context, below, mount string) (*server, error){loopback: startLoopback}
	names := []string{loopback}
	for _, program := range b.foreign {
		name := filepath.Base(program)
		names = append(names, name)
		starts[name] = func(ctx context.Context, below, mount string) (*server, error) {
			return startForeign(ctx, program, below, mount)
		}
	}
	for _, name := range names {
		below, err := b.disks(ctx, name, b.size, "disk.img")
		if err != nil {
			return nil, err
		}
		mount, err := b.dir(name + "-mount")
		if err != nil {
			return nil, err
		}
		s, err := starts[name](ctx, below, mount)
		if err != nil {
			return nil, err
		}
		b.servers = append(b.servers, s)
		c, err := b.onFile(ctx, name, filepath.Join(mount, "disk.img"))
		if err != nil {
			return nil, err
		}
		c.others = s.others
		all = append(all, c)
	}
	for _, direct := range []string{"buffered", "pass"} {
		of, err := b.filterContenders(ctx, direct)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// filterContenders starts a filter with a policy for direct I/O.
func (b *bench) filterContenders(ctx context.Context, direct string) ([]contender, error) {
	dir, err := b.disks(ctx, direct, b.size, fileOf[passed], fileOf[untracked], fileOf[protected])
	if err != nil {
		return nil, err
	}
	_, client, err := b.filter(ctx, dir, "--direct", direct)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := protect(ctx, client, fileOf[protected]); err != nil {
		return nil, err
	}
	names, prefix := []string{passed, untracked, protected, again}, ""
	if direct == "pass" {
		names, prefix = []string{untracked, protected, again}, directPrior
	}
	var all []contender
	for _, name := range names {
		c, err := b.onFile(ctx, prefix+name, filepath.Join(dir, fileOf[name]))
		if err != nil {
			return nil, err
		}
		if prefix != "" {
			c.concerns = work.direct
		}
		all = append(all, c)
	}
	return all, nil
}

// steady compares what each work costs in the steady state.
func (b *bench) steady(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, b.stop()) }()
	all, err := b.contenders(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\n### Steady state\n\n%d turns of %s each, disks of %d MiB; medians in MB/s, and medians of the ratios of each turn.\n",
		b.turns, b.runtime, b.size>>20)
	columns := []column{{of: native}, {of: loopback}}
	for _, program := range b.foreign {
		columns = append(columns, column{of: filepath.Base(program)})
	}
	columns = append(columns, []column{
		{of: passed},
		{of: untracked},
		{of: protected},
		{protected, untracked},
		{again, untracked},
		{protected, native},
		{protected, loopback},
		{passed, native},
	}...)
	head(columns)
	var results []result
	for _, w := range works() {
		began := time.Now()
		m, err := compare(ctx, w, all, b.turns)
		if err != nil {
			return err
		}
		line(w, m, columns)
		results = append(results, result{w, m})
		b.progress("%s: %s", w.name, time.Since(began).Round(time.Second))
	}

	fmt.Printf("\nThe same for a filter with `--direct pass`:\n")
	p := func(name string) string { return directPrior + name }
	columns = []column{
		{of: native},
		{of: p(untracked)},
		{of: p(protected)},
		{p(protected), p(untracked)},
		{p(again), p(untracked)},
		{p(protected), native},
		{p(protected), loopback},
		{p(protected), protected},
	}
	head(columns)
	for _, r := range results {
		if r.work.direct() {
			line(r.work, r.measured, columns)
		}
	}
	for _, g := range steadyGoals {
		b.judge(g, results)
	}
	return nil
}

func named(name string) func(work) bool { return func(w work) bool { return w.name == name } }

var steadyGoals = []goal{
	{"tracking costs nothing", column{protected, untracked}, 0.97, everyWork},
	{"tracking costs nothing with --direct pass", column{directPrior + protected, directPrior + untracked}, 0.97, work.direct},
	{"deep random writes", column{protected, loopback}, 5, named("write 4 KiB random, depth 16 × 2, direct")},
	{"deep random writes", column{protected, native}, 1, named("write 4 KiB random, depth 16 × 2, direct")},
	{"sequential writes, buffered", column{protected, loopback}, 1.5, named("write 1 MiB sequential, depth 1, buffered")},
	{"sequential writes, direct", column{protected, loopback}, 1.5, named("write 1 MiB sequential, depth 1, direct")},
	{"cached reads", column{protected, native}, 0.9, work.cached},
	{"what is no disk", column{passed, native}, 0.95, everyWork},
}
