package uploader

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"lifeboat/replica"
	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

const (
	// maxWaiting is how many sealed epochs may wait before rollovers are left
	// out: the storage is away or too slow, and more points would only be
	// merged by the filter.
	maxWaiting = 2
	// maxLooks bounds how often in a row a step is repeated at once because the
	// situation changed under it.
	maxLooks = 5
	// idlePause is how long to wait for a wake-up when there is nothing to do.
	idlePause = time.Minute
)

// worker runs the protection of one VM: two goroutines, of which one rolls over
// at the copy frequency and the other ships. It is told of progress by the
// shipper and tells the status.
type worker struct {
	id       string
	filter   Filter
	shipper  *shipper
	settings *settingsFile
	standard time.Duration // copy frequency if the settings have none
	jobs     *jobList
	log      *slog.Logger

	wake    chan struct{} // there may be something to do
	retry   chan struct{} // try at once whatever the retry schedule says
	changed broadcast     // the following has changed

	mu      sync.Mutex
	seen    tracker.VM // as the filter told it last
	away    bool       // the filter does not answer
	walking bool
	closed  uint64 // the walk that the newest point closed, 0 if it closed none
	newest  *api.Point
	cycle   *api.Cycle
	failed  *failure
	reasons []api.Reason
}

// failure is a row of attempts that failed.
type failure struct {
	class class
	err   *api.Error
	first time.Time
	next  time.Time // zero for never
}

func (w *worker) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { w.rollOver(ctx) })
	wg.Go(func() { w.ship(ctx) })
	wg.Wait()
	w.shipper.close()
}

// frequency returns the copy frequency.
func (w *worker) frequency() time.Duration {
	if f := w.settings.get().FrequencySeconds; f > 0 {
		return time.Duration(f * float64(time.Second))
	}
	return w.standard
}

// rollOver seals an epoch at each copy frequency.
func (w *worker) rollOver(ctx context.Context) {
	next := time.Now()
	for sleep(ctx, time.Until(next), nil, nil) {
		if err := w.rollOverOnce(ctx); err != nil {
			if c, _ := classify(ctx, err); c == recoverable || c == unrecoverable {
				w.log.Warn("no rollover", "error", err)
			}
		}
		frequency := w.frequency()
		next = next.Add(frequency)
		if now := time.Now(); next.Before(now) {
			next = now.Add(frequency)
		}
	}
}

func (w *worker) rollOverOnce(ctx context.Context) error {
	vm, err := w.filter.VM(ctx, w.id)
	if err != nil || vm.Walk.Required || len(vm.Sealed) > maxWaiting {
		return err
	}
	if _, err = w.filter.Rollover(ctx, w.id, 0); err != nil {
		return err
	}
	nudge(w.wake)
	return nil
}

// ship brings the replica to where the filter is, again and again.
func (w *worker) ship(ctx context.Context) {
	looks := 0
	for ctx.Err() == nil {
		idle, err := w.shipper.step(ctx)
		if err == nil {
			looks = 0
			w.present(idle)
			if idle {
				sleep(ctx, idlePause, w.wake, w.retry)
			}
			continue
		}
		c, e := classify(ctx, err)
		switch c {
		case stopping:
			return
		case lookAgain:
			w.present(false)
			if looks++; looks > maxLooks {
				sleep(ctx, filterRetry, w.retry, nil)
			}
		case filterAway:
			w.absent(e)
			sleep(ctx, filterRetry, w.retry, nil)
		default:
			pause := w.fail(c, e, err)
			sleep(ctx, pause, w.retry, nil)
		}
	}
}

// present notes that the filter answers and, when there is nothing left to do,
// that all is well and what was begun has ended.
func (w *worker) present(idle bool) {
	w.mu.Lock()
	w.away = false
	if idle {
		w.failed = nil
		w.walking = false
	}
	w.mu.Unlock()
	if idle {
		w.jobs.finishVM(w.id, api.JobSucceeded, nil)
		w.changed.send()
	}
}

func (w *worker) absent(e *api.Error) {
	w.mu.Lock()
	w.away = true
	w.mu.Unlock()
	w.jobs.explain(w.id, e)
}

// fail notes a failed attempt and returns how long to wait for the next.
func (w *worker) fail(c class, e *api.Error, err error) time.Duration {
	now := time.Now()
	w.mu.Lock()
	f := &failure{class: c, err: e, first: now}
	if w.failed != nil && w.failed.class == recoverable {
		f.first = w.failed.first
	}
	if c == recoverable {
		f.next = nextAttempt(f.first, now)
	}
	w.failed = f
	w.mu.Unlock()
	if c == recoverable {
		w.log.Warn("attempt failed", "error", err, "next", f.next)
		w.jobs.explain(w.id, e)
		w.changed.send()
		return f.next.Sub(now)
	}
	w.log.Error("replication stopped until it is resumed", "error", err, "code", e.Code, "hint", e.Hint)
	w.jobs.finishVM(w.id, api.JobFailed, e)
	w.changed.send()
	return forever
}

// walked implements observer.
func (w *worker) walked(vm tracker.VM, initial bool, done, total int64) {
	w.setWalking()
	w.updateJob(vm, initial, stepNumberInitial, func(j *api.Job) { j.DoneBytes, j.TotalBytes = done, total })
}

// closing implements observer.
func (w *worker) closing(vm tracker.VM, initial bool) {
	w.setWalking()
	w.updateJob(vm, initial, stepNumberFinalize, func(j *api.Job) { j.DoneBytes = j.TotalBytes })
}

func (w *worker) setWalking() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.walking = true
}

// updateJob moves the job of the walk on to a step, given by its number in the
// job of initial replication.
func (w *worker) updateJob(vm tracker.VM, initial bool, number int, change func(*api.Job)) {
	kind, steps := api.KindProtect, protectSteps()
	if !initial {
		kind, steps, number = api.KindResync, resyncSteps(), number-stepNumberInitial+1
	}
	w.jobs.updateVM(kind, vm.ID, vm.Name, steps, func(j *api.Job) {
		j.Step = number
		j.Error = nil
		change(j)
	})
}

// committed implements observer.
func (w *worker) committed(vm tracker.VM, point replica.Point, cycle *api.Cycle, closed bool) {
	w.mu.Lock()
	described := describePoint(vm.Name, point)
	w.newest = &described
	if cycle != nil {
		w.cycle = cycle
		w.failed = nil
	}
	if closed {
		w.walking = false
		w.closed = point.Walk
	}
	w.mu.Unlock()
	if closed {
		w.log.Info("replica is complete", "epoch", point.Epoch)
	}
	w.changed.send()
}

// shipped implements observer: any success starts the retry schedule over.
func (w *worker) shipped() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = nil
}

// resume tries at once what failed or waits.
func (w *worker) resume() {
	w.mu.Lock()
	if w.failed != nil && w.failed.class == unrecoverable {
		w.failed = nil
	}
	w.mu.Unlock()
	nudge(w.retry)
}

func describePoint(name string, p replica.Point) api.Point {
	return api.Point{
		VM: p.VM, Name: name, Epoch: p.Epoch, Time: p.Time, Consistency: string(p.Consistency),
		SizeBytes: p.Size(), StoredBytes: p.Stored(),
	}
}
