package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// build is one of the program, to be compared with others.
type build struct{ name, binary string }

func parseBuild(s string) (build, error) {
	name, binary, found := strings.Cut(s, "=")
	if !found {
		return build{}, errors.New("give NAME=PROGRAM")
	}
	return build{name, binary}, nil
}

// compareBuilds measures works on a protected disk of a filter of each build.
// Its pages are not in the cache of the mount, but in that of the folder below.
func (b *bench) compareBuilds(ctx context.Context) (err error) {
	if len(b.builds) == 0 {
		return nil
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	name := fileOf[protected]
	var all []contender
	columns := []column{{of: b.builds[0].name}}
	for i, build := range b.builds {
		dir, err := b.disks(ctx, "build-"+build.name, b.size, name)
		if err != nil {
			return err
		}
		sockets, err := b.dir("run")
		if err != nil {
			return err
		}
		_, client, err := b.filterOf(ctx, build.binary, dir, sockets)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		err = errors.Join(protect(ctx, client, name), overwrite(ctx, path, b.size))
		client.Close()
		if err != nil {
			return err
		}
		all = append(all, contender{name: build.name, measure: func(ctx context.Context, w work) (float64, error) {
			if err := errors.Join(b.quiet(path, false), forgetPages(path)); err != nil {
				return 0, err
			}
			return fio(ctx, path, w, b.runtime, b.size)
		}})
		if i > 0 {
			columns = append(columns, column{build.name, b.builds[0].name})
		}
	}
	fmt.Printf("\n### Builds\n\n%d turns of %s each, disks of %d MiB, protected; medians in MB/s, and medians of the ratios of each turn.\n",
		b.turns, b.runtime, b.size>>20)
	head(columns)
	for _, w := range works() {
		if !b.wanted.MatchString(w.name) {
			continue
		}
		m, err := compare(ctx, w, all, b.turns)
		if err != nil {
			return err
		}
		line(w, m, columns)
	}
	return nil
}
