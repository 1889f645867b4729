package replica

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"lifeboat/replica/segment"
)

// Step is one of the steps by which a disk came to be what it is at a point.
type Step struct {
	// Segment is what is laid over the disk; nil for a floor.
	Segment *segment.Ref
	// Floor is from where on, in bytes and rounded up to a block, everything
	// becomes zero, if Segment is nil.
	Floor int64
}

// History returns the steps, oldest first, that lead from a disk of zeros to the
// disk at the newest point of the chain, which is newest first.
func History(chain []Point, diskID string) []Step {
	oldest := slices.IndexFunc(chain, func(p Point) bool { return p.Disk(diskID) == nil })
	if oldest < 0 {
		oldest = len(chain)
	}
	var steps []Step
	for _, p := range slices.Backward(chain[:oldest]) {
		d := p.Disk(diskID)
		steps = append(steps, Step{Floor: d.Floor})
		steps = append(steps, StepsOf(d.Segments)...)
		// A walk may have read what was cut off before the rollover.
		steps = append(steps, Step{Floor: d.Size})
	}
	return steps
}

// StepsOf returns a step for each segment.
func StepsOf(refs []segment.Ref) []Step {
	steps := make([]Step, len(refs))
	for i := range refs {
		steps[i].Segment = &refs[i]
	}
	return steps
}

// ReadSteps reads the indexes of the steps' segments, several at a time, and
// hands over each step with its index, nil for a floor, in order and one at a
// time.
func (r *Repository) ReadSteps(ctx context.Context, vm, diskID string, steps []Step, take func(Step, *segment.Index) error) error {
	for batch := range slices.Chunk(steps, parallel) {
		indexes := make([]*segment.Index, len(batch))
		group, ctx := errgroup.WithContext(ctx)
		for i, s := range batch {
			if s.Segment == nil {
				continue
			}
			group.Go(func() (err error) {
				indexes[i], err = r.ReadIndex(ctx, vm, diskID, *s.Segment)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i, s := range batch {
			if err := take(s, indexes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
