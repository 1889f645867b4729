package uploader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"lifeboat/replica"
	"lifeboat/replica/segment"
	"lifeboat/resync"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
	"lifeboat/uploader/api"
)

// shipper does the work for one VM: it brings the replica to where the filter
// is, step by step. It is for one goroutine. What it remembers is a cache of
// what the container and the filter say, and is dropped after every error.
type shipper struct {
	id        string // of the VM
	writer    string // identity of this run of the sidecar
	backend   control.Backend
	open      func(context.Context) (*replica.Repository, error)
	transfer  *transfer
	directory string // the VM's own in the state directory
	settings  *settingsFile
	observer  observer
	sizes     sizes
	log       *slog.Logger

	known       bool // the following is what the container says
	repository  *replica.Repository
	description *replica.VM
	hasher      *segment.Hasher
	newest      replica.Point // Manifest is nil if there is none

	// oldEpochs is the newest epoch that segments may exist of that this run
	// did not put; parts are the next segment numbers by disk and epoch.
	oldEpochs uint64
	parts     map[partKey]partNumber
	tables    map[string]*resync.Table
	walking   *walk   // the walk under way, or nil
	buffer    *[]byte // to read into, while something is shipped
	compared  resync.Comparison
}

type partKey struct {
	disk  string
	epoch uint64
}

type partNumber struct {
	next   uint32
	listed bool // next is above all that the container holds
}

// observer is told of a shipper's progress, by the shipper's goroutine.
type observer interface {
	// walked tells how far a walk is; initial if the VM has no point yet.
	walked(vm tracker.VM, initial bool, done, total int64)
	// closing tells that the epoch that closes a walk is being shipped.
	closing(vm tracker.VM, initial bool)
	// committed tells of a new recovery point. cycle is nil when it was found
	// in the container; closed tells that it closed a walk.
	committed(vm tracker.VM, point replica.Point, cycle *api.Cycle, closed bool)
	// shipped tells that a segment of a walk became durable.
	shipped()
}

// step does the next thing there is to do, and tells whether there was none.
func (s *shipper) step(ctx context.Context) (idle bool, err error) {
	idle, err = s.tryStep(ctx)
	if err != nil {
		s.forget()
	}
	return idle, err
}

func (s *shipper) tryStep(ctx context.Context) (idle bool, err error) {
	vm, err := s.backend.VM(ctx, s.id)
	if err != nil {
		return false, err
	}
	if vm.Held != "" {
		// What is walked now may change unseen, and so be walked in vain.
		return false, fmt.Errorf("%w: %s", tracker.ErrWalkRequired, vm.Held)
	}
	if err := s.learn(ctx, vm); err != nil {
		return false, err
	}
	now := situation{vm: vm, acknowledged: s.settings.get().Acknowledged}
	if s.newest.Manifest != nil {
		now.newest, now.newestWalk, now.newestTime = s.newest.Epoch, s.newest.Walk, s.newest.Time
	}
	next := decide(now)
	if s.walking != nil && (!vm.Walk.Required || s.walking.number != vm.Walk.Number) {
		s.walking = nil
	}
	switch next.kind {
	case stepAcknowledge:
		return false, s.acknowledge(ctx, next.epoch, next.walk)
	case stepRequireWalk:
		return false, s.backend.RequireWalk(ctx, s.id, next.reason)
	case stepDiverged:
		return false, fmt.Errorf("%w: %s", errDiverged, next.reason)
	case stepWalk:
		return false, s.walk(ctx, vm)
	case stepShip:
		err := s.ship(ctx, vm, next.sealed, next.walk)
		if ahead, ok := errors.AsType[errTableAhead](err); ok {
			// As good a proof as the settings that the container lost points.
			return false, s.settings.set(func(v *vmSettings) { v.Acknowledged = max(v.Acknowledged, ahead.epoch) })
		}
		return false, err
	}
	return true, nil
}

