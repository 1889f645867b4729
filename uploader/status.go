package uploader

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

// Status implements api.Backend.
func (s *Service) Status(ctx context.Context) (api.Status, error) {
	if err := s.ready(ctx); err != nil {
		return api.Status{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status := api.Status{
		Version: s.config.Version, PID: os.Getpid(), Started: s.started, Store: s.config.Store.String(),
		Filters: []api.Filter{}, VMs: []api.VM{},
	}
	for _, f := range s.filters {
		status.Filters = append(status.Filters, api.Filter{Folder: f.Folder, Mountpoint: f.Mountpoint, Available: s.present[f.Mountpoint]})
	}
	for _, r := range s.workers {
		r.assess(s.present[r.filter.Mountpoint])
		status.VMs = append(status.VMs, r.status())
	}
	slices.SortFunc(status.VMs, func(a, b api.VM) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	return status, nil
}

// Jobs implements api.Backend.
func (s *Service) Jobs(context.Context) ([]api.Job, error) { return s.jobs.list(), nil }

// Job implements api.Backend.
func (s *Service) Job(_ context.Context, id string) (api.Job, error) { return s.jobs.get(id) }

// Resume implements api.Backend.
func (s *Service) Resume(ctx context.Context, vm string) error {
	r, err := s.find(ctx, vm)
	if err != nil {
		return err
	}
	r.resume()
	return nil
}

// walk returns the walk that the filter told of, unless it has been closed
// since and the filter was not asked again. mu is held.
func (w *worker) walk() tracker.Walk {
	walk := w.seen.Walk
	if walk.Number == w.closed {
		walk.Required = false
	}
	return walk
}

// see notes what the filter said of the VM, and has the shipper look if there is
// something to do.
func (w *worker) see(vm tracker.VM) {
	w.mu.Lock()
	w.seen = vm
	w.mu.Unlock()
	if vm.Walk.Required || len(vm.Sealed) > 0 {
		nudge(w.wake)
	}
	w.changed.send() // epochs may have been merged
}

func (w *worker) name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Name
}

// assess judges the health; filterPresent tells whether the filter answered just
// now.
func (w *worker) assess(filterPresent bool) {
	now := time.Now()
	frequency := w.frequency()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reasons = since(assess(w.condition(frequency, filterPresent), now), w.reasons, now)
}

// condition gathers what state and health depend on. mu is held.
func (w *worker) condition(frequency time.Duration, filterPresent bool) condition {
	c := condition{
		logFailed: w.seen.LogFailed, held: w.seen.Held, walk: w.walk(), walking: w.walking, away: w.away || !filterPresent, frequency: frequency, failed: w.failed,
	}
	if w.newest != nil {
		c.newest = w.newest.Time
	}
	for _, d := range w.seen.Disks {
		if d.Removed {
			c.removed = append(c.removed, d.Path)
		}
	}
	return c
}

func (w *worker) status() api.VM {
	frequency := w.frequency()
	job := w.jobs.running(w.id)
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.condition(frequency, !w.away)
	vm := api.VM{
		ID: w.id, Name: w.seen.Name, Mountpoint: w.filter.Mountpoint, Disks: []api.Disk{},
		State: c.state(), Health: worst(w.reasons), Reasons: append([]api.Reason{}, w.reasons...),
		FrequencySeconds: frequency.Seconds(), Newest: w.newest,
		PendingBytes: w.seen.PendingBytes, WaitingEpochs: len(w.seen.Sealed), GivenUp: w.seen.GivenUp,
		LastCycle: w.cycle, Job: job,
	}
	if w.newest != nil {
		vm.AgeSeconds = time.Since(w.newest.Time).Seconds()
	}
	for _, d := range w.seen.Disks {
		vm.Disks = append(vm.Disks, api.Disk{ID: d.ID, Path: filepath.Join(w.filter.Mountpoint, d.Path), SizeBytes: d.Size, Removed: d.Removed})
	}
	if w.failed != nil {
		vm.Retry = &api.Retry{Error: *w.failed.err, Since: w.failed.first.UTC(), Next: w.failed.next.UTC()}
		if w.failed.next.IsZero() {
			vm.Retry.Next = time.Time{}
		}
	}
	return vm
}
