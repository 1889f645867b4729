package blobstoretest

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"sync"

	"lifeboat/replica/blobstore"
)

// Op is a kind of operation on a store.
type Op string

// The operations. Any counts all of them in one row.
const (
	Any      Op = ""
	Put      Op = "put"
	Get      Op = "get"
	Stat     Op = "stat"
	List     Op = "list"
	Prefixes Op = "prefixes"
	Delete   Op = "delete"
)

// Effect is what goes wrong.
type Effect int

const (
	// Fail: the operation fails and has done nothing.
	Fail Effect = iota
	// LostReply: the operation takes effect, and then fails. What reads is
	// not changed by that: it fails.
	LostReply
	// CutShort: a Get's reader yields At bytes and then fails; a listing
	// yields At elements and then fails. Others fail.
	CutShort
	// Corrupt: a Get's reader yields the byte at At, counted from the
	// reader's first, with one bit turned, and no error. Others are not
	// changed.
	Corrupt
)

// ErrInjected is the cause of a failure whose Fault names none.
var ErrInjected = errors.New("injected fault")

// Fault makes one operation, or all of a kind, go wrong.
type Fault struct {
	Op Op
	// Nth is which operation of the kind goes wrong, counted from 1 from the
	// time that the fault was added; 0 means each.
	Nth int
	// Within restricts the fault to names or prefixes that hold this text,
	// and Nth counts only those.
	Within string
	Effect Effect
	At     int64
	// Err is the cause that the operation fails with; nil means ErrInjected,
	// which is Recoverable. A *blobstore.Error keeps its class, kind and hint.
	Err error
}

// Faulty is a store that fails where a test wants it to. It may be used like
// every store, and told of new faults at any time.
type Faulty struct {
	store blobstore.Store

	mu     sync.Mutex
	faults []*pending
	calls  map[Op]int
}

type pending struct {
	Fault

	seen, struck int
}

var _ blobstore.Store = (*Faulty)(nil)

// NewFaulty returns a store that does what s does, but for the faults.
func NewFaulty(s blobstore.Store, faults ...Fault) *Faulty {
	f := &Faulty{store: s, calls: make(map[Op]int)}
	f.Add(faults...)
	return f
}

// Add adds faults.
func (f *Faulty) Add(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		f.faults = append(f.faults, &pending{Fault: fault})
	}
}

// Heal removes all faults.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Calls returns how many operations of a kind were asked for so far.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != Any {
		return f.calls[op]
	}
	n := 0
	for _, count := range f.calls {
		n += count
	}
	return n
}

// Struck returns how many operations the faults that are in place have made go
// wrong. A test that fails the 1st, 2nd, 3rd… operation is through when it is 0.
func (f *Faulty) Struck() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.faults {
		n += p.struck
	}
	return n
}

// strike counts an operation and returns the fault that it meets.
func (f *Faulty) strike(op Op, name string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	var met *Fault
	for _, p := range f.faults {
		if p.Op != Any && p.Op != op || !strings.Contains(name, p.Within) {
			continue
		}
		p.seen++
		if met == nil && (p.Nth == 0 || p.Nth == p.seen) {
			p.struck++
			met = &p.Fault
		}
	}
	return met
}

func (f *Faulty) fail(fault *Fault, op Op, name string) error {
	cause := fault.Err
	if cause == nil {
		cause = ErrInjected
	}
	e := blobstore.Error{Class: blobstore.ClassOf(cause), Err: cause}
	if given, ok := errors.AsType[*blobstore.Error](cause); ok {
		e = *given
	}
	e.Op, e.Name, e.Store = string(op), name, f.String()
	return &e
}

// change runs an operation that reads nothing.
func (f *Faulty) change(op Op, name string, run func() error) error {
	fault := f.strike(op, name)
	if fault == nil || fault.Effect == Corrupt {
		return run()
	}
	failure := f.fail(fault, op, name)
	if fault.Effect == LostReply {
		return errors.Join(failure, run())
	}
	return failure
}

// String implements blobstore.Store.
func (f *Faulty) String() string { return f.store.String() }

// Put implements blobstore.Store.
func (f *Faulty) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	return f.change(Put, name, func() error { return f.store.Put(ctx, name, content, size) })
}

// Delete implements blobstore.Store.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.change(Delete, name, func() error { return f.store.Delete(ctx, name) })
}

// Stat implements blobstore.Store.
func (f *Faulty) Stat(ctx context.Context, name string) (info blobstore.Info, err error) {
	err = f.change(Stat, name, func() error {
		info, err = f.store.Stat(ctx, name)
		return err
	})
	return info, err
}

// Get implements blobstore.Store.
func (f *Faulty) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	fault := f.strike(Get, name)
	if fault != nil && (fault.Effect == Fail || fault.Effect == LostReply) {
		return nil, f.fail(fault, Get, name)
	}
	r, err := f.store.Get(ctx, name, offset, length)
	if err != nil || fault == nil {
		return r, err
	}
	broken := &brokenReader{ReadCloser: r, left: fault.At}
	if fault.Effect == CutShort {
		broken.failure = f.fail(fault, Get, name)
	}
	return broken, nil
}

// List implements blobstore.Store.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[blobstore.Info, error] {
	return cutList(f, List, prefix, f.store.List(ctx, prefix))
}

// Prefixes implements blobstore.Store.
func (f *Faulty) Prefixes(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return cutList(f, Prefixes, prefix, f.store.Prefixes(ctx, prefix))
}

func cutList[V any](f *Faulty, op Op, prefix string, whole iter.Seq2[V, error]) iter.Seq2[V, error] {
	return func(yield func(V, error) bool) {
		fault := f.strike(op, prefix)
		if fault == nil || fault.Effect == Corrupt {
			whole(yield)
			return
		}
		left := int64(0)
		if fault.Effect == CutShort {
			left = fault.At
		}
		for value, err := range whole {
			if left == 0 {
				break
			}
			left--
			if !yield(value, err) || err != nil {
				return
			}
		}
		var none V
		yield(none, f.fail(fault, op, prefix))
	}
}

// brokenReader fails after left bytes, or turns a bit of the byte that follows
// them if it has no failure.
type brokenReader struct {
	io.ReadCloser

	left    int64
	failure error
}

// Read implements io.Reader.
func (r *brokenReader) Read(p []byte) (int, error) {
	if r.failure != nil {
		if r.left == 0 {
			return 0, r.failure
		}
		p = p[:min(int64(len(p)), r.left)]
	}
	n, err := r.ReadCloser.Read(p)
	if r.failure == nil && r.left >= 0 && r.left < int64(n) {
		p[r.left] ^= 0x10
	}
	r.left -= int64(n)
	return n, err
}

// Ops returns the operations, for tests that go through all of them.
func Ops() []Op { return []Op{Put, Get, Stat, List, Prefixes, Delete} }
