package uploader

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/tracker"
)

// situation is all that the next step for a VM depends on.
type situation struct {
	vm tracker.VM
	// newest is the epoch of the newest recovery point in the container, 0 if
	// there is none; newestWalk the walk that it closed, 0 for none.
	newest, newestWalk uint64
	// newestTime is the instant of the newest recovery point.
	newestTime time.Time
	// acknowledged is the newest epoch that is known to have been committed
	// once, 0 if that is not known.
	acknowledged uint64
}

type stepKind int

const (
	stepIdle        stepKind = iota // nothing is to be done before the next rollover
	stepAcknowledge                 // tell the filter of a point that exists: epoch, walk
	stepRequireWalk                 // the change logs do not fit the container: reason
	stepDiverged                    // the container is ahead of the filter: reason
	stepWalk                        // walk the disks, then roll over: walk
	stepShip                        // make a recovery point of a sealed epoch: sealed, walk
)

// step is what to do next.
type step struct {
	kind   stepKind
	epoch  uint64
	sealed tracker.Epoch
	walk   uint64
	reason string
}

// decide tells what to do next for a VM. It is what makes every step
// repeatable: a sidecar that was killed anywhere asks again and goes on.
func decide(s situation) step {
	walk := s.vm.Walk
	closed := walk.Number != 0 && s.newestWalk == walk.Number // the newest point closed this walk
	switch {
	case s.newest >= s.vm.Open:
		return step{kind: stepDiverged, reason: fmt.Sprintf("the container has a recovery point of epoch %d, but the filter is only at epoch %d", s.newest, s.vm.Open)}
	case isOther(s):
		return step{kind: stepDiverged, reason: fmt.Sprintf("the container's recovery point of epoch %d is of %s, and not of the instant at which the filter sealed that epoch", s.newest, s.newestTime.Format(time.RFC3339Nano))}
	case walk.Required && closed && !isSealed(s.vm, s.newest):
		// The filter merged the epoch into the next one before it could be
		// acknowledged. With it, the next one took over a floor that means
		// nothing: see the comment of package replica.
		return step{kind: stepRequireWalk, reason: "the epoch that closed the walk was merged before it was acknowledged"}
	case walk.Required && closed:
		return step{kind: stepAcknowledge, epoch: s.newest, walk: walk.Number}
	case walk.Required && len(s.vm.Sealed) > 0 && s.vm.Sealed[0].Number <= s.newest:
		return step{kind: stepDiverged, reason: fmt.Sprintf("the container has a recovery point of epoch %d that does not close walk %d", s.newest, walk.Number)}
	case walk.Required && len(s.vm.Sealed) > 0:
		return step{kind: stepShip, sealed: s.vm.Sealed[0], walk: walk.Number}
	case walk.Required:
		return step{kind: stepWalk, walk: walk.Number}
	case s.newest == 0:
		return step{kind: stepRequireWalk, reason: "the container has no recovery point of the VM"}
	case s.newest < s.acknowledged:
		// What was acknowledged has left the change logs. (A gap in the
		// numbers proves nothing: epochs are merged.)
		return step{kind: stepRequireWalk, reason: fmt.Sprintf("the container has lost recovery points: its newest is of epoch %d, and one of epoch %d was committed", s.newest, s.acknowledged)}
	case len(s.vm.Sealed) > 0 && s.vm.Sealed[0].Number <= s.newest:
		return step{kind: stepAcknowledge, epoch: s.newest}
	case len(s.vm.Sealed) > 0:
		return step{kind: stepShip, sealed: s.vm.Sealed[0]}
	}
	return step{kind: stepIdle}
}

func isSealed(vm tracker.VM, epoch uint64) bool {
	return slices.ContainsFunc(vm.Sealed, func(e tracker.Epoch) bool { return e.Number == epoch })
}

// isOther tells whether the newest point and the sealed epoch of its number are
// not the same.
func isOther(s situation) bool {
	return slices.ContainsFunc(s.vm.Sealed, func(e tracker.Epoch) bool { return e.Number == s.newest && !e.SealedAt.Equal(s.newestTime) })
}
