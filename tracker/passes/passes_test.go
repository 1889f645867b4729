package passes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
)

const testZone = 100

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newPasses makes passes that live as long as the test.
func newPasses(t testing.TB) (fd int, p *Passes) {
	t.Helper()
	fd, err := Create(testZone)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	return fd, take(t, fd)
}

// take maps passes, as the next process does.
func take(t testing.TB, fd int) *Passes {
	t.Helper()
	p, err := Map(fd, testZone)
	must(t, err)
	t.Cleanup(p.Unmap)
	return p
}

func identity(n byte) Identity {
	return Identity{ID: ID{n}, Device: 7, Inode: uint64(n), Handle: fmt.Sprintf("handle %d", n)}
}

// block marks one block, in a zone that is hot.
func (d *Disk) block(epoch uint64, b disk.Block) {
	d.Heat(uint64(b) / testZone)
	d.Mark(epoch, b/64*64, []uint64{1 << (b % 64)})
}

func (d *Disk) allows(b disk.Block) bool { return d.Pass(disk.Extent{Start: b, Count: 1}) }

// next returns a disk as the next process finds it.
func next(t testing.TB, fd int, x Identity) *Disk {
	t.Helper()
	for _, d := range take(t, fd).Disks() {
		if d.Identity() == x {
			return d
		}
	}
	t.Fatalf("disk %d is not known", x.Inode)
	return nil
}

// TestPassesOutliveProcesses: the next process finds what the last one noted, and
// nothing of an epoch that is over.
func TestPassesOutliveProcesses(t *testing.T) {
	fd, p := newPasses(t)
	if p.Complete() || p.Name() == 0 || len(p.Disks()) != 0 {
		t.Fatal("new passes have something in them")
	}
	a, b := p.Enter(identity(1), 5), p.Enter(identity(2), 8)
	a.block(5, 64000)
	a.block(4, 1) // a late one of the epoch before
	a.block(6, 2) // one of an epoch that has not begun
	b.block(8, 3)
	b.Lived(77)
	p.SetComplete(true)
	a, b = next(t, fd, identity(1)), next(t, fd, identity(2))
	if !a.allows(64000) || a.allows(1) || a.allows(2) || a.allows(3) || !b.allows(3) || b.allows(64000) {
		t.Error("the passes are others")
	}
	if again := take(t, fd); !again.Complete() || again.Name() != p.Name() || b.Alive() != 77 || a.Alive() != 0 {
		t.Error("what was noted is not there")
	}
	a.Turn(6)
	if a.allows(64000) || next(t, fd, identity(1)).allows(64000) {
		t.Error("a pass outlives its epoch")
	}
	a.block(6, 64000)
	if !next(t, fd, identity(1)).allows(64000) || !next(t, fd, identity(2)).allows(3) {
		t.Error("there are no passes in the next epoch")
	}
	a.Cool(64000 / testZone)
	if a.allows(64000) || next(t, fd, identity(1)).allows(64000) {
		t.Error("a pass in a cold zone")
	}
}

// TestTouched: where nobody needs before-images, what has no pass may change when
// it is remembered, in hot zones. That outlives processes and epochs, until it is
// forgotten.
func TestTouched(t *testing.T) {
	fd, p := newPasses(t)
	d := p.Enter(identity(1), 5)
	d.block(5, 9)
	x := disk.Extent{Start: 10, Count: 80}
	if d.Pass(x) || len(d.Touched()) != 0 {
		t.Error("a first touch passes, and somebody may need before-images")
	}
	d.SetIdle(true)
	if !d.allows(9) || len(d.Touched()) != 0 {
		t.Error("what has a pass is remembered")
	}
	if d.Pass(disk.Extent{Start: 90, Count: 20}) || len(d.Touched()) != 0 {
		t.Error("a first touch passes in a cold zone")
	}
	d.Heat(2*pageBits*RegionBlocks/testZone + 1)
	far := disk.Block(2*pageBits*RegionBlocks + 99)
	if !d.Pass(x) || !d.allows(far) || d.Pass(disk.Extent{Start: maxBlocks, Count: 1}) {
		t.Error("a first touch does not pass")
	}
	d.Turn(6)
	again := next(t, fd, identity(1))
	if got := again.Touched(); len(got) != 2 || got[0]+got[1] != uint64(far/RegionBlocks) {
		t.Errorf("regions %v are remembered", got)
	}
	again.SetIdle(false)
	if again.allows(11) || again.allows(far) {
		t.Error("what was touched is taken for a pass")
	}
	again.Forget()
	if len(again.Touched()) != 0 || len(next(t, fd, identity(1)).Touched()) != 0 {
		t.Error("what was forgotten is there")
	}
}

