package tracker

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
)

// power is what would be left of a host if it lost power now: the change log
// as of its last sync, or with all that came after, and the disks as of their
// last sync, block by block, or as they are.
type power struct {
	h       *host
	synced  string // a copy of the tracker's folder
	durable [][]byte
	// before, unless nil, is called before the power goes and after the
	// tracker has.
	before func()
}

func newPower(h *host) *power {
	p := &power{h: h, synced: filepath.Join(h.dir, "synced")}
	p.begin()
	return p
}

// begin takes what is there for durable, and what is synced from now on.
func (p *power) begin() {
	p.h.syncing.Lock()
	defer p.h.syncing.Unlock()
	p.h.onSync = func() { p.h.copyOwn(p.synced) }
	p.h.onSyncDisk = p.syncDisks
	p.syncDisks()
	p.h.copyOwn(p.synced)
}

// guestSyncs makes the disks durable, and nothing else.
func (p *power) guestSyncs() {
	p.h.syncing.Lock()
	defer p.h.syncing.Unlock()
	p.syncDisks()
}

func (p *power) syncDisks() {
	p.durable = nil
	for _, f := range p.h.disks {
		p.durable = append(p.durable, content(p.h.t, f))
	}
}

// cut ends the tracker as a power cut would, and starts another one on what is
// left. keepLog tells whether what was not synced of the log is there; keep
// is asked for each block of each disk, and for its size.
func (p *power) cut(keepLog bool, keep func() bool) {
	h := p.h
	h.syncing.Lock()
	h.onSync, h.onSyncDisk = nil, nil
	h.syncing.Unlock()
	h.beforeReopen = func() {
		if p.before != nil {
			p.before()
		}
		h.forgetPasses()
		h.passes = newPasses(h.t)
		own := filepath.Join(h.dir, FolderName)
		if !keepLog {
			check(h.t, os.RemoveAll(own))
			check(h.t, os.Rename(p.synced, own))
		}
		for i, f := range h.disks {
			check(h.t, revert(f, p.durable[i], keep))
		}
		path := filepath.Join(own, "liveness")
		b, err := os.ReadFile(path)
		check(h.t, err)
		copy(b[32:], "00000000-0000-0000-0000-000000000000") // another boot
		check(h.t, os.WriteFile(path, b, 0o600))
	}
	h.kill(nil)
	p.begin()
}

// revert gives some blocks of a disk, and perhaps its size, back what they were.
func revert(f *os.File, old []byte, keep func() bool) error {
	s, err := stateOf(f)
	if err != nil {
		return err
	}
	now := make([]byte, max(s.Size, int64(len(old))))
	if _, err := f.ReadAt(now[:s.Size], 0); err != nil && err != io.EOF {
		return err
	}
	size := s.Size
	if !keep() {
		size = int64(len(old))
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	padded := make([]byte, len(now))
	copy(padded, old)
	for at := 0; at < int(size); at += disk.BlockSize {
		end := min(at+disk.BlockSize, int(size))
		from := now
		if !keep() {
			from = padded
		}
		if _, err := f.WriteAt(from[at:end], int64(at)); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) powerCut(t *rapid.T) {
	blocks := rapid.SliceOfN(rapid.Bool(), 8, 8).Draw(t, "blocks kept")
	n := 0
	m.power.before = nil
	if rapid.Bool().Draw(t, "guests go on before") {
		m.power.before = func() { m.goOnAndDie(t) }
	}
	m.power.cut(rapid.Bool().Draw(t, "log kept"), func() bool {
		n++
		return blocks[n*7%len(blocks)]
	})
}

// TestPowerLost: after a power cut the blocks that can differ from the replica
// are shipped, and only they; points from before are given up; no number comes
// twice.
func TestPowerLost(t *testing.T) {
	const size = 8 << 20
	h := startHost(t, t.TempDir(), size, 1<<20)
	defer h.stop()
	p := newPower(h)
	for _, f := range h.disks {
		check(t, h.fs.write(f, bytes.Repeat([]byte{1}, 1<<20), 0))
	}
	protect(t, h)
	replicas := walked(t, h)
	// Shipped, but never synced: it will revert.
	check(t, h.fs.write(h.disks[0], bytes.Repeat([]byte{2}, 8192), 0))
	rollover(t, h)
	shipAll(t, h, replicas)
	check(t, h.fs.write(h.disks[0], []byte("unshipped"), 1<<20))
	before := rollover(t, h)

	p.cut(false, func() bool { return false })
	vm, err := h.tracker.VM(t.Context(), testSpec.ID)
	check(t, err)
	if vm.Walk.Required || len(vm.Sealed) != 0 || vm.Open <= before.Number+1 {
		t.Fatalf("after a power cut: %+v", vm)
	}
	wantEvent(t, h, EventPowerLost)
	if vm.PendingBytes == 0 || vm.PendingBytes > 8*smallZone*disk.BlockSize {
		t.Fatalf("%d bytes are to be examined, a few zones are hot", vm.PendingBytes)
	}
	e := rollover(t, h)
	shipAll(t, h, replicas)
	for i := range replicas {
		if !bytes.Equal(replicas[i].bytes, content(t, h.disks[i])) {
			t.Fatalf("disk %d differs after epoch %d", i, e.Number)
		}
	}

	// Two looks later nothing is hot any more, so a power cut costs nothing.
	for range 3 {
		h.tracker.coolOnce()
	}
	p.cut(true, func() bool { return false })
	if vm, err = h.tracker.VM(t.Context(), testSpec.ID); err != nil || vm.PendingBytes != 0 {
		t.Fatalf("%d bytes are to be examined although all zones were cold: %v", vm.PendingBytes, err)
	}
}

// TestPowerLostInWalk: what a walk read may have reverted, so it begins anew.
func TestPowerLostInWalk(t *testing.T) {
	h := startHost(t, t.TempDir(), 1<<20, 1<<20)
	defer h.stop()
	p := newPower(h)
	first := protect(t, h).Walk.Number
	p.cut(false, func() bool { return false })
	if vm := wantWalk(t, h, "initial replication"); vm.Walk.Number <= first {
		t.Fatalf("walk %d follows walk %d", vm.Walk.Number, first)
	}
}
