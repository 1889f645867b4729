package tracker

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
)

// model is a host with random things happening to it, beside what its disks
// held at each rollover, and a replica that only knows the sealed epochs.
type model struct {
	*host
	snapshots map[uint64][][]byte // by epoch, the disks at its rollover
	replica   [2]replicaDisk
	based     bool   // the replica has been made by a walk
	shipped   uint64 // the newest epoch in the replica
	walked    [2][]byte
	walk      uint64
	points    int
	power     *power
	written   []written // ranges, newest last
	passed    int       // writes that did not wait for a tracker
}

const maxModelDisk = 5<<20 + 512

func (m *model) drawDisk(t *rapid.T) *os.File { return m.disks[rapid.IntRange(0, 1).Draw(t, "disk")] }

// drawRange draws a byte range that often begins or ends within a block.
func drawRange(t *rapid.T) (offset, length int64) {
	offset = int64(rapid.IntRange(0, maxModelDisk-1).Draw(t, "offset"))
	if rapid.Bool().Draw(t, "aligned") {
		offset = offset / disk.BlockSize * disk.BlockSize
	}
	length = int64(rapid.OneOf(rapid.IntRange(1, 20000), rapid.Just(4096), rapid.IntRange(1, 2<<20)).Draw(t, "length"))
	return offset, min(length, maxModelDisk-offset)
}

func (m *model) write(t *rapid.T) {
	offset, length := drawRange(t)
	fill := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, int(length))
	f := m.drawDisk(t)
	m.wrote(f, offset, length)
	check(t, m.fs.write(f, fill, offset))
}

func (m *model) punch(t *rapid.T) {
	offset, length := drawRange(t)
	check(t, m.fs.punch(m.drawDisk(t), offset, length))
}

func (m *model) truncate(t *rapid.T) {
	check(t, m.fs.truncate(m.drawDisk(t), int64(rapid.IntRange(0, maxModelDisk).Draw(t, "size"))))
}

// cutAndGrow leaves a disk as long as it was, with zeros that nobody wrote.
func (m *model) cutAndGrow(t *rapid.T) {
	f := m.drawDisk(t)
	was := int64(len(content(t, f)))
	check(t, m.fs.truncate(f, int64(rapid.IntRange(0, int(was)).Draw(t, "size"))))
	check(t, m.fs.truncate(f, was))
}

// stream writes one piece after the other, as a copy of a file does.
func (m *model) stream(t *rapid.T) {
	f := m.drawDisk(t)
	offset, length := drawRange(t)
	for n := range rapid.IntRange(2, 6).Draw(t, "pieces") {
		check(t, m.fs.write(f, bytes.Repeat([]byte{byte(0x40 + n)}, int(length)), min(offset, maxModelDisk-length)))
		offset += length
	}
}

// rollover seals an epoch; while a walk is required, that is refused.
func (m *model) rollover(t *rapid.T) {
	vm, foreign := m.vm(t), m.fs.foreign()
	e, err := m.tracker.Rollover(background, testSpec.ID, 0)
	if vm.Walk.Required || foreign {
		if !errors.Is(err, ErrWalkRequired) {
			t.Fatalf("rollover while a walk is required: %v", err)
		}
		return
	}
	check(t, err)
	m.record(e)
}

func (m *model) record(e Epoch) {
	m.snapshots[e.Number] = [][]byte{content(m.t, m.disks[0]), content(m.t, m.disks[1])}
}

// walkStep walks one disk, or finishes the walk when both have been walked. A
// walk replaces what the replica knew of a disk by what was read some time.
func (m *model) walkStep(t *rapid.T) {
	vm := m.vm(t)
	if !vm.Walk.Required || len(vm.Sealed) > 0 {
		return
	}
	if m.walk != vm.Walk.Number {
		m.walk, m.walked = vm.Walk.Number, [2][]byte{}
	}
	for i := range m.walked {
		if m.walked[i] == nil {
			m.walked[i] = append([]byte{}, content(t, m.disks[i])...)
			return
		}
	}
	foreign := m.fs.foreign()
	e, err := m.tracker.Rollover(background, testSpec.ID, m.walk)
	if foreign || m.vm(t).Walk.Number != m.walk {
		if err == nil {
			t.Fatalf("walk %d was closed while a disk changed unseen", m.walk)
		}
		return
	}
	check(t, err)
	m.record(e)
}

