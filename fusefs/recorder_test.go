package fusefs

import (
	"math"
	"sync"
	"testing"
)

// recorder is a Disk that remembers which bytes it was told of.
type recorder struct {
	t *testing.T

	mu       sync.Mutex
	ranges   []span
	changes  map[uint64]bool // under way
	resizes  int             // under way
	removals int
	resized  int
	changed  int
}

// span is a range of bytes, end excluded.
type span struct{ from, to int64 }

func (r *recorder) BeginChange(offset, length int64) (change uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resizes > 0 {
		r.t.Error("a change begins during a change of size")
	}
	if offset < 0 || length < 0 {
		r.t.Errorf("a change of %d bytes at %d", length, offset)
	}
	r.changed++
	if r.changes == nil {
		r.changes = map[uint64]bool{}
	}
	r.changes[uint64(r.changed)] = true
	r.ranges = append(r.ranges, span{offset, offset + length})
	return uint64(r.changed)
}

func (r *recorder) BeginClear(offset, length int64) (change uint64) {
	return r.BeginChange(offset, length)
}

func (r *recorder) EndChange(change uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changes[change] {
		r.t.Error("a change ends that did not begin")
	}
	delete(r.changes, change)
}

func (r *recorder) BeginResize(keep int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resizes > 0 || len(r.changes) > 0 {
		r.t.Errorf("a change of size begins during %d changes and %d changes of size", len(r.changes), r.resizes)
	}
	r.resizes++
	r.resized++
	r.ranges = append(r.ranges, span{keep, math.MaxInt64})
}

func (r *recorder) EndResize() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resizes--; r.resizes < 0 {
		r.t.Error("a change of size ends that did not begin")
	}
}

func (r *recorder) NameRemoved() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removals++
}

// idle checks that nothing is under way.
func (r *recorder) idle(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.changes) != 0 || r.resizes != 0 {
		t.Errorf("%d changes and %d changes of size never ended", len(r.changes), r.resizes)
	}
}

// take returns what was told since the last call.
func (r *recorder) take() []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	ranges := r.ranges
	r.ranges = nil
	return ranges
}

func (r *recorder) removed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removals
}

// recorders makes a recorder for each file.
type recorders struct {
	t *testing.T

	mu  sync.Mutex
	all map[FileID]*recorder
}

func newRecorders(t *testing.T) *recorders {
	return &recorders{t: t, all: make(map[FileID]*recorder)}
}

func (r *recorders) make(id FileID) Disk {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := &recorder{t: r.t}
	r.all[id] = d
	return d
}

func (r *recorders) check(t *testing.T) (changes int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.all {
		d.idle(t)
		d.mu.Lock()
		changes += d.changed + d.resized
		d.mu.Unlock()
	}
	return changes
}