// TestKilledAtTurn: who raises an epoch and dies leaves no pass.
func TestKilledAtTurn(t *testing.T) {
	fd, p := newPasses(t)
	d := p.Enter(identity(1), 5)
	d.block(5, 9)
	d.entry.epoch = 6
	again := take(t, fd)
	if again.Disks()[0].allows(9) {
		t.Error("a pass outlives its epoch")
	}
	if len(again.free) != 1 {
		t.Errorf("%d pages are free, want that of marks", len(again.free))
	}
}

// TestEnter: an identity is known once, and another disk with its file or its
// identity takes its place.
func TestEnter(t *testing.T) {
	fd, p := newPasses(t)
	d := p.Enter(identity(1), 5)
	d.block(5, 9)
	if p.Enter(identity(1), 5) != d || !d.allows(9) {
		t.Error("it is another one")
	}
	if p.Enter(identity(1), 6) != d || d.allows(9) {
		t.Error("its epoch did not begin")
	}
	d.block(6, 9)
	other := identity(2)
	other.Inode = 1
	q := p.Enter(other, 6)
	if disks := p.Disks(); len(disks) != 1 || disks[0] != q || q.allows(9) {
		t.Error("two disks are one file")
	}
	d.block(6, 9)
	d.Remove()
	if d.allows(9) || next(t, fd, other).allows(9) {
		t.Error("who was removed still takes something")
	}
	var none *Disk
	none.block(1, 1)
	none.Turn(2)
	none.Remove()
	if none.allows(1) || none.Alive() != 0 {
		t.Error("nobody has a pass")
	}
}

// TestTooMany: what there is no place for has no pass, and nobody takes the
// passes for complete.
func TestTooMany(t *testing.T) {
	fd, p := newPasses(t)
	p.SetComplete(true)
	for n := range uint64(maxDisks) {
		if p.Enter(Identity{ID: ID{byte(n), byte(n >> 8), 1}, Inode: n}, 1) == nil {
			t.Fatalf("no place for disk %d", n)
		}
	}
	if !p.Complete() || p.Enter(identity(1), 1) != nil || take(t, fd).Complete() {
		t.Error("a disk too many")
	}
	all := p.Disks()
	for n := range disk.Block(maxPages) {
		all[0].block(1, n*pageBits)
	}
	all[1].block(1, 5)
	if all[1].allows(5) || !all[0].allows(0) {
		t.Error("more pages than there are")
	}
	all[0].Remove()
	all[1].block(1, 5)
	if !all[1].allows(5) || all[1].allows(6) {
		t.Error("a page that was used is not clean")
	}
}

// TestTrim: memory that nobody needs is given back.
func TestTrim(t *testing.T) {
	fd, p := newPasses(t)
	d := p.Enter(identity(1), 1)
	held := func() int64 {
		var s unix.Stat_t
		must(t, unix.Fstat(fd, &s))
		return s.Blocks * 512
	}
	before := held()
	const pages = 50
	for n := range disk.Block(pages) {
		d.Mark(1, n*pageBits, []uint64{1})
	}
	full := held()
	if full < before+pages*pageSize {
		t.Fatalf("%d bytes, then %d", before, full)
	}
	d.Turn(2)
	must(t, p.Trim())
	if held() != full {
		t.Error("pages that were in use just now are given back")
	}
	d.Mark(2, 0, []uint64{1})
	must(t, p.Trim())
	if got := full - held(); got != (pages-1)*pageSize {
		t.Errorf("%d bytes were given back", got)
	}
	for n := range disk.Block(pages) {
		d.block(2, n*pageBits+1)
	}
	if !d.allows(1) || d.allows(pageBits) || !d.allows(pageBits+1) {
		t.Error("pages that come again are not right")
	}
}

