package tracker

import (
	"sync"
	"sync/atomic"
	"time"
)

// shards is into how many parts a gate divides its disk: region r belongs to
// part r modulo shards.
const shards = 32

// shardSet is a set of parts.
type shardSet uint32

// shardsOf returns the parts that regions first to last belong to.
func shardsOf(first, last region) shardSet {
	if last-first >= shards-1 {
		return ^shardSet(0)
	}
	run := shardSet(1)<<(last-first+1) - 1
	by := uint(first % shards)
	return run<<by | run>>(shards-by)
}

// gate counts the changes of one disk that are under way. Each belongs to the
// turn in which it began, that is, to one side of every rollover; nobody waits
// for the gate at a rollover but those who have to.
//
// The turn is a number that all disks of a VM share. Ending a turn is one
// addition, so all disks end it at one instant; it is complete when the changes
// that began in it are over. No turn ends before the one before is complete, so
// that two counters are enough: a turn uses that of its parity.
//
// The gate may also be closed: then no change is under way at all.
type gate struct {
	turn     *atomic.Uint64 // the VM's
	underWay [shards][2]atomic.Int32
	closed   atomic.Bool

	// longest is the longest that settle took since longestWait was called.
	longest atomic.Int64
	// waiting tells those who leave that somebody has to be woken.
	waiting atomic.Int32
	mu      sync.Mutex
	calmer  sync.Cond
}

func (g *gate) init(turn *atomic.Uint64) {
	g.turn = turn
	g.calmer.L = &g.mu
}

// enter waits until the gate is open and returns the turn to which the change
// belongs.
func (g *gate) enter(parts shardSet) (turn uint64) {
	for {
		turn = g.turn.Load()
		g.add(parts, turn, 1)
		// Whoever ends a turn, or closes the gate, looks for changes under way
		// afterwards: either they see this one, or it sees what they did.
		if g.turn.Load() == turn && !g.closed.Load() {
			return turn
		}
		g.leave(parts, turn)
		g.wait(func() bool { return !g.closed.Load() })
	}
}

// leave ends a change.
func (g *gate) leave(parts shardSet, turn uint64) {
	g.add(parts, turn, -1)
	if g.waiting.Load() > 0 {
		g.wake()
	}
}

func (g *gate) add(parts shardSet, turn uint64, n int32) {
	for i := 0; parts != 0; i, parts = i+1, parts>>1 {
		if parts&1 != 0 {
			g.underWay[i][turn&1].Add(n)
		}
	}
}

// settle returns when no change of an earlier turn is under way in the region's
// part, if turn is the present one; a change of an earlier turn does not wait
// for those of its own. The caller's change is under way in turn.
func (g *gate) settle(r region, turn uint64) {
	earlier := &g.underWay[r%shards][(turn+1)&1]
	if earlier.Load() == 0 {
		return
	}
	began := time.Now()
	// When the turn ends meanwhile, the one before is complete.
	g.wait(func() bool { return g.turn.Load() != turn || earlier.Load() == 0 })
	took := int64(time.Since(began))
	for was := g.longest.Load(); took > was; was = g.longest.Load() {
		if g.longest.CompareAndSwap(was, took) {
			break
		}
	}
}

// settled tells whether no change of an earlier turn is under way in the
// region's part. Nobody ends the turn meanwhile.
func (g *gate) settled(r region, turn uint64) bool {
	return g.underWay[r%shards][(turn+1)&1].Load() == 0
}

// longestWait returns how long the rollover kept a first touch waiting at most.
func (g *gate) longestWait() time.Duration { return time.Duration(g.longest.Swap(0)) }

// drain returns when every change that began in the turn before the present
// one is over.
func (g *gate) drain() {
	side := (g.turn.Load() + 1) & 1
	g.wait(func() bool { return g.calm(side) })
}

// close waits until no change is under way and lets none begin until open.
// Callers exclude each other.
func (g *gate) close() {
	g.closed.Store(true)
	g.wait(func() bool { return g.calm(0) && g.calm(1) })
}

func (g *gate) open() {
	g.closed.Store(false)
	g.wake()
}

func (g *gate) calm(side uint64) bool {
	for i := range g.underWay {
		if g.underWay[i][side].Load() != 0 {
			return false
		}
	}
	return true
}

func (g *gate) wait(until func() bool) {
	if until() {
		return
	}
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	g.mu.Lock()
	defer g.mu.Unlock()
	for !until() {
		g.calmer.Wait()
	}
}

func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calmer.Broadcast()
}