// learn asks the container where the replica is, and describes the VM there if
// it is not: a sidecar that was killed right after the filter was told to
// protect the VM catches up on that here.
func (s *shipper) learn(ctx context.Context, vm tracker.VM) error {
	if s.known {
		return nil
	}
	var err error
	if s.repository, err = s.open(ctx); err != nil {
		return err
	}
	if err := s.describe(ctx, vm); err != nil {
		return err
	}
	s.newest, err = s.repository.Newest(ctx, s.id)
	if err != nil && !errors.Is(err, replica.ErrNoPoint) {
		return err
	}
	// A listing may lag behind; what would be shipped next is asked for by name.
	if len(vm.Sealed) > 0 && (s.newest.Manifest == nil || s.newest.Epoch < vm.Sealed[0].Number) {
		point, err := s.repository.Point(ctx, s.id, vm.Sealed[0].Number)
		switch {
		case err == nil:
			s.newest = point
		case !errors.Is(err, replica.ErrNoPoint):
			return err
		}
	}
	s.oldEpochs = vm.Open
	for key, part := range s.parts {
		s.parts[key] = partNumber{next: part.next}
	}
	s.known = true
	if s.newest.Manifest != nil {
		s.observer.committed(vm, s.newest, nil, false)
	}
	return nil
}

// describe finds the VM's description in the container or puts the first one.
func (s *shipper) describe(ctx context.Context, vm tracker.VM) error {
	found, err := s.repository.NewestVM(ctx, s.id)
	if errors.Is(err, replica.ErrUnknownVM) {
		first := replica.VM{ID: s.id, Name: vm.Name, Generation: 1, Key: segment.NewKey(), Created: time.Now()}
		for _, d := range vm.Disks {
			first.Disks = append(first.Disks, replica.VMDisk{ID: d.ID, Path: d.Path})
		}
		if err := s.repository.PutVM(ctx, first); err != nil {
			// A Put whose reply was lost has put another key; take what is there.
			var divergence *replica.DivergenceError
			if !errors.As(err, &divergence) {
				return err
			}
		}
		found, err = s.repository.NewestVM(ctx, s.id)
	}
	if err != nil {
		return err
	}
	s.description = found
	s.hasher = segment.NewHasher(found.Key)
	return nil
}

// acknowledge tells the filter of a point that exists. That it was acknowledged
// is noted first: a container that loses the point afterwards gives itself away.
func (s *shipper) acknowledge(ctx context.Context, epoch, walk uint64) error {
	err := s.settings.set(func(v *vmSettings) { v.Acknowledged = max(v.Acknowledged, epoch) })
	if err != nil {
		return err
	}
	return s.backend.Acknowledge(ctx, s.id, epoch, walk)
}

// forget drops what is known of the container, so that the next step looks
// again. Tables say themselves what they are true for, and a walk's segments
// stay what they are.
func (s *shipper) forget() { s.known = false }

// close lets go of the tables' files.
func (s *shipper) close() {
	for id := range s.tables {
		s.dropTable(id)
	}
}

// nextPart returns a function that numbers the segments of a disk and epoch
// with numbers that were never used.
func (s *shipper) nextPart(ctx context.Context, diskID string, epoch uint64) (func() uint32, error) {
	key := partKey{diskID, epoch}
	part, begun := s.parts[key]
	if !part.listed && (begun || epoch <= s.oldEpochs) {
		next, err := s.repository.NextPart(ctx, s.id, diskID, epoch)
		if err != nil {
			return nil, err
		}
		part.next = max(part.next, next)
	}
	part.listed = true
	for k := range s.parts {
		if k.disk == diskID && k.epoch < epoch {
			delete(s.parts, k)
		}
	}
	if s.parts == nil {
		s.parts = map[partKey]partNumber{}
	}
	s.parts[key] = part
	return func() uint32 {
		n := s.parts[key]
		s.parts[key] = partNumber{next: n.next + 1, listed: true}
		return n.next
	}, nil
}

func (s *shipper) prepareDirectory() error { return os.MkdirAll(s.directory, 0o700) }
