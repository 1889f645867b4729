package tracker

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"pgregory.net/rapid"
)

// written is a range of a disk that was written to.
type written struct {
	f              *os.File
	offset, length int64
}

const keptWritten = 8

func (m *model) wrote(f *os.File, offset, length int64) {
	m.written = append(m.written, written{f, offset, length})
	if n := len(m.written); n > keptWritten {
		m.written = m.written[n-keptWritten:]
	}
}

// drawWrite draws a range of a disk, often one that was written to before, or a
// part of it.
func (m *model) drawWrite(t *rapid.T) written {
	if len(m.written) == 0 || rapid.IntRange(0, 3).Draw(t, "elsewhere") == 0 {
		offset, length := drawRange(t)
		return written{m.drawDisk(t), offset, length}
	}
	w := m.written[rapid.IntRange(0, len(m.written)-1).Draw(t, "again")]
	w.length = min(w.length, int64(rapid.IntRange(1, 20000).Draw(t, "length")))
	return w
}

// guests are those who go on while no tracker is open.
type guests struct {
	waiting sync.WaitGroup
	mu      sync.Mutex // guards what follows
	dead    bool       // what waits is never done
	errs    []error
}

// later does what waits for the tracker.
func (g *guests) later(begin func() (end func()), change func() error) {
	g.waiting.Go(func() {
		end := begin()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.dead {
			return
		}
		g.errs = append(g.errs, change())
		end()
	})
}

// goOn has guests change disks while no tracker is open: what has passes is
// done, and everything else waits for it.
func (m *model) goOn(t *rapid.T, g *guests) {
	waits, resizes := map[*os.File]bool{}, map[*os.File]bool{}
	for range rapid.IntRange(0, 6).Draw(t, "early changes") {
		w := m.drawWrite(t)
		d := m.fs.tracked(w.f)
		if resizes[w.f] {
			continue // the mount lets nobody else at the file meanwhile
		}
		switch rapid.IntRange(0, 7).Draw(t, "early change") {
		case 0:
			if waits[w.f] {
				continue
			}
			resizes[w.f] = true
			size := int64(rapid.IntRange(0, maxModelDisk).Draw(t, "size"))
			was := int64(len(content(t, w.f)))
			g.later(func() func() {
				d.BeginResize(min(size, was))
				return d.EndResize
			}, func() error { return w.f.Truncate(size) })
		case 1:
			waits[w.f] = true
			fs, change := m.fs, uint64(0)
			g.later(func() func() {
				change = d.BeginClear(w.offset, w.length)
				return func() { d.EndChange(change) }
			}, func() error { return fs.punchBelow(w.f, w.offset, w.length) })
		default:
			fill := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, int(w.length))
			if early, ok := d.(*earlyDisk); ok && early.passes(w.offset, w.length) {
				check(t, m.fs.write(w.f, fill, w.offset))
				m.passed++
				continue
			}
			waits[w.f] = true
			g.later(func() func() {
				change := d.BeginChange(w.offset, w.length)
				return func() { d.EndChange(change) }
			}, func() error {
				_, err := w.f.WriteAt(fill, w.offset)
				return err
			})
		}
	}
}

// killed kills the tracker, and guests go on before the next one is open, or
// before one that is killed before it is.
func (m *model) killed(t *rapid.T, after func()) {
	if rapid.IntRange(0, 3).Draw(t, "killed early") == 0 {
		m.beforeReopen = func() { m.goOnAndDie(t) }
	}
	g := new(guests)
	m.early = func(*Early) { m.goOn(t, g) }
	m.kill(after)
	m.early = nil
	g.waiting.Wait()
	check(t, errors.Join(g.errs...))
}

// killAfterRollover kills the tracker when an epoch has just been sealed: what
// was marked in it is what guests must not change without a before-image.
func (m *model) killAfterRollover(t *rapid.T) {
	m.write(t)
	m.rollover(t)
	if rapid.Bool().Draw(t, "written again") {
		m.write(t)
	}
	m.killed(t, nil)
	m.peek(t)
}

// goOnAndDie is a process that guests go on with, and that dies before its
// tracker is open.
func (m *model) goOnAndDie(t *rapid.T) {
	m.dieEarly(func(e *Early) {
		g := new(guests)
		m.goOn(t, g)
		g.mu.Lock()
		g.dead = true
		g.mu.Unlock()
		for _, d := range e.disks {
			d.decide(nil)
		}
		g.waiting.Wait()
		check(t, errors.Join(g.errs...))
	})
}
