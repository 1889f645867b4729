package integration

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// The time between two operations of a guest on a disk. An operation changes
// some 60 KB; a sidecar with the race detector, which shares two cores with
// Azurite, has to keep up.
const (
	pace     = 4 * time.Millisecond
	slowPace = 10 * time.Millisecond
	idlePace = 25 * time.Millisecond
)

// guest stands for a VM that runs: a goroutine for each disk that goes on
// changing it until the test ends.
type guest struct {
	disks []*guestDisk
	pace  time.Duration
	stop  chan struct{}
	done  sync.WaitGroup
}

// guestDisk is one disk and who writes to it.
type guestDisk struct {
	*operations
	// mu is held during an operation, and by whoever holds the guest.
	mu      sync.Mutex
	changed *sync.Cond
	count   int   // of operations so far
	err     error // the operation that failed; then it waits to be revived
}

// startGuest has the disks changed from now on, in a way that rng decides. An
// operation that fails, fails the test, unless it is revived.
func startGuest(t *testing.T, rng *rand.Rand, pace time.Duration, largest int64, paths ...string) *guest {
	t.Helper()
	g := &guest{pace: pace, stop: make(chan struct{})}
	for i, path := range paths {
		o := &operations{path: path, other: paths[(i+1)%len(paths)], largest: largest, rng: rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))}
		must(t, o.open())
		d := &guestDisk{operations: o}
		d.changed = sync.NewCond(&d.mu)
		g.disks = append(g.disks, d)
	}
	for _, d := range g.disks {
		g.done.Go(func() { d.run(g.pace, g.stop) })
	}
	t.Cleanup(func() { g.end(t) })
	return g
}

// end stops the guest, if it still runs, and closes its disks.
func (g *guest) end(t *testing.T) {
	t.Helper()
	if g.stop == nil {
		return
	}
	close(g.stop)
	g.stop = nil
	g.done.Wait()
	for _, d := range g.disks {
		if d.err != nil {
			t.Errorf("the guest's %v", d.err)
		}
		d.close()
	}
}

func (d *guestDisk) run(pace time.Duration, stop <-chan struct{}) {
	again := time.NewTicker(pace)
	defer again.Stop()
	for {
		select {
		case <-stop:
			return
		case <-again.C:
		}
		d.mu.Lock()
		if d.err == nil {
			if d.err = d.step(); d.err == nil {
				d.count++
			}
			d.changed.Broadcast()
		}
		d.mu.Unlock()
	}
}

// do lets the guest do n more operations on each of its disks.
func (g *guest) do(t *testing.T, n int) {
	t.Helper()
	for _, d := range g.disks {
		d.mu.Lock()
		for until := d.count + n; d.count < until && d.err == nil; {
			d.changed.Wait()
		}
		err := d.err
		d.mu.Unlock()
		if err != nil {
			t.Fatalf("the guest's %v", err)
		}
	}
}

// hold keeps the guest from changing anything until release is called: every
// operation that it began has been answered.
func (g *guest) hold() (release func()) {
	for _, d := range g.disks {
		d.mu.Lock()
	}
	return func() {
		for _, d := range g.disks {
			d.mu.Unlock()
		}
	}
}

// fell waits until the guest has noticed on every disk that the filter is dead.
func (g *guest) fell() {
	for _, d := range g.disks {
		d.mu.Lock()
		for d.err == nil {
			d.changed.Wait()
		}
		d.close()
		d.mu.Unlock()
	}
}

// revive has the guest open its disks anew and go on.
func (g *guest) revive(t *testing.T) {
	t.Helper()
	for _, d := range g.disks {
		d.mu.Lock()
		d.err = d.open()
		err := d.err
		d.mu.Unlock()
		must(t, err)
	}
}
