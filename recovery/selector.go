package recovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"lifeboat/replica"
)

// Selector chooses a recovery point. The zero value chooses the newest.
type Selector struct {
	// Epoch chooses the point of that epoch, if it is not 0.
	Epoch uint64
	// Time chooses the newest point at or before it, if it is not zero.
	Time time.Time
}

// ParseSelector reads "latest", the number of an epoch, or a time: RFC 3339, or
// "2006-01-02 15:04:05" in the given zone, with or without seconds.
func ParseSelector(s string, zone *time.Location) (Selector, error) {
	if s == "" || s == "latest" {
		return Selector{}, nil
	}
	if epoch, err := strconv.ParseUint(s, 10, 64); err == nil && epoch > 0 {
		return Selector{Epoch: epoch}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return Selector{Time: t}, nil
		}
	}
	return Selector{}, fmt.Errorf("recovery point %q is none of: latest, the number of an epoch, a time such as %q or %q",
		s, "2006-01-02 15:04:05", "2006-01-02T15:04:05Z")
}

// String returns what ParseSelector reads.
func (s Selector) String() string {
	switch {
	case s.Epoch != 0:
		return strconv.FormatUint(s.Epoch, 10)
	case !s.Time.IsZero():
		return s.Time.Format(time.RFC3339Nano)
	}
	return "latest"
}

// SelectPoint returns the point that the selector chooses among points, which
// ascend by epoch. If there is none, the error matches replica.ErrNoPoint and
// tells what there is.
func SelectPoint(points []replica.Point, s Selector) (replica.Point, error) {
	if len(points) == 0 {
		return replica.Point{}, fmt.Errorf("%w: the VM has none yet", replica.ErrNoPoint)
	}
	first, last := points[0], points[len(points)-1]
	for i := len(points) - 1; i >= 0; i-- {
		p := points[i]
		switch {
		case s.Epoch != 0:
			if p.Epoch == s.Epoch {
				return p, nil
			}
		case s.Time.IsZero() || !p.Time.After(s.Time):
			return p, nil
		}
	}
	if s.Epoch != 0 {
		return replica.Point{}, fmt.Errorf("%w: there is none of epoch %d; the oldest is %d, the newest %d, and not every epoch between became one",
			replica.ErrNoPoint, s.Epoch, first.Epoch, last.Epoch)
	}
	return replica.Point{}, fmt.Errorf("%w: there is none at or before %s; the oldest is of %s (epoch %d)",
		replica.ErrNoPoint, s.Time.Format(time.RFC3339), first.Time.Format(time.RFC3339Nano), first.Epoch)
}

// FindPoint returns the recovery point of the VM that the selector chooses, and
// reads no more manifests than that needs.
func FindPoint(ctx context.Context, repository *replica.Repository, vm string, s Selector) (replica.Point, error) {
	epochs, err := repository.Epochs(ctx, vm)
	if err != nil {
		return replica.Point{}, err
	}
	if s.Time.IsZero() && len(epochs) > 0 {
		// The number says it all; the manifests are not needed.
		bare := make([]replica.Point, len(epochs))
		for i, epoch := range epochs {
			bare[i].Manifest = &replica.Manifest{Epoch: epoch}
		}
		chosen, err := SelectPoint(bare, s)
		if err != nil {
			return replica.Point{}, err
		}
		p, err := repository.Point(ctx, vm, chosen.Epoch)
		return p, advise(ctx, repository, vm, nil, err)
	}
	p, err := findByTime(ctx, repository, vm, epochs, s)
	return p, advise(ctx, repository, vm, nil, err)
}

// findByTime reads manifests from the newest on, many at a time, until one fits.
// What lies behind that one is not looked at, so it may be damaged.
func findByTime(ctx context.Context, repository *replica.Repository, vm string, epochs []uint64, s Selector) (replica.Point, error) {
	for size := 64; len(epochs) > 0; {
		from := max(0, len(epochs)-size)
		points, err := repository.Points(ctx, vm, epochs[from:])
		if err != nil && size > 1 {
			size = 1 // one of them fails, which matters only if it is reached
			continue
		}
		if err != nil {
			return replica.Point{}, err
		}
		p, err := SelectPoint(points, s)
		if err == nil || from == 0 {
			return p, err
		}
		epochs = epochs[:from]
	}
	return SelectPoint(nil, s)
}

// ErrTargetExists tells that a restore would have overwritten files.
var ErrTargetExists = errors.New("file exists already")
