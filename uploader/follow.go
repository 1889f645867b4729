package uploader

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/replica"
	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

// look asks the filters for their VMs, starts and ends workers, and returns how
// long to wait for the next look.
func (s *Service) look(ctx context.Context) time.Duration {
	filters, err := s.config.Filters.List(ctx)
	if err != nil && ctx.Err() == nil {
		s.config.Logger.Debug("some filters cannot be asked", "error", err)
	}
	present := map[string]bool{}
	for _, f := range filters {
		asking, cancel := context.WithTimeout(ctx, answerSoon)
		vms, err := f.VMs(asking)
		cancel()
		if err != nil {
			continue // its VMs' workers tell
		}
		present[f.Mountpoint] = true
		s.follow(ctx, f, vms)
	}
	s.mu.Lock()
	s.present = present
	for _, f := range filters {
		if !slices.ContainsFunc(s.filters, func(known Filter) bool { return known.Mountpoint == f.Mountpoint }) {
			s.filters = append(s.filters, f)
		}
	}
	slices.SortFunc(s.filters, func(a, b Filter) int { return strings.Compare(a.Mountpoint, b.Mountpoint) })
	for _, r := range s.workers {
		r.assess(present[r.filter.Mountpoint])
	}
	s.mu.Unlock()
	s.tellUnprotected(ctx)
	return lookAround
}

// follow has a worker for each VM of a filter, and none for those that it does
// not have any more.
func (s *Service) follow(ctx context.Context, f Filter, vms []tracker.VM) {
	s.mu.Lock()
	var ended []*running
	for id, r := range s.workers {
		if r.filter.Mountpoint == f.Mountpoint && !slices.ContainsFunc(vms, func(vm tracker.VM) bool { return vm.ID == id }) {
			r.stop()
			ended = append(ended, r)
			delete(s.workers, id)
		}
	}
	for _, vm := range vms {
		if s.workers[vm.ID] == nil {
			s.startWorker(ctx, f, vm)
		}
		s.workers[vm.ID].see(vm)
	}
	s.mu.Unlock()
	s.followed.send()
	for _, r := range ended {
		<-r.done
		s.jobs.finishVM(r.id, api.JobCancelled, nil)
	}
}

// startWorker starts a VM's worker. mu is held.
func (s *Service) startWorker(ctx context.Context, f Filter, vm tracker.VM) {
	log := s.config.Logger.With("vm", vm.Name)
	directory := s.vmDirectory(vm.ID)
	settings, err := openSettings(directory)
	if err != nil {
		log.Warn("settings lost", "error", err)
	}
	// The filter decides: an ending of the protection that it did not hear of
	// did not happen.
	if err := settings.set(func(v *vmSettings) { v.Unprotected = time.Time{} }); err != nil {
		log.Warn("settings not written", "error", err)
	}
	w := &worker{
		id: vm.ID, filter: f, settings: settings, standard: s.config.Frequency, jobs: s.jobs, log: log,
		wake: make(chan struct{}, 1), retry: make(chan struct{}, 1),
	}
	w.shipper = &shipper{
		id: vm.ID, writer: s.writer, backend: f.Backend, open: s.open, transfer: s.transfer,
		directory: directory, settings: settings, observer: w, sizes: standardSizes(), log: log,
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &running{worker: w, stop: cancel, done: make(chan struct{})}
	s.workers[vm.ID] = r
	go func() {
		defer close(r.done)
		defer cancel()
		w.run(ctx)
	}()
}

func (s *Service) vmDirectory(id string) string { return filepath.Join(s.config.StateDir, "vms", id) }

// tellUnprotected marks VMs in the container as disabled whose protection was
// ended when that could not be told to it.
func (s *Service) tellUnprotected(ctx context.Context) {
	entries, err := os.ReadDir(filepath.Join(s.config.StateDir, "vms"))
	if err != nil {
		return
	}
	for _, e := range entries {
		s.mu.Lock()
		runs := s.workers[e.Name()] != nil
		s.mu.Unlock()
		if runs || !replica.ValidID(e.Name()) {
			continue
		}
		settings, err := openSettings(s.vmDirectory(e.Name()))
		if err != nil || settings.get().Unprotected.IsZero() {
			continue
		}
		if err := s.disable(ctx, e.Name(), settings.get().Unprotected); err != nil {
			s.config.Logger.Debug("end of protection not told to the container yet", "vm", e.Name(), "error", err)
		}
	}
}

// disable marks a VM in the container as disabled, and then drops what the
// sidecar kept of it.
func (s *Service) disable(ctx context.Context, id string, at time.Time) error {
	repository, err := s.open(ctx)
	if err != nil {
		return err
	}
	vm, err := repository.NewestVM(ctx, id)
	if err != nil && !errors.Is(err, replica.ErrUnknownVM) {
		return err
	}
	if err == nil && vm.Disabled.IsZero() {
		next := *vm
		next.Generation++
		next.Created, next.Disabled = at, at // the same whoever does it
		if err := repository.PutVM(ctx, next); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(s.vmDirectory(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