// hold opens a disk other than through the mount, or closes it.
func (m *model) hold(t *rapid.T) {
	f := m.drawDisk(t)
	held := m.fs.held[inodeOf(f)]
	if !held && rapid.IntRange(0, 3).Draw(t, "rarely") != 0 {
		return
	}
	m.fs.hold(f, !held)
	if rapid.Bool().Draw(t, "heard at once") {
		m.fs.Look()
	}
}

// writeUnseen changes a disk that is open other than through the mount.
func (m *model) writeUnseen(t *rapid.T) {
	f := m.drawDisk(t)
	if !m.fs.held[inodeOf(f)] {
		return
	}
	offset, length := drawRange(t)
	_, err := f.WriteAt(bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, int(length)), offset)
	check(t, err)
}

// ship brings the replica to the oldest sealed epoch, as the sidecar does, and
// compares it with what the disks held then.
func (m *model) ship(t *rapid.T) {
	vm := m.vm(t)
	if len(vm.Sealed) == 0 {
		return
	}
	e := vm.Sealed[0]
	want, ok := m.snapshots[e.Number]
	if !ok {
		t.Fatalf("epoch %d was sealed by nobody", e.Number)
	}
	next, foreign := m.replica, m.fs.foreign()
	if vm.Walk.Required {
		for i := range next {
			next[i].bytes = m.walked[i]
		}
	}
	for i := range next {
		err := next[i].apply(m.host, e, i, !vm.Walk.Required)
		if foreign && errors.Is(err, ErrEpochGone) {
			return
		}
		check(t, err)
		if !bytes.Equal(next[i].bytes, want[i]) {
			t.Fatalf("epoch %d, disk %d: the replica differs from the disk at the rollover, first at byte %d of %d (replica %d)",
				e.Number, i, firstDifference(next[i].bytes, want[i]), len(want[i]), len(next[i].bytes))
		}
	}
	m.replica, m.based = next, m.based || vm.Walk.Required
	m.points++
	walk := uint64(0)
	if vm.Walk.Required {
		walk = vm.Walk.Number
	}
	check(t, m.tracker.Acknowledge(background, testSpec.ID, e.Number, walk))
	m.shipped = e.Number
}

// peek reads every sealed epoch without shipping it: those that are newer than
// the oldest have to wait for it, so only their changed blocks are compared.
func (m *model) peek(t *rapid.T) {
	foreign := m.fs.foreign()
	for _, e := range m.vm(t).Sealed {
		for i, ed := range e.Disks {
			changed, err := m.tracker.Changed(background, testSpec.ID, e.Number, ed.ID)
			if foreign && errors.Is(err, ErrEpochGone) {
				return
			}
			check(t, err)
			if changed.Blocks() != ed.Blocks {
				t.Fatalf("epoch %d says %d blocks, has %d", e.Number, ed.Blocks, changed.Blocks())
			}
			want := m.snapshots[e.Number][i]
			for _, x := range changed {
				p := make([]byte, x.Count*disk.BlockSize)
				err := m.tracker.ReadSealed(background, testSpec.ID, e.Number, ed.ID, p, x.Start.Offset())
				if foreign && errors.Is(err, ErrEpochGone) {
					return
				}
				check(t, err)
				expect := make([]byte, len(p))
				copy(expect, want[x.Start.Offset():])
				if !bytes.Equal(p, expect) {
					t.Fatalf("epoch %d, disk %d, extent %v: not what the disk held at the rollover", e.Number, i, x)
				}
			}
		}
	}
}

// giveUp merges the oldest epoch, as too many before-images would make it.
func (m *model) giveUp(t *rapid.T) {
	v, err := m.tracker.locked(testSpec.ID)
	check(t, err)
	defer v.mu.Unlock()
	if len(v.sealed) > 0 && !v.walk.Required {
		check(t, v.merge(0, "the model wants it"))
	}
}

