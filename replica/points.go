package replica

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
)

// ErrNoPoint tells that the VM has no such recovery point.
var ErrNoPoint = errors.New("no such recovery point")

// Point is a manifest as it lies in the container.
type Point struct {
	*Manifest
	// SHA256 is that of the manifest's bytes.
	SHA256 segment.Hash
}

// Link returns what the next manifest names as its predecessor.
func (p Point) Link() Link { return Link{Epoch: p.Epoch, SHA256: p.SHA256} }

// Epochs lists the VM's recovery points by their epochs, ascending. It reads no
// manifest.
func (r *Repository) Epochs(ctx context.Context, vm string) ([]uint64, error) {
	var epochs []uint64
	prefix := pointsPrefix(vm)
	for info, err := range r.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("listing the recovery points of VM %s: %w", vm, err)
		}
		if n, ok := parseNumbered(info.Name, prefix); ok && n != 0 {
			epochs = append(epochs, n)
		}
	}
	return epochs, nil
}

// Point reads the manifest of a recovery point. If there is none, the error
// matches ErrNoPoint.
func (r *Repository) Point(ctx context.Context, vm string, epoch uint64) (Point, error) {
	blob := PointBlob(vm, epoch)
	data, err := r.read(ctx, blob)
	if errors.Is(err, blobstore.ErrNotFound) {
		return Point{}, fmt.Errorf("%w: VM %s has none of epoch %d", ErrNoPoint, vm, epoch)
	}
	if err != nil {
		return Point{}, err
	}
	m, err := DecodeManifest(data)
	if err == nil && (m.VM != vm || m.Epoch != epoch) {
		err = fmt.Errorf("it is the manifest of epoch %d of VM %s", m.Epoch, m.VM)
	}
	if err != nil {
		return Point{}, &segment.DamageError{Blob: blob, Cause: err}
	}
	return Point{Manifest: m, SHA256: hashOf(data)}, nil
}

// Points reads the manifests of the given epochs, in their order.
func (r *Repository) Points(ctx context.Context, vm string, epochs []uint64) ([]Point, error) {
	points := make([]Point, len(epochs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, epoch := range epochs {
		group.Go(func() (err error) {
			points[i], err = r.Point(ctx, vm, epoch)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return points, nil
}

// Newest returns the VM's newest recovery point. If it has none, the error
// matches ErrNoPoint.
func (r *Repository) Newest(ctx context.Context, vm string) (Point, error) {
	epochs, err := r.Epochs(ctx, vm)
	if err != nil {
		return Point{}, err
	}
	if len(epochs) == 0 {
		return Point{}, fmt.Errorf("%w: VM %s has none yet", ErrNoPoint, vm)
	}
	return r.Point(ctx, vm, epochs[len(epochs)-1])
}

// Commit makes a recovery point: it puts the manifest, which is durable on
// return. Everything that it names has to be durable before. If the very same
// manifest is there already, that is success; another one of that epoch is a
// DivergenceError, and nothing was changed.
func (r *Repository) Commit(ctx context.Context, m *Manifest) (Point, error) {
	m.Format = format
	m.Time = m.Time.UTC().Round(0)
	data, err := m.Encode()
	if err == nil {
		err = r.putOnce(ctx, PointBlob(m.VM, m.Epoch), data)
	}
	if err != nil {
		return Point{}, fmt.Errorf("committing the recovery point of epoch %d: %w", m.Epoch, err)
	}
	return Point{Manifest: m, SHA256: hashOf(data)}, nil
}

// Chain returns the recovery point of that epoch and all before it that it
// rests on, newest first, back to the first of the VM. Each is proved by the
// one after it: a predecessor that is missing or was replaced is a DamageError.
func (r *Repository) Chain(ctx context.Context, vm string, epoch uint64) ([]Point, error) {
	point, err := r.Point(ctx, vm, epoch)
	if err != nil {
		return nil, err
	}
	listed, err := r.Epochs(ctx, vm)
	if err != nil {
		return nil, err
	}
	for len(listed) > 0 && listed[len(listed)-1] >= epoch {
		listed = listed[:len(listed)-1]
	}
	chain := []Point{point}
	// Listings give the names early, so that manifests are fetched many at a
	// time; the links alone decide what belongs to the chain.
	var ahead map[uint64]Point
	for point.Predecessor.Epoch != 0 {
		link := point.Predecessor
		next, found := ahead[link.Epoch]
		if !found {
			ahead, listed = r.fetchAhead(ctx, vm, listed, link.Epoch)
			next, found = ahead[link.Epoch]
		}
		if !found {
			next, err = r.Point(ctx, vm, link.Epoch)
			if errors.Is(err, ErrNoPoint) {
				return nil, brokenLink(vm, link, point.Epoch, err)
			}
			if err != nil {
				return nil, err
			}
		}
		if next.SHA256 != link.SHA256 {
			return nil, brokenLink(vm, link, point.Epoch, errors.New("it is not the manifest that its successor names"))
		}
		chain = append(chain, next)
		point = next
	}
	return chain, nil
}

// fetchAhead reads the manifests of some listed epochs from newest on down. One
// that cannot be read is left out: it matters only if a link leads to it.
func (r *Repository) fetchAhead(ctx context.Context, vm string, listed []uint64, newest uint64) (map[uint64]Point, []uint64) {
	for len(listed) > 0 && listed[len(listed)-1] > newest {
		listed = listed[:len(listed)-1]
	}
	batch := listed[max(0, len(listed)-8*parallel):]
	points := make([]Point, len(batch))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, epoch := range batch {
		group.Go(func() error {
			if point, err := r.Point(ctx, vm, epoch); err == nil {
				points[i] = point
			}
			return nil
		})
	}
	_ = group.Wait() // no function of the group fails
	ahead := make(map[uint64]Point, len(batch))
	for i, epoch := range batch {
		if points[i].Manifest != nil {
			ahead[epoch] = points[i]
		}
	}
	return ahead, listed[:len(listed)-len(batch)]
}

// brokenLink says that a chain cannot be followed because the manifest that a
// link names is missing or another one.
func brokenLink(vm string, link Link, successor uint64, cause error) error {
	return &segment.DamageError{
		Blob:  PointBlob(vm, link.Epoch),
		Cause: fmt.Errorf("the manifest of epoch %d rests on it: %w", successor, cause),
	}
}
