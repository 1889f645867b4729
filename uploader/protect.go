package uploader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"lifeboat/replica"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
	"lifeboat/uploader/api"
)

// Protect implements api.Backend.
//
// The filter is told first and the container after it: a sidecar that is killed
// in between finds the VM at the filter and describes it then. The other way
// round, the container would keep a VM that nobody protects.
func (s *Service) Protect(ctx context.Context, request api.ProtectRequest) (api.Protected, error) {
	frequency := time.Duration(request.FrequencySeconds * float64(time.Second))
	if request.FrequencySeconds != 0 {
		if err := CheckFrequency(frequency); err != nil {
			return api.Protected{}, err
		}
	}
	job := s.jobs.start(api.KindProtect, "", request.Name, protectSteps(), stepNumberCheck)
	protected, err := s.protect(ctx, job, request)
	if err != nil {
		err = explain(ctx, err)
		failure, ok := errors.AsType[*api.Error](err)
		if !ok {
			failure = &api.Error{Code: api.CodeCancelled, Message: err.Error()}
		}
		s.jobs.update(job, func(j *api.Job) { j.State, j.Error = api.JobFailed, failure })
		return api.Protected{}, err
	}
	return protected, nil
}

func (s *Service) protect(ctx context.Context, job string, request api.ProtectRequest) (api.Protected, error) {
	found := s.checkPrerequisites(ctx, request)
	if failed := found.failed(); failed != nil {
		return api.Protected{}, failed
	}
	spec := tracker.Spec{ID: replica.NewID(), Name: request.Name}
	for _, path := range found.paths {
		spec.Disks = append(spec.Disks, tracker.DiskSpec{ID: replica.NewID(), Path: path})
	}
	s.jobs.update(job, func(j *api.Job) { j.VM, j.Step = spec.ID, stepNumberRelationship })
	settings, err := openSettings(s.vmDirectory(spec.ID))
	if err == nil && request.FrequencySeconds != 0 {
		err = settings.set(func(v *vmSettings) { v.FrequencySeconds = request.FrequencySeconds })
	}
	if err != nil {
		return api.Protected{}, err
	}
	vm, err := found.filter.Protect(ctx, spec)
	if err != nil && !errors.Is(err, control.ErrUnavailable) { // else it may have been done
		err = errors.Join(err, os.RemoveAll(s.vmDirectory(spec.ID)))
	}
	switch {
	case errors.Is(err, tracker.ErrExists):
		return api.Protected{}, &api.Error{Code: api.CodeExists, Message: err.Error(), Hint: "see what is protected with: lifeboat status"}
	case errors.Is(err, tracker.ErrInvalid), errors.Is(err, tracker.ErrNotFound):
		return api.Protected{}, &api.Error{Code: api.CodeInvalid, Message: err.Error()}
	case err != nil:
		return api.Protected{}, fmt.Errorf("protect VM %s: %w", request.Name, err)
	}
	s.jobs.update(job, func(j *api.Job) { j.Step = stepNumberInitial })
	s.config.Logger.Info("protection begun", "vm", vm.Name, "id", vm.ID, "disks", len(vm.Disks))
	s.await(ctx, vm.ID)
	return api.Protected{VM: vm.ID, Name: vm.Name, Job: job, Checks: found.checks}, nil
}

// Unprotect implements api.Backend.
//
// What is to be told to the container is noted before the filter is asked, and
// is told again and again until it has arrived.
func (s *Service) Unprotect(ctx context.Context, name string, force bool) error {
	r, err := s.find(ctx, name)
	if err != nil {
		if !force {
			return err
		}
		return s.disableAbandoned(ctx, name, err)
	}
	vm := r.name()
	job := s.jobs.start(api.KindUnprotect, r.id, vm, []string{"end the tracking", "mark the replica"}, 1)
	err = s.unprotect(ctx, job, r)
	if err != nil {
		err = explain(ctx, fmt.Errorf("unprotect VM %s: %w", vm, err))
	}
	s.jobs.update(job, func(j *api.Job) {
		j.State = api.JobSucceeded
		if err != nil {
			failure, _ := errors.AsType[*api.Error](err)
			j.State, j.Error = api.JobFailed, failure
		}
	})
	return err
}

func (s *Service) unprotect(ctx context.Context, job string, r *running) error {
	now := time.Now()
	if err := r.settings.set(func(v *vmSettings) { v.Unprotected = now }); err != nil {
		return err
	}
	if err := r.filter.Unprotect(ctx, r.id); err != nil && !errors.Is(err, tracker.ErrNotFound) {
		return err
	}
	s.jobs.update(job, func(j *api.Job) { j.Step = 2 })
	r.stop()
	<-r.done
	s.mu.Lock()
	if s.workers[r.id] == r {
		delete(s.workers, r.id)
	}
	s.mu.Unlock()
	s.jobs.finishVM(r.id, api.JobCancelled, nil)
	if err := s.disable(ctx, r.id, now); err != nil {
		s.config.Logger.Warn("end of protection not told to the container yet", "vm", r.name(), "error", err)
	}
	return nil
}

// disableAbandoned frees the name of a VM that the container has and no filter
// any more: its host is gone, or its filter's state.
func (s *Service) disableAbandoned(ctx context.Context, name string, notFound error) error {
	repository, err := s.open(ctx)
	if err != nil {
		return explain(ctx, err)
	}
	vm, err := repository.FindVM(ctx, name)
	if errors.Is(err, replica.ErrUnknownVM) {
		return notFound
	}
	if err == nil {
		err = s.disable(ctx, vm.ID, time.Now())
	}
	if err != nil {
		return explain(ctx, fmt.Errorf("unprotect VM %s: %w", name, err))
	}
	return nil
}
