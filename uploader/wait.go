package uploader

import (
	"context"
	"math"
	"sync"
	"time"
)

// forever is long enough to wait for somebody else to act.
const forever = time.Duration(math.MaxInt64)

// sleep waits until d has passed or one of the channels, which may be nil, has
// something. It returns false if ctx ended.
func sleep(ctx context.Context, d time.Duration, a, b <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a:
	case <-b:
	}
	return ctx.Err() == nil
}

// nudge puts something into a channel of room 1, unless it is there already.
func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// broadcast wakes all who wait. The zero value is ready.
type broadcast struct {
	mu      sync.Mutex
	channel chan struct{}
}

// next returns a channel that is closed at the next send.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channel == nil {
		b.channel = make(chan struct{})
	}
	return b.channel
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channel != nil {
		close(b.channel)
		b.channel = nil
	}
}
