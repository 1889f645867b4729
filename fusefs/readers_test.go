package fusefs

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waitingDisk makes every change wait.
type waitingDisk struct {
	nothing
	waiting *atomic.Int64
	goOn    chan struct{}
}

func (d waitingDisk) BeginChange(int64, int64) uint64 {
	d.waiting.Add(1)
	<-d.goOn
	return 0
}

// TestWaitingReaders: as long as one reader is left, requests that wait for a
// disk keep no others waiting.
func TestWaitingReaders(t *testing.T) {
	d := waitingDisk{waiting: new(atomic.Int64), goOn: make(chan struct{})}
	s := serveFolder(t, protectingAll(func(FileID) Disk { return d }))
	content := []byte("what is read meanwhile")
	must(t, os.WriteFile(s.below("read"), content, 0o644))
	var writers sync.WaitGroup
	defer writers.Wait()
	defer close(d.goOn)
	for i := range int64(defaultReaders - 1) {
		name := fmt.Sprintf("written%d", i)
		must(t, os.WriteFile(s.below(name), make([]byte, 100), 0o644))
		f, err := os.OpenFile(s.path(name), os.O_WRONLY, 0)
		must(t, err)
		writers.Go(func() {
			defer f.Close() //nolint:errcheck // its write is checked
			if _, err := f.WriteAt([]byte("x"), 10); err != nil {
				t.Error(err)
			}
		})
		deadline := time.Now().Add(20 * time.Second)
		for d.waiting.Load() != i+1 {
			if time.Now().After(deadline) {
				t.Fatalf("%d writes are under way, the next one is not taken", d.waiting.Load())
			}
		}
		if got := read(t, s.path("read")); string(got) != string(content) {
			t.Fatalf("read %q", got)
		}
	}
}
