package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const imageSize = 32 << 20

// formats are what QEMU is asked for, by the name of the image.
var formats = map[string]format{
	"disk.raw":      {driver: "raw", resizes: true},
	"fixed.vhd":     {driver: "vpc", options: "subformat=fixed,force_size=on"},
	"dynamic.vhd":   {driver: "vpc", options: "subformat=dynamic,force_size=on"},
	"disk.vhdx":     {driver: "vhdx", options: "subformat=dynamic,block_size=1M", checks: true},
	"disk.qcow2":    {driver: "qcow2", resizes: true, checks: true},
	"overlay.qcow2": {driver: "qcow2", checks: true, base: "disk.qcow2"},
}

// format is how QEMU makes an image, and what it can do with it.
type format struct {
	driver, options string
	resizes, checks bool
	base            string // the backing file
}

// create makes an empty image, over one that is there already, too.
func (f format) create(t *testing.T, path string) {
	t.Helper()
	args := []string{"qemu-img", "create", "-q", "-f", f.driver}
	if f.options != "" {
		args = append(args, "-o", f.options)
	}
	if f.base != "" {
		args = append(args, "-b", f.base, "-F", formats[f.base].driver)
	}
	execute(t, append(args, path, fmt.Sprint(imageSize))...)
}

// images is a site whose VM has an image of every format.
type images struct {
	*site
	names []string // a backing file before its overlay
}

func newImages(t *testing.T) *images {
	t.Helper()
	s := &images{site: newSite(t), names: slices.Sorted(maps.Keys(formats))}
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	for _, name := range s.names {
		formats[name].create(t, s.disk(name))
	}
	s.protect(t, s.names...)
	return s
}

// each does something with every image that it suits.
func (s *images) each(suits func(format) bool, do func(f format, path string)) {
	for _, name := range s.names {
		if f := formats[name]; suits(f) {
			do(f, s.disk(name))
		}
	}
}

func every(format) bool { return true }

// proved makes a recovery point and fails the test unless it restores to what
// the image files are, and QEMU finds the same disks in them, whole.
func (s *images) proved(t *testing.T, after string) {
	t.Helper()
	p := s.cut(t, true)
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	are, err := digestsOf(s.mountpoint, s.names)
	must(t, err)
	restored, err := digestsOf(to, s.names)
	must(t, err)
	for _, name := range s.names {
		f, image := formats[name], filepath.Join(to, name)
		if restored[name] != are[name] {
			t.Errorf("after %s, %s is %v, restored %v", after, name, are[name], restored[name])
		}
		execute(t, "qemu-img", "compare", "-q", "-f", f.driver, "-F", f.driver, s.disk(name), image)
		if f.checks {
			execute(t, "qemu-img", "check", "-q", "-f", f.driver, image)
		}
	}
	must(t, os.RemoveAll(to))
}

// Whatever QEMU and its tools do to an image on the mount works, and is in the
// recovery point that is made next: reads and writes in every cache and aio
// mode, discards, resizing, snapshots, commit and rebase of an overlay, and
// images that are made anew over what was there.
func TestImages(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	for i, mode := range []string{"none:threads", "none:native", "none:io_uring", "writeback:threads"} {
		s.each(every, func(f format, path string) { exercise(t, f, path, mode, i) })
		s.proved(t, mode)
	}

	s.each(func(f format) bool { return f.resizes }, func(f format, path string) {
		execute(t, "qemu-img", "resize", "-q", "-f", f.driver, path, "+8M")
		execute(t, "qemu-io", "-f", f.driver, "-c", "read -P 0 32M 8M", "-c", "write -P 0x61 36M 64k", path)
	})
	s.proved(t, "growing")
	s.each(func(f format) bool { return f.resizes }, func(f format, path string) {
		execute(t, "qemu-img", "resize", "-q", "--shrink", "-f", f.driver, path, fmt.Sprint(imageSize))
	})
	s.proved(t, "shrinking")

	qcow2, overlay := s.disk("disk.qcow2"), s.disk("overlay.qcow2")
	execute(t, "qemu-img", "snapshot", "-c", "before", qcow2)
	execute(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x71 1M 2M", qcow2)
	s.proved(t, "making a snapshot")
	execute(t, "qemu-img", "snapshot", "-a", "before", qcow2)
	s.proved(t, "applying a snapshot")
	execute(t, "qemu-img", "snapshot", "-d", "before", qcow2)
	s.proved(t, "deleting a snapshot")

	execute(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x72 5M 1M", overlay)
	execute(t, "qemu-img", "commit", "-q", "-f", "qcow2", overlay)
	execute(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0x72 5M 1M", qcow2)
	s.proved(t, "committing an overlay")
	execute(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x73 6M 1M", overlay)
	execute(t, "qemu-img", "rebase", "-q", "-f", "qcow2", "-b", "", overlay) // copies what it had from below
	execute(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0x72 5M 1M", "-c", "read -P 0x73 6M 1M", overlay)
	s.proved(t, "rebasing an overlay")

	s.each(every, func(f format, path string) {
		if path == qcow2 {
			return // what the others are converted from
		}
		execute(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x74 9M 1M", qcow2)
		convert := []string{"qemu-img", "convert", "-q", "-f", "qcow2", "-O", f.driver}
		if f.options != "" {
			convert = append(convert, "-o", f.options)
		}
		execute(t, append(convert, qcow2, path)...)
		execute(t, "qemu-img", "compare", "-q", "-f", "qcow2", "-F", f.driver, qcow2, path)
	})
	s.proved(t, "converting over images")
	s.each(func(f format) bool { return f.base == "" }, func(f format, path string) { f.create(t, path) })
	s.proved(t, "creating over images")
}

// exercise has QEMU's block layer write, zero, discard and read back.
func exercise(t *testing.T, f format, path, mode string, i int) {
	t.Helper()
	cache, aio, _ := strings.Cut(mode, ":")
	args := []string{"qemu-io", "-f", f.driver, "-t", cache, "-i", aio, "-d", "unmap"}
	pattern := func(n int) string { return fmt.Sprintf("-P %d", 16*n+i+1) }
	for _, c := range []string{
		"write " + pattern(1) + " 0 1M", "write " + pattern(2) + " 7777k 64k", "write " + pattern(3) + " 31M 1M", "flush",
		"write " + pattern(4) + " 1234k 4k", "write " + pattern(4) + " 20971008 512",
		"read " + pattern(1) + " 0 1M", "read " + pattern(2) + " 7777k 64k", "read " + pattern(3) + " 31M 1M",
		"write " + pattern(5) + " 2M 3M", "write -z 2M 1M", "read -P 0 2M 1M", "discard 4M 1M",
		"aio_write " + pattern(6) + " 10M 512k", "aio_write " + pattern(7) + " 11M 512k", "aio_flush",
		"read " + pattern(6) + " 10M 512k", "read " + pattern(7) + " 11M 512k", "read " + pattern(4) + " 1234k 4k", "flush",
	} {
		args = append(args, "-c", c)
	}
	execute(t, append(args, path)...)
}
