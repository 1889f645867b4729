package fusefs

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// wrongCase expects two descriptors of one process to be in each other's way
// with locks that belong to the process. It fails on every local file system
// and go-fuse leaves it out as well; TestLocks has what it means to test.
const wrongCase = "FcntlFlockLocksFile"

// runPOSIX runs go-fuse's conformance suite, entire, on a mount.
func runPOSIX(t *testing.T, s *served) {
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if name == wrongCase {
			continue
		}
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