// lose makes the sealed epochs unreadable, as a failing before-image would.
func (m *model) lose(t *rapid.T) {
	v, err := m.tracker.vm(testSpec.ID)
	check(t, err)
	v.mu.Lock()
	open := v.open
	walking := v.walk.Required
	v.mu.Unlock()
	if !walking {
		v.loseSealed(v.disks[0], open-1, errors.New("injected"))
	}
}

// killInChange kills the process between the announcement of a change and the
// change, or after the change but before its end is told.
func (m *model) killInChange(t *rapid.T) {
	f := m.drawDisk(t)
	offset, length := drawRange(t)
	d := m.fs.tracked(f)
	change := d.BeginChange(offset, length)
	if rapid.Bool().Draw(t, "changed") {
		_, err := f.WriteAt(bytes.Repeat([]byte{0xee}, int(length)), offset)
		check(t, err)
	}
	m.wrote(f, offset, length)
	m.killed(t, func() { d.EndChange(change) })
}

// killInResize is killInChange for a truncate.
func (m *model) killInResize(t *rapid.T) {
	f := m.drawDisk(t)
	size := int64(rapid.IntRange(0, maxModelDisk).Draw(t, "size"))
	d := m.fs.tracked(f)
	d.BeginResize(min(size, int64(len(content(t, f)))))
	if rapid.Bool().Draw(t, "changed") {
		check(t, f.Truncate(size))
	}
	m.killed(t, d.EndResize)
}

// failResize announces a resize that then fails.
func (m *model) failResize(t *rapid.T) {
	d := m.fs.tracked(m.drawDisk(t))
	d.BeginResize(int64(rapid.IntRange(0, 1<<20).Draw(t, "size")))
	d.EndResize()
}

func (m *model) requireWalk(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "rarely") == 0 {
		check(t, m.tracker.RequireWalk(background, testSpec.ID, "the model wants it"))
	}
}

func (m *model) vm(t *rapid.T) VM {
	vm, err := m.tracker.VM(background, testSpec.ID)
	check(t, err)
	return vm
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// TestLaw holds the tracker to its law under random operations, rollovers,
// reads, merges, walks, kills and restarts.
func TestLaw(t *testing.T) {
	points, passed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "host")
		check(rt, err)
		m := &model{host: startHost(rt, dir, 3<<20+512, 1<<20), snapshots: map[uint64][][]byte{}}
		defer m.stop()
		m.power = newPower(m.host)
		_, err = m.tracker.Protect(background, testSpec)
		check(rt, err)
		// Most of what can go wrong needs a replica with something in it.
		for _, f := range m.disks {
			check(rt, m.fs.write(f, bytes.Repeat([]byte{0xd1}, 1<<20), 0))
		}
		if rapid.Bool().Draw(rt, "walked at first") {
			for range len(m.walked) + 1 {
				m.walkStep(rt)
			}
			m.ship(rt)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": m.write, "write again": m.write, "stream": m.stream, "punch": m.punch, "truncate": m.truncate,
			"cut and grow": m.cutAndGrow,
			"rollover":     m.rollover, "roll over again": m.rollover, "walk": m.walkStep, "walk on": m.walkStep,
			"ship": m.ship, "peek": m.peek, "give up": m.giveUp, "lose": m.lose,
			"kill": func(t *rapid.T) { m.killed(t, nil) }, "restart": func(*rapid.T) { m.restart() },
			"kill after rollover": m.killAfterRollover, "kill in change": m.killInChange, "kill in resize": m.killInResize, "fail resize": m.failResize,
			"require walk": m.requireWalk, "power cut": m.powerCut,
			"hold": m.hold, "hold no more": m.hold, "write unseen": m.writeUnseen,
			"cool":         func(*rapid.T) { m.tracker.coolOnce() },
			"guest's sync": func(*rapid.T) { m.power.guestSyncs() },
		})
		points += m.points
		passed += m.passed
	})
	if points == 0 {
		t.Fatal("no recovery point was compared")
	}
	t.Logf("%d recovery points compared, %d writes went on without a tracker", points, passed)
}
