package fusefs

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// crew are the readers of a mount: loops that take a request, answer it and
// take the next. How many of them do is up to pace; the others wait.
type crew struct {
	readers []*reader
	wanted  atomic.Int64 // those below it take requests
	// watched is false while nobody looks at the readers because there is
	// nothing to do; the first that has something to do calls.
	watched atomic.Bool
	call    chan struct{}
	ended   chan struct{}
	end     sync.Once
}

// reader is what one loop lets the others know of itself.
type reader struct {
	crew   *crew
	number int64
	// steps is odd while a request is being answered.
	steps  atomic.Uint64
	thread atomic.Int64 // which it never leaves
	wake   chan struct{}
	_      [64]byte // steps share their cache line with nobody's
}

const (
	tick = time.Millisecond
	// quietTicks without a request are enough for the watch to end.
	quietTicks = 50
)

func newCrew(size int) *crew {
	c := &crew{call: make(chan struct{}, 1), ended: make(chan struct{})}
	for i := range size {
		c.readers = append(c.readers, &reader{crew: c, number: int64(i), wake: make(chan struct{}, 1)})
	}
	c.wanted.Store(1)
	return c
}

// dismiss lets all readers go on to find that the mount has ended.
func (c *crew) dismiss() { c.end.Do(func() { close(c.ended) }) }

// begin keeps the calling goroutine on its thread, so that others can see what
// it waits for.
func (r *reader) begin() {
	runtime.LockOSThread()
	r.thread.Store(int64(unix.Gettid()))
}

// sleepsAtWork tells whether the reader has a request, and its thread waits for
// something, as opposed to having, or wanting, a processor.
func (r *reader) sleepsAtWork() bool {
	if r.steps.Load()&1 == 0 {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", r.thread.Load()))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return len(state) > 0 && state[0] != 'R'
}

// idle says that the reader has no request, and returns when it may take one.
func (r *reader) idle() {
	if r.steps.Load()&1 != 0 {
		r.steps.Add(1)
	}
	for r.number >= r.crew.wanted.Load() {
		select {
		case <-r.wake:
		case <-r.crew.ended:
			return
		}
	}
}

// work says that the reader has a request now.
func (r *reader) work() {
	r.steps.Add(1)
	if c := r.crew; !c.watched.Load() && c.watched.CompareAndSwap(false, true) {
		select {
		case c.call <- struct{}{}:
		default:
		}
	}
}

// lead has as many readers take requests as are of use, until dismiss.
func (c *crew) lead() {
	p := pace{limit: len(c.readers), wanted: 1}
	seen := make([]uint64, len(c.readers))
	for {
		select {
		case <-c.call:
		case <-c.ended:
			return
		}
		if !c.watch(&p, seen) {
			return
		}
	}
}

// watch looks at the readers at every tick until there is nothing to do. It
// returns false if the crew was dismissed.
func (c *crew) watch(p *pace, seen []uint64) bool {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for quiet := 0; quiet < quietTicks; {
		select {
		case <-ticker.C:
		case <-c.ended:
			return false
		}
		s := c.sample(seen)
		if quiet++; s.busy > 0 || s.answered > 0 {
			quiet = 0
		}
		c.want(p.next(s))
	}
	c.watched.Store(false)
	// Who had a request before that did not call.
	if s := c.sample(seen); s.busy > 0 || s.answered > 0 {
		if c.watched.CompareAndSwap(false, true) {
			c.call <- struct{}{}
		}
	}
	return true
}

// sample looks at the readers. seen is what it saw of their steps last.
func (c *crew) sample(seen []uint64) (s sample) {
	for i, r := range c.readers {
		now := r.steps.Load()
		if now&1 != 0 {
			s.busy++
		}
		s.answered += now/2 - seen[i]/2
		seen[i] = now
	}
	if s.answered == 0 && s.busy > 0 {
		s.stuck = slices.ContainsFunc(c.readers, (*reader).sleepsAtWork)
	}
	return s
}

// want has the first n readers take requests.
func (c *crew) want(n int) {
	was := int(c.wanted.Swap(int64(n)))
	for i := was; i < n; i++ {
		select {
		case c.readers[i].wake <- struct{}{}:
		default:
		}
	}
}
