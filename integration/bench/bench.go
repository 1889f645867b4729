package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

const (
	benchVM   = "00000000000000000000000000000001"
	benchDisk = "%032x"
)

// protect starts to track disks of the filter, as a VM whose walk is done.
func protect(ctx context.Context, client *control.Client, names ...string) error {
	spec := tracker.Spec{ID: benchVM, Name: "bench"}
	for i, name := range names {
		spec.Disks = append(spec.Disks, tracker.DiskSpec{ID: fmt.Sprintf(benchDisk, 16+i), Path: name})
	}
	vm, err := client.Protect(ctx, spec)
	if err != nil {
		return err
	}
	e, err := client.Rollover(ctx, benchVM, vm.Walk.Number)
	if err != nil {
		return err
	}
	return client.Acknowledge(ctx, benchVM, e.Number, vm.Walk.Number)
}

// bench is a folder in which everything is measured.
type bench struct {
	options
	base    string
	servers []*server
	// verdicts are what is said of the goals below a table.
	verdicts []string
}

// dir makes a folder in the base.
func (b *bench) dir(name string) (string, error) {
	path := filepath.Join(b.base, name)
	return path, os.MkdirAll(path, 0o700)
}

// disks makes a folder with files that are written in full, and not in the page
// cache.
func (b *bench) disks(ctx context.Context, folder string, size int64, names ...string) (string, error) {
	dir, err := b.dir(folder)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := overwrite(ctx, path, size); err != nil {
			return "", fmt.Errorf("make %s in %s: %w", name, folder, err)
		}
		unix.Sync()
		if err := forgetPages(path); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// filter mounts the filter over a folder of disks.
func (b *bench) filter(ctx context.Context, dir string, flags ...string) (*server, *control.Client, error) {
	sockets, err := b.dir("run")
	if err != nil {
		return nil, nil, err
	}
	return b.filterOf(ctx, b.binary, dir, sockets, flags...)
}

// filterOf is filter for any build of the program.
func (b *bench) filterOf(ctx context.Context, binary, dir, sockets string, flags ...string) (*server, *control.Client, error) {
	s, err := startFilter(ctx, binary, dir, sockets, flags...)
	if err != nil {
		return nil, nil, err
	}
	b.servers = append(b.servers, s)
	return s, control.NewClient(s.socket), nil
}

// stop ends what serves.
func (b *bench) stop() error {
	var failed error
	for _, s := range b.servers {
		failed = errors.Join(failed, s.stop())
	}
	b.servers = nil
	return failed
}

// onFile is what does works on a file for a time. The file is written once
// before, so that all have the same past: its pages are in the cache of the
// mount, its blocks are marked if it is protected.
func (b *bench) onFile(ctx context.Context, name, path string) (contender, error) {
	measure := func(ctx context.Context, w work) (float64, error) {
		if err := b.quiet(path, w.cached()); err != nil {
			return 0, err
		}
		return fio(ctx, path, w, b.runtime, b.size)
	}
	return contender{name: name, measure: measure}, overwrite(ctx, path, b.size)
}

// quiet waits until what was written before is on the disk, so that it slows
// nobody else, and brings a file into the page cache.
func (b *bench) quiet(path string, cached bool) error {
	unix.Sync()
	if !cached {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	_, err = io.Copy(io.Discard, f)
	return err
}
