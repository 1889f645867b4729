package uploader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lifeboat/replica"
	"lifeboat/replica/segment"
	"lifeboat/resync"
)

// maxCatchUp bounds how many points a table is brought forward by; beyond it,
// making it anew costs no more.
const maxCatchUp = 256

// errTableAhead tells that a table is true for a point that the container does
// not have: the container has lost it.
type errTableAhead struct{ epoch uint64 }

func (e errTableAhead) Error() string {
	return fmt.Sprintf("the checksum table is true for epoch %d, of which the container has no recovery point", e.epoch)
}

// errMustRebuild tells that a table cannot be brought to what is needed.
var errMustRebuild = errors.New("checksum table has to be made anew")

// table returns the checksum table of a disk, true for the newest point, and
// perhaps for what the walk of that number shipped (0 for none).
func (s *shipper) table(ctx context.Context, diskID string, walk uint64) (*resync.Table, error) {
	if t := s.tables[diskID]; t != nil {
		if s.fits(t.State(), walk) {
			return t, nil
		}
		s.dropTable(diskID)
	}
	t, err := s.openTable(ctx, diskID, walk)
	if err != nil {
		return nil, err
	}
	if s.tables == nil {
		s.tables = map[string]*resync.Table{}
	}
	s.tables[diskID] = t
	return t, nil
}

// dropTable closes a table. What is remembered of a walk counts on the tables
// that it went to, so that is dropped too.
func (s *shipper) dropTable(diskID string) {
	s.walking = nil
	if t := s.tables[diskID]; t != nil {
		if err := t.Close(); err != nil {
			s.log.Warn("checksum table not closed", "disk", diskID, "error", err)
		}
		delete(s.tables, diskID)
	}
}

