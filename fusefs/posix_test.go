package fusefs

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// runPOSIX runs go-fuse's conformance suite, entire, on a mount.
func runPOSIX(t *testing.T, s *served) {
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		t.Run(name, func(t *testing.T) {
			dir := s.path(name)
			must(t, os.Mkdir(dir, 0o755))
			posixtest.All[name](t, dir)
		})
	}
}

func TestPOSIXUnprotected(t *testing.T) {
	runPOSIX(t, serveFolder(t))
}

func TestPOSIXWithoutPassthrough(t *testing.T) {
	runPOSIX(t, serveFolder(t, withoutPassthrough))
}

func TestPOSIXProtected(t *testing.T) {
	disks := newRecorders(t)
	runPOSIX(t, serveFolder(t, protectingAll(disks.make)))
	if disks.check(t) == 0 {
		t.Error("no change reached a disk")
	}
}

func TestPOSIXWithoutHandles(t *testing.T) {
	disks := newRecorders(t)
	runPOSIX(t, serveFolder(t, withoutHandles, protectingAll(disks.make)))
	if disks.check(t) == 0 {
		t.Error("no change reached a disk")
	}
}
