package fusefs

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/fusefs/handover"
)

// rest keeps readers from executing what they take from the kernel, so that
// what is under way comes to an end. A request that a reader has taken and not
// executed is answered when the rest is over, or, if the process ends before,
// by the next filter: the kernel sends it again.
type rest struct {
	on   atomic.Bool
	mu   sync.Mutex
	over chan struct{} // closed at the end of the present one
}

// begin returns a channel that is closed when the rest is over.
func (r *rest) begin() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on.Load() {
		r.over = make(chan struct{})
		r.on.Store(true)
	}
	return r.over
}

func (r *rest) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on.Swap(false) {
		close(r.over)
	}
}

// now returns the channel of the present rest, or nil if there is none.
func (r *rest) now() <-chan struct{} {
	if !r.on.Load() { // mostly
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on.Load() {
		return nil
	}
	return r.over
}

// admit returns when the reader may execute the request that it has taken.
func (c *connection) admit(r *reader, request []byte) {
	for over := c.rest.now(); over != nil && isSentAgain(request); over = c.rest.now() {
		r.steps.Add(1) // nothing is under way
		select {
		case <-over:
		case <-r.crew.ended:
			r.steps.Add(1)
			return
		}
		r.steps.Add(1)
	}
}

// isSentAgain is false for what the kernel wants no answer to, and forgets about
// as soon as it was taken.
func isSentAgain(request []byte) bool {
	if len(request) < inHeaderSize {
		return false
	}
	switch headerOf(request).Opcode {
	case opForget, opBatchForget, opInterrupt:
		return false
	}
	return true
}

// drained tells whether nothing is under way: the readers first, since they
// begin what is answered aside.
func (m *Mount) drained() bool {
	for _, r := range m.crew.readers {
		if r.steps.Load()&1 != 0 {
			return false
		}
	}
	return m.connection.aside.Load() == 0
}

// heed does what the keeper says, and finds another one when it has died.
func (m *Mount) heed() {
	c, estate := m.connection, m.filter.estate
	for {
		order, err := estate.Hear()
		switch {
		case err == nil && order.LetGo:
			over := c.rest.begin()
			go m.letGo(order.Attempt, over)
		case err == nil:
			c.rest.end()
		default:
			c.rest.end()
			if !m.findKeeper(err) {
				return
			}
		}
	}
}

// letGo ends what is under way and then says so: the keeper kills this process.
// It is taken back when the rest is over.
func (m *Mount) letGo(attempt uint64, over <-chan struct{}) {
	look := time.NewTicker(tick)
	defer look.Stop()
	for !m.drained() {
		select {
		case <-look.C:
		case <-over:
			return
		case <-m.done:
			return
		}
	}
	m.filter.options.LetGo()
	select {
	case <-over:
		return
	default:
	}
	if err := m.filter.estate.LetGo(attempt); err != nil {
		m.filter.log.Warn("the keeper is not told that nothing is under way", "error", err)
	}
}

// The pause before another keeper is started: none for the first, then doubled
// from firstPause to longestPause. One that lived for longestPause was good.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = time.Minute
)

// findKeeper gives the mount to another keeper. It returns false if the mount
// has ended, or there is none to be had.
func (m *Mount) findKeeper(cause error) bool {
	log, estate := m.filter.log, m.filter.estate
	if estate.NewKeeper == nil {
		if !m.ended() && !errors.Is(cause, handover.ErrClosed) {
			log.Error("the keeper is not understood: if the filter dies, so does the mount", "error", cause)
		}
		return false
	}
	if time.Since(m.keptSince) > longestPause {
		m.keeperPause = 0
	}
	for !m.ended() {
		select {
		case <-m.done:
			return false
		case <-time.After(m.keeperPause):
		}
		log.Warn("the keeper died; another one is started", "cause", cause, "pause", m.keeperPause)
		m.keeperPause = min(max(firstPause, 2*m.keeperPause), longestPause)
		if cause = estate.Bequeath(); cause == nil {
			m.keptSince = time.Now()
			log.Info("another keeper keeps the mount")
			return true
		}
		log.Error("no other keeper came up; the filter serves on, but if it dies, so does the mount", "error", cause, "again", m.keeperPause)
	}
	return false
}

func (m *Mount) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}
