package tracker

import (
	"bytes"
	"testing"
)

// TestResize goes through what can become of a disk's tail.
func TestResize(t *testing.T) {
	const size = 3<<20 + 512
	old := bytes.Repeat([]byte{7}, size)
	for name, change := range map[string]func(t *testing.T, h *host){
		"cut": func(t *testing.T, h *host) { check(t, h.fs.truncate(h.disks[0], 1<<20+100)) },
		"cut and grown again": func(t *testing.T, h *host) {
			check(t, h.fs.truncate(h.disks[0], 4096+1))
			check(t, h.fs.truncate(h.disks[0], size))
		},
		"cut, grown, written": func(t *testing.T, h *host) {
			check(t, h.fs.truncate(h.disks[0], 0))
			check(t, h.fs.write(h.disks[0], []byte("new"), size-3))
		},
		"cut to nothing": func(t *testing.T, h *host) { check(t, h.fs.truncate(h.disks[0], 0)) },
		"grown":          func(t *testing.T, h *host) { check(t, h.fs.truncate(h.disks[0], size+1<<20)) },
		"moved": func(t *testing.T, h *host) { // as collapsing a range does
			d := h.fs.tracked(h.disks[0])
			d.BeginResize(4096)
			_, err := h.disks[0].WriteAt([]byte("moved here"), 2<<20)
			check(t, err)
			check(t, h.disks[0].Truncate(2<<20+10))
			d.EndResize()
		},
		"failed": func(t *testing.T, h *host) {
			d := h.fs.tracked(h.disks[0])
			d.BeginResize(0)
			d.EndResize()
		},
		"killed before": func(t *testing.T, h *host) {
			d := h.fs.tracked(h.disks[0])
			d.BeginResize(0)
			h.kill(d.EndResize)
		},
		"killed after": func(t *testing.T, h *host) {
			d := h.fs.tracked(h.disks[0])
			d.BeginResize(8192)
			check(t, h.disks[0].Truncate(8192))
			_, err := h.disks[0].WriteAt([]byte("moved here"), 2<<20)
			check(t, err)
			h.kill(d.EndResize)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, t.TempDir(), size, 1<<20)
			defer h.stop()
			check(t, h.fs.write(h.disks[0], old, 0))
			protect(t, h)
			replicas := walked(t, h)
			// One epoch waits while the tail goes: it must stay readable.
			check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{8}, 1<<20), 2<<20))
			sealed := rollover(t, h)
			want := content(t, h.disks[0])
			change(t, h)
			check(t, replicas[0].apply(h, sealed, 0, true))
			if !bytes.Equal(replicas[0].bytes, want) {
				t.Fatal("the epoch before the change is not what the disk was")
			}
			check(t, h.tracker.Acknowledge(t.Context(), testSpec.ID, sealed.Number, 0))
			rollover(t, h)
			shipAll(t, h, replicas)
			if now := content(t, h.disks[0]); !bytes.Equal(replicas[0].bytes, now) {
				t.Fatalf("the replica has %d bytes, the disk %d; first difference at %d", len(replicas[0].bytes), len(now), firstDifference(replicas[0].bytes, now))
			}
		})
	}
}
