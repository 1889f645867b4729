package uploader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/replica/blobstore/blobstoretest"
)

// model is the rig with what can happen to it.
type model struct {
	*rig
	stale map[string][]byte // an older state directory
}

// step lets the sidecar work until it rests or a fault strikes.
func (m *model) step(t *rapid.T) {
	err := m.settle(context.Background())
	if err != nil && !errors.Is(err, blobstoretest.ErrInjected) {
		t.Fatalf("settle: %v", err)
	}
}

func drawDisk(t *rapid.T) string { return rapid.SampledFrom([]string{diskA, diskB}).Draw(t, "disk") }

func (m *model) write(t *rapid.T) {
	d := drawDisk(t)
	offset := rapid.Int64Range(0, 60*disk.BlockSize).Draw(t, "offset")
	if rapid.Bool().Draw(t, "aligned") {
		offset -= offset % disk.BlockSize
	}
	length := rapid.IntRange(1, 9*disk.BlockSize).Draw(t, "length")
	data := make([]byte, length)
	if seed := rapid.Uint64Range(0, 5).Draw(t, "content"); seed > 0 { // else zeros, a punched hole
		data = noise(seed, length)
	}
	m.filter.write(vmID, d, offset, data)
}

func (m *model) resize(t *rapid.T) {
	m.filter.resize(vmID, drawDisk(t), rapid.Int64Range(0, 70*disk.BlockSize).Draw(t, "size"))
}

func (m *model) markMore(t *rapid.T) {
	m.filter.alsoMark(vmID, drawDisk(t), rapid.Int64Range(0, 30*disk.BlockSize).Draw(t, "from"), 8*disk.BlockSize)
}

func (m *model) rollOverIfAllowed(t *rapid.T) {
	if vm, _ := m.filter.VM(context.Background(), vmID); !vm.Walk.Required {
		m.rollOver(t)
	}
}

func (m *model) fault(t *rapid.T) {
	m.store.Heal()
	m.store.Add(blobstoretest.Fault{
		Op:     rapid.SampledFrom([]blobstoretest.Op{blobstoretest.Any, blobstoretest.Put, blobstoretest.Get, blobstoretest.List}).Draw(t, "operation"),
		Nth:    rapid.IntRange(1, 30).Draw(t, "nth"),
		Effect: rapid.SampledFrom([]blobstoretest.Effect{blobstoretest.Fail, blobstoretest.LostReply, blobstoretest.CutShort}).Draw(t, "effect"),
	})
}

// keepState copies the state directory, and putStateBack makes it old again, as
// from a backup.
func (m *model) keepState(t *rapid.T) {
	m.stale = map[string][]byte{}
	directory := filepath.Join(m.state, "vms", vmID)
	entries, _ := os.ReadDir(directory) // none before the first step
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(directory, e.Name()))
		if err != nil {
			t.Fatalf("%v", err)
		}
		m.stale[e.Name()] = data
	}
}

func (m *model) putStateBack(t *rapid.T) {
	m.dropState(t)
	directory := filepath.Join(m.state, "vms", vmID)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	for name, data := range m.stale {
		if err := os.WriteFile(filepath.Join(directory, name), data, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}
	m.boot(t)
}

// TestModel lets anything happen in any order: every recovery point that exists
// at the end restores to exactly what the disks held at its rollover, and there
// is one of the last rollover.
func TestModel(t *testing.T) {
	t.Parallel()
	state, buffers := stateDir(t), newTransfer(2)
	rapid.Check(t, func(t *rapid.T) {
		m := &model{rig: newRigWith(t, buffers, state)}
		m.dropState(t)
		m.fill()
		t.Repeat(map[string]func(*rapid.T){
			"write":    m.write,
			"write 2":  m.write,
			"resize":   m.resize,
			"mark":     m.markMore,
			"rollover": m.rollOverIfAllowed,
			"step":     m.step,
			"step 2":   m.step,
			"fault":    m.fault,
			"kill":     func(t *rapid.T) { m.boot(t) },
			"merge":    func(*rapid.T) { m.filter.merge(vmID) },
			"lose log": func(*rapid.T) { m.filter.loseLog(vmID) },
			"keep":     m.keepState,
			"put back": m.putStateBack,
			"lose state": func(t *rapid.T) {
				m.dropState(t)
				m.boot(t)
			},
		})
		m.store.Heal()
		m.mustSettle(t)
		last := m.rollOver(t)
		m.mustSettle(t)
		m.verify(t)
		if newest := m.shipper.newestEpoch(); newest != last {
			t.Fatalf("the newest point is of epoch %d, want %d", newest, last)
		}
		m.shipper.close()
	})
}
