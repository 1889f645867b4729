package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lifeboat/replica"
	"lifeboat/replica/segment"
)

// DamagedPointError tells that a recovery point cannot be had because a blob of
// the container is missing or damaged.
type DamagedPointError struct {
	Damage *segment.DamageError
	// Older is the epoch of the newest recovery point before it that does not
	// need that blob; 0 if none is known.
	Older uint64
	err   error
}

// Error names the blob and the way out.
func (e *DamagedPointError) Error() string {
	if e.Older == 0 {
		return fmt.Sprintf("%v; no older recovery point is known to do without it", e.err)
	}
	return fmt.Sprintf("%v; the newest recovery point that does not need it is that of epoch %d", e.err, e.Older)
}

// Unwrap returns the error that it adds to.
func (e *DamagedPointError) Unwrap() error { return e.err }

// advise adds to an error of damage which older point does not need the blob.
// chain is what is known of the chain, newest first. Other errors are returned
// as they are.
func advise(ctx context.Context, repository *replica.Repository, vm string, chain []replica.Point, err error) error {
	damage, ok := errors.AsType[*segment.DamageError](err)
	if !ok {
		return err
	}
	return &DamagedPointError{Damage: damage, Older: olderPoint(ctx, repository, vm, chain, damage.Blob), err: err}
}

// olderPoint returns the newest epoch whose point does not need the blob, as far
// as that can be told without reading more segments.
func olderPoint(ctx context.Context, repository *replica.Repository, vm string, chain []replica.Point, blob string) uint64 {
	for i, p := range chain {
		for j := range p.Disks {
			folder := replica.SegmentBlob(vm, p.Disks[j].ID, "")
			name, inFolder := strings.CutPrefix(blob, folder)
			for _, ref := range p.Disks[j].Segments {
				if inFolder && ref.Name == name && i+1 < len(chain) {
					return chain[i+1].Epoch
				}
			}
		}
	}
	// A damaged manifest takes with it what came after, and nothing before.
	epochs, err := repository.Epochs(ctx, vm)
	if err != nil || !strings.HasPrefix(blob, strings.TrimSuffix(replica.PointBlob(vm, 0), "0000000000000000.json")) {
		return 0
	}
	var before uint64
	for _, epoch := range epochs {
		if replica.PointBlob(vm, epoch) < blob {
			before = epoch
		}
	}
	return before
}
