package uploader

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"lifeboat/replica"
	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

// Cut implements api.Backend.
func (s *Service) Cut(ctx context.Context, vm string, wait bool) (api.Point, error) {
	r, err := s.find(ctx, vm)
	if err != nil {
		return api.Point{}, err
	}
	e, err := r.filter.Rollover(ctx, r.id, 0)
	if errors.Is(err, tracker.ErrWalkRequired) {
		return api.Point{}, &api.Error{
			Code: api.CodeWalkRequired, Message: fmt.Sprintf("cut VM %s: %v", r.name(), err),
			Hint: "recovery points are made when initial replication or resynchronization has ended; see: lifeboat status",
		}
	}
	if err != nil {
		return api.Point{}, explain(ctx, fmt.Errorf("cut VM %s: %w", r.name(), err))
	}
	nudge(r.wake)
	r.hurry()
	point := api.Point{VM: r.id, Name: r.name(), Epoch: e.Number, Time: e.SealedAt.UTC()}
	if !wait {
		return point, nil
	}
	return s.awaitPoint(ctx, r, point)
}

// hurry tries at once what waits for its retry, not what stopped for good.
func (w *worker) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil && w.failed.class == recoverable {
		nudge(w.retry)
	}
}

// awaitPoint waits until a sealed epoch is committed, or will not be.
func (s *Service) awaitPoint(ctx context.Context, r *running, point api.Point) (api.Point, error) {
	for {
		changed := r.changed.next()
		r.mu.Lock()
		newest, failed := r.newest, r.failed
		r.mu.Unlock()
		if newest != nil && newest.Epoch >= point.Epoch {
			return s.committedPoint(ctx, point)
		}
		if failed != nil && failed.class == unrecoverable {
			return api.Point{}, failed.err
		}
		vm, err := r.filter.VM(ctx, r.id)
		if err == nil && !slices.ContainsFunc(vm.Sealed, func(e tracker.Epoch) bool { return e.Number == point.Epoch }) {
			// The filter forgets an epoch when it is committed, too.
			return s.committedPoint(ctx, point)
		}
		select {
		case <-changed:
		case <-r.done:
			return api.Point{}, &api.Error{Code: api.CodeCancelled, Message: fmt.Sprintf("the protection of VM %s has ended", point.Name)}
		case <-ctx.Done():
			return api.Point{}, fmt.Errorf("wait for recovery point %d of VM %s: %w", point.Epoch, point.Name, ctx.Err())
		}
	}
}

// committedPoint looks whether the container has a point.
func (s *Service) committedPoint(ctx context.Context, point api.Point) (api.Point, error) {
	repository, err := s.open(ctx)
	if err != nil {
		return api.Point{}, explain(ctx, err)
	}
	p, err := repository.Point(ctx, point.VM, point.Epoch)
	if errors.Is(err, replica.ErrNoPoint) {
		return api.Point{}, &api.Error{
			Code:    api.CodePointGivenUp,
			Message: fmt.Sprintf("recovery point %d of VM %s was given up: its changes come with the next one", point.Epoch, point.Name),
			Hint:    "the storage or the link is slower than the guest writes; see: lifeboat status",
		}
	}
	if err != nil {
		return api.Point{}, explain(ctx, err)
	}
	return describePoint(point.Name, p), nil
}

// Points implements api.Backend.
func (s *Service) Points(ctx context.Context, vm string) ([]api.Point, error) {
	r, err := s.find(ctx, vm)
	if err != nil {
		return nil, err
	}
	repository, err := s.open(ctx)
	if err != nil {
		return nil, explain(ctx, err)
	}
	epochs, err := repository.Epochs(ctx, r.id)
	if err != nil {
		return nil, explain(ctx, err)
	}
	found, err := repository.Points(ctx, r.id, epochs)
	if err != nil {
		return nil, explain(ctx, err)
	}
	points := make([]api.Point, len(found))
	for i, p := range found {
		points[i] = describePoint(r.name(), p)
	}
	return points, nil
}

// explain says an error in the words of the API.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	_, e := classify(ctx, err)
	return e
}