// TestPassesModel does random things to passes and holds them against sets.
func TestPassesModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	fd, p := newPasses(t)
	type model struct {
		epoch       uint64
		marks, zone map[disk.Block]bool
	}
	models := map[byte]*model{}
	const blocks = 3 * pageBits
	for range 20000 {
		n := byte(random.IntN(4))
		m := models[n]
		if m == nil {
			m = &model{1, map[disk.Block]bool{}, map[disk.Block]bool{}}
			models[n] = m
		}
		d := p.Enter(identity(n), m.epoch)
		b := disk.Block(random.IntN(blocks))
		switch random.IntN(20) {
		case 0:
			m.epoch++
			clear(m.marks)
			d.Turn(m.epoch)
		case 1:
			d.Remove()
			delete(models, n)
			continue
		case 2:
			must(t, p.Trim())
		case 3:
			p.Unmap()
			var err error
			p, err = Map(fd, testZone)
			must(t, err)
			d = p.Enter(identity(n), m.epoch)
		case 4:
			d.Cool(uint64(b / testZone))
			delete(m.zone, b/testZone)
		default:
			d.block(m.epoch, b)
			m.marks[b], m.zone[b/testZone] = true, true
		}
		for range 5 {
			b := disk.Block(random.IntN(blocks))
			if got := d.allows(b); got != (m.marks[b] && m.zone[b/testZone]) {
				t.Fatalf("disk %d, block %d has a pass: %v", n, b, got)
			}
		}
	}
}

// FuzzMap: whatever is in the memory, it is refused or it can be used.
func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0, 0, 16, 0, 0, 2, 0, 0})
	f.Fuzz(func(t *testing.T, damage []byte) {
		fd, p := newPasses(t)
		for n := range byte(3) {
			p.Enter(identity(n), 5).block(5, disk.Block(n)*pageBits)
		}
		for ; len(damage) >= 8; damage = damage[8:] {
			// Most of the memory is pages, of which every content is right.
			at := int(damage[0])<<16 | int(damage[1])<<8 | int(damage[2])
			copy(p.memory[at%pagesAt:], damage[3:8])
		}
		again, err := Map(fd, testZone)
		if err != nil {
			if !errors.Is(err, ErrNotUnderstood) {
				t.Fatal(err)
			}
			return
		}
		defer again.Unmap()
		for _, d := range again.Disks() {
			d.allows(0)
			d.SetIdle(true)
			d.allows(1)
			d.Touched()
			d.block(d.entry.epoch, 2*pageBits)
			d.Forget()
			d.Turn(d.entry.epoch + 1)
			d.Remove()
		}
		must(t, again.Trim())
		must(t, again.Trim())
	})
}

// TestNotUnderstood: what another build wrote, or nobody, is refused.
func TestNotUnderstood(t *testing.T) {
	for name, damage := range map[string]func(p *Passes){
		"magic":             func(p *Passes) { p.head.magic++ },
		"version":           func(p *Passes) { p.head.version++ },
		"size of an entry":  func(p *Passes) { p.head.entry-- },
		"number of pages":   func(p *Passes) { p.head.pages++ },
		"zones":             func(p *Passes) { p.head.zone++ },
		"pages used":        func(p *Passes) { p.head.fresh = maxPages + 1 },
		"page nobody used":  func(p *Passes) { p.head.fresh = 0 },
		"page of nobody":    func(p *Passes) { p.header(0).owner = 9 },
		"owner beyond":      func(p *Passes) { p.header(0).owner = maxDisks + 1 },
		"kind":              func(p *Passes) { p.header(0).kind = 4 },
		"no kind":           func(p *Passes) { p.header(0).kind = 0 },
		"beyond the disk":   func(p *Passes) { p.header(0).index = maxBlocks / pageBits },
		"neither idle, nor": func(p *Passes) { p.entry(0).idle = 2 },
		"epoch to come":     func(p *Passes) { *p.header(1) = header{1, marks, 3, 6, 0}; p.head.fresh = 4 },
		"page twice":        func(p *Passes) { *p.header(3) = *p.header(0); p.head.fresh = 4 },
		"disk twice":        func(p *Passes) { *p.entry(5) = *p.entry(0) },
		"file twice":        func(p *Passes) { *p.entry(5) = *p.entry(0); p.entry(5).id[1]++ },
		"handle":            func(p *Passes) { p.entry(0).handleSize = maxHandle + 1 },
		"no epoch":          func(p *Passes) { p.entry(0).epoch = 0 },
		"neither used, nor": func(p *Passes) { p.entry(0).used = 2 },
	} {
		fd, p := newPasses(t)
		p.Enter(identity(1), 5).block(5, 9)
		take(t, fd)
		damage(p)
		if q, err := Map(fd, testZone); !errors.Is(err, ErrNotUnderstood) {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	fd, err := unix.MemfdCreate("empty", unix.MFD_CLOEXEC)
	must(t, err)
	defer unix.Close(fd) //nolint:errcheck // nothing is in it
	if _, err := Map(fd, testZone); !errors.Is(err, ErrNotUnderstood) {
		t.Errorf("no memory at all: %v", err)
	}
}