// removeTable closes a table and deletes its file.
func (s *shipper) removeTable(diskID string) error {
	s.dropTable(diskID)
	path, _ := s.tablePath(diskID)
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// newestEpoch returns 0 if there is no point.
func (s *shipper) newestEpoch() uint64 {
	if s.newest.Manifest == nil {
		return 0
	}
	return s.newest.Epoch
}

func (s *shipper) fits(state resync.State, walk uint64) bool {
	return state.Epoch == s.newestEpoch() && (state.Walk == 0 || state.Walk == walk)
}

func (s *shipper) tablePath(diskID string) (string, resync.Identity) {
	return filepath.Join(s.directory, diskID+".table"), resync.Identity{VM: s.id, Disk: diskID}
}

func (s *shipper) openTable(ctx context.Context, diskID string, walk uint64) (*resync.Table, error) {
	if err := s.prepareDirectory(); err != nil {
		return nil, err
	}
	path, identity := s.tablePath(diskID)
	t, err := resync.Open(path, identity, s.hasher)
	var dirty *resync.DirtyError
	switch {
	case err == nil:
		err = s.bringForward(ctx, t, diskID, walk)
	case errors.As(err, &dirty):
		if t, err = resync.OpenDirty(path, identity, s.hasher); err == nil {
			if err = s.mend(ctx, t, diskID, walk, dirty); err == nil {
				err = s.bringForward(ctx, t, diskID, walk)
			}
		}
	case errors.Is(err, resync.ErrMissing), errors.Is(err, resync.ErrDamaged):
		t, err = nil, fmt.Errorf("%w: %w", errMustRebuild, err)
	default:
		return nil, err
	}
	if err == nil {
		return t, nil
	}
	if t != nil {
		err = errors.Join(err, t.Close())
	}
	if !errors.Is(err, errMustRebuild) {
		return nil, err
	}
	s.log.Info("checksum table is made anew", "disk", diskID, "reason", err)
	// It may be clean and wrong: it must not be found if this fails half-way.
	if err := s.removeTable(diskID); err != nil {
		return nil, err
	}
	if s.newest.Manifest == nil {
		return resync.Create(path, identity, s.hasher)
	}
	chain, err := s.repository.Chain(ctx, s.id, s.newest.Epoch)
	if err != nil {
		return nil, err
	}
	return resync.Rebuild(ctx, path, identity, s.hasher, s.repository, chain, nil, resync.State{})
}

// bringForward lays the points over a table that came after the one that it is
// true for.
func (s *shipper) bringForward(ctx context.Context, t *resync.Table, diskID string, walk uint64) error {
	state := t.State()
	if s.fits(state, walk) {
		if state.Walk == 0 && s.newest.Manifest != nil {
			return s.proved(t, diskID, s.newest)
		}
		return nil
	}
	if state.Epoch > s.newestEpoch() && walk == 0 {
		return errTableAhead{state.Epoch}
	}
	if state.Epoch >= s.newestEpoch() {
		return fmt.Errorf("%w: it is true for epoch %d and walk %d", errMustRebuild, state.Epoch, state.Walk)
	}
	points, err := s.pointsAfter(ctx, state.Epoch)
	if err != nil {
		return err
	}
	if state.Walk != 0 && points[0].Walk != state.Walk {
		return fmt.Errorf("%w: it has what walk %d shipped, which no point names", errMustRebuild, state.Walk)
	}
	for _, p := range points {
		if err := s.overlay(ctx, t, diskID, p, resync.State{Epoch: p.Epoch}); err != nil {
			return err
		}
	}
	return nil
}

// mend repeats the interrupted change of a dirty table.
func (s *shipper) mend(ctx context.Context, t *resync.Table, diskID string, walk uint64, dirty *resync.DirtyError) error {
	target := dirty.Target
	if target.Walk != 0 {
		if target.Walk != walk || target.Epoch != s.newestEpoch() {
			return fmt.Errorf("%w: %w", errMustRebuild, dirty)
		}
		return s.mendWalk(ctx, t, diskID, dirty)
	}
	p, err := s.repository.Point(ctx, s.id, target.Epoch)
	if errors.Is(err, replica.ErrNoPoint) || err == nil && (p.Predecessor.Epoch != dirty.From.Epoch || dirty.From.Walk != 0 && dirty.From.Walk != p.Walk) {
		return fmt.Errorf("%w: %w", errMustRebuild, dirty)
	}
	if err != nil {
		return err
	}
	return s.overlay(ctx, t, diskID, p, target)
}

// mendWalk lays the segments of the walk under way over a table again, up to
// where it was to have them.
func (s *shipper) mendWalk(ctx context.Context, t *resync.Table, diskID string, dirty *resync.DirtyError) error {
	if err := t.Begin(dirty.Target); err != nil {
		return err
	}
	var c coverage
	err := s.eachWalked(ctx, diskID, dirty.Target.Walk, func(found []finished) error {
		for _, f := range c.add(found) {
			if f.covered.Start < dirty.Target.Position {
				if err := t.Apply(f.index); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.position < dirty.Target.Position {
		return fmt.Errorf("%w: the container lacks segments: %w", errMustRebuild, dirty)
	}
	return t.Commit(ctx)
}

// overlay lays a point over a table that is true for the one before, and
// compares the disk checksum that comes out with the one in the manifest.
func (s *shipper) overlay(ctx context.Context, t *resync.Table, diskID string, p replica.Point, target resync.State) error {
	if err := t.Begin(target); err != nil {
		return err
	}
	err := s.repository.ReadSteps(ctx, s.id, diskID, replica.History([]replica.Point{p}, diskID), func(step replica.Step, x *segment.Index) error {
		if x == nil {
			return t.Truncate(step.Floor)
		}
		return t.Apply(x)
	})
	if err != nil {
		return err
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	return s.proved(t, diskID, p)
}

// proved compares a table's disk checksum with that in the manifest.
func (s *shipper) proved(t *resync.Table, diskID string, p replica.Point) error {
	d := p.Disk(diskID)
	if d == nil {
		return fmt.Errorf("%w: the point of epoch %d does not have the disk", errMustRebuild, p.Epoch)
	}
	if t.Sum() != d.Checksum {
		return fmt.Errorf("%w: at epoch %d its disk checksum is %s, the manifest's %s", errMustRebuild, p.Epoch, t.Sum(), d.Checksum)
	}
	return nil
}

// pointsAfter returns the points of the chain after that of an epoch, oldest
// first; at least one.
func (s *shipper) pointsAfter(ctx context.Context, epoch uint64) ([]replica.Point, error) {
	points := []replica.Point{s.newest}
	for {
		before := points[len(points)-1].Predecessor
		if before.Epoch == epoch {
			slices.Reverse(points)
			return points, nil
		}
		if before.Epoch < epoch || len(points) == maxCatchUp {
			return nil, fmt.Errorf("%w: epoch %d is not among the newest points of the chain", errMustRebuild, epoch)
		}
		p, err := s.repository.Point(ctx, s.id, before.Epoch)
		if err != nil {
			return nil, err
		}
		if p.SHA256 != before.SHA256 {
			return nil, &segment.DamageError{
				Blob:  replica.PointBlob(s.id, before.Epoch),
				Cause: errors.New("it is not the manifest that its successor names"),
			}
		}
		points = append(points, p)
	}
}
