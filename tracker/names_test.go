package tracker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPathsApart: a disk whose name another disk of the VM has got goes by
// another name, or no point could be made of the two.
func TestPathsApart(t *testing.T) {
	for name, rename := range map[string]func(a, b string) error{
		"taken": func(a, b string) error { return os.Rename(b, a) },
		"taken by a folder": func(a, b string) error {
			if err := os.Remove(a); err != nil {
				return err
			}
			if err := os.Mkdir(a, 0o700); err != nil {
				return err
			}
			return os.Rename(b, filepath.Join(a, "b"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, t.TempDir(), 1<<20, 1<<20)
			defer h.stop()
			protect(t, h)
			walked(t, h)
			check(t, rename(h.disks[0].Name(), h.disks[1].Name()))
			vm, err := h.tracker.VM(t.Context(), testSpec.ID)
			check(t, err)
			e := rollover(t, h)
			for i, paths := range [][]string{{vm.Disks[0].Path, vm.Disks[1].Path}, {e.Disks[0].Path, e.Disks[1].Path}} {
				if !strings.HasPrefix(paths[0], "disk0.img.removed-") || !strings.HasPrefix(paths[1], "disk0.img") || clash(paths[0], paths[1]) {
					t.Errorf("%d: the disks are at %q", i, paths)
				}
			}
			wantEvent(t, h, EventDiskRemoved)
		})
	}
}
