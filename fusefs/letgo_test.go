package fusefs

import (
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// taken is how many requests the readers have taken.
func (s *served) taken() (n uint64) {
	for _, r := range s.mount.crew.readers {
		n += (r.steps.Load() + 1) / 2
	}
	return n
}

// soon waits for something that comes by itself.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("not yet: %s", what)
		}
	}
}

// TestRest lets what is under way end, and executes nothing that was taken
// since, until the rest is over.
func TestRest(t *testing.T) {
	d := waitingDisk{waiting: new(atomic.Int64), goOn: make(chan struct{})}
	s := serveFolder(t, protectingAll(func(FileID) Disk { return d }))
	must(t, os.WriteFile(s.below("disk.img"), make([]byte, 100), 0o644))
	f, err := os.OpenFile(s.path("disk.img"), os.O_WRONLY, 0)
	must(t, err)
	write := func(text string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := f.WriteAt([]byte(text), 0)
			done <- err
		}()
		return done
	}
	first := write("first")
	soon(t, "the write is under way", func() bool { return d.waiting.Load() == 1 })
	rest := &s.mount.connection.rest
	over := rest.begin()
	defer rest.end()
	if s.mount.drained() {
		t.Error("a write is under way")
	}
	close(d.goOn)
	must(t, <-first)
	soon(t, "nothing is under way", s.mount.drained)

	executed, taken := s.count("FSYNC")+s.count("GETATTR"), s.taken()
	second := make(chan error, 2)
	go func() { second <- f.Sync() }()
	soon(t, "it is taken", func() bool { return s.taken() > taken })
	go func() { _, err := os.Stat(s.path("other")); second <- err }()
	soon(t, "it is taken, too, or waits for who is to take it", func() bool { return s.mount.drained() })
	select {
	case err := <-second:
		t.Errorf("a request was executed: %v", err)
	case <-over:
		t.Error("the rest is over")
	default:
	}
	if now := s.count("FSYNC") + s.count("GETATTR"); now != executed {
		t.Errorf("%d requests were executed, then %d", executed, now)
	}
	rest.end()
	<-over
	for range 2 {
		if err := <-second; err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	must(t, f.Close())
	if rest.now() != nil {
		t.Error("the rest is not over")
	}
}
