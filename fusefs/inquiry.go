package fusefs

import (
	"sync"
	"time"
)

// inquiries are questions to the kernel about somebody else, who may keep it
// from answering: a process that hangs holds its memory map, a loop device
// asks a file system that may be dead. A question that gets no answer costs a
// thread until it does, and that only once, however often it is put.
type inquiries struct {
	patience time.Duration
	mu       sync.Mutex
	pending  map[string]*inquiry
}

type inquiry struct {
	began time.Time
	done  chan struct{}
}

func newInquiries(patience time.Duration) *inquiries {
	return &inquiries{patience: patience, pending: map[string]*inquiry{}}
}

// ask puts a question about somebody and tells whether it was answered in time.
// If not, question may still be running, and nobody must look at what it sets.
func (q *inquiries) ask(about string, question func()) bool {
	for {
		asked, ours := q.put(about, question)
		timeout := time.NewTimer(q.patience - time.Since(asked.began))
		select {
		case <-asked.done:
			timeout.Stop()
			if ours {
				return true
			}
			// That answer may be older than what we want to know.
		case <-timeout.C:
			return false
		}
	}
}

// put asks, unless an earlier question about the same one is open: then it is
// that one's turn first.
func (q *inquiries) put(about string, question func()) (asked *inquiry, ours bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if asked := q.pending[about]; asked != nil {
		return asked, false
	}
	asked = &inquiry{began: time.Now(), done: make(chan struct{})}
	q.pending[about] = asked
	go func() {
		question()
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.pending, about)
		close(asked.done)
	}()
	return asked, true
}
