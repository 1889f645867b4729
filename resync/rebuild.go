package resync

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/replica"
	"lifeboat/replica/segment"
)

// Rebuild makes the table of a disk anew from the container: true for the newest
// point of chain (as Repository.Chain returns it; empty for none), and then with
// the walk segments laid over it in order, for the state after. walk may be
// empty; after is then the state of the point.
//
// The sum at the point is compared with the point's disk checksum before
// anything else happens: a table that the container does not prove is an error.
func Rebuild(ctx context.Context, path string, id Identity, hasher *segment.Hasher,
	repository *replica.Repository, chain []replica.Point, walk []segment.Ref, after State,
) (*Table, error) {
	t, err := Create(path, id, hasher)
	if err != nil {
		return nil, err
	}
	if err = t.rebuild(ctx, repository, chain, walk, after); err != nil {
		return nil, fmt.Errorf("making the checksum table of disk %s from the container: %w", id.Disk, errors.Join(err, t.Close()))
	}
	return t, nil
}

func (t *Table) rebuild(ctx context.Context, repository *replica.Repository, chain []replica.Point, walk []segment.Ref, after State) error {
	if len(walk) == 0 && len(chain) > 0 {
		after = State{Epoch: chain[0].Epoch}
	}
	if err := t.Begin(after); err != nil {
		return err
	}
	steps := replica.History(chain, t.id.Disk)
	if err := repository.ReadSteps(ctx, t.id.VM, t.id.Disk, steps, func(s replica.Step, x *segment.Index) error {
		if x == nil {
			return t.Truncate(s.Floor)
		}
		return t.Apply(x)
	}); err != nil {
		return err
	}
	if len(chain) > 0 {
		var want segment.DiskSum
		if d := chain[0].Disk(t.id.Disk); d != nil {
			want = d.Checksum
		}
		if t.header.sum != want {
			return &segment.DamageError{
				Blob:  replica.PointBlob(t.id.VM, chain[0].Epoch),
				Cause: fmt.Errorf("the segments give the disk checksum %s, it says %s", t.header.sum, want),
			}
		}
	}
	steps = replica.StepsOf(walk)
	if err := repository.ReadSteps(ctx, t.id.VM, t.id.Disk, steps, func(_ replica.Step, x *segment.Index) error {
		return t.Apply(x)
	}); err != nil {
		return err
	}
	return t.Commit(ctx)
}
