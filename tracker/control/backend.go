package control

import (
	"context"

	"lifeboat/disk"
	"lifeboat/tracker"
)

// Backend is what the server serves: *tracker.Tracker, or a fake in tests.
// Client has the same methods, so that what uses a Backend does not see
// whether a socket lies between. All methods may be called concurrently.
// Errors match tracker's sentinel errors, on both sides of the socket.
type Backend interface {
	// VMs lists the protected VMs in the order of their names.
	VMs(ctx context.Context) ([]tracker.VM, error)
	// VM returns one, by its ID.
	VM(ctx context.Context, id string) (tracker.VM, error)
	// Protect starts to track a VM's disks, all or none. The VM begins with
	// epoch 1 open and a walk required.
	Protect(ctx context.Context, spec tracker.Spec) (tracker.VM, error)
	// Unprotect ends the tracking and deletes the VM's change logs.
	Unprotect(ctx context.Context, id string) error

	// Rollover seals the open epoch of all disks at one instant, and returns
	// the sealed epoch when its content can be read. While a walk is required
	// it fails with ErrWalkRequired unless walk is the number of that walk:
	// the caller tells by it that all disks have been walked.
	Rollover(ctx context.Context, id string, walk uint64) (tracker.Epoch, error)
	// Changed returns the blocks of a disk that a sealed epoch marked: those
	// that changed in it, and perhaps some that did not.
	Changed(ctx context.Context, id string, epoch uint64, diskID string) (tracker.Extents, error)
	// ReadSealed reads bytes of a disk as they were when the epoch was
	// sealed. Only blocks that the epoch marked may be read. Bytes beyond the
	// disk's size at that instant are zero. It fails with ErrEpochGone rather
	// than return a byte of another time.
	ReadSealed(ctx context.Context, id string, epoch uint64, diskID string, p []byte, offset int64) error
	// ReadDisk reads a disk as it is now; bytes beyond its size are zero.
	ReadDisk(ctx context.Context, id, diskID string, p []byte, offset int64) error
	// Allocated returns the next extent at or after from that is not a hole,
	// rounded outward to blocks; Count is 0 when there is none.
	Allocated(ctx context.Context, id, diskID string, from disk.Block) (disk.Extent, error)

	// Acknowledge tells that the manifest of a sealed epoch is committed: it
	// and all older ones are dropped. It does nothing for an epoch that is
	// acknowledged already. walk, when not 0, tells that the manifest closed
	// the walk of that number.
	Acknowledge(ctx context.Context, id string, epoch, walk uint64) error
	// RequireWalk drops the sealed epochs and makes a new walk necessary.
	RequireWalk(ctx context.Context, id, reason string) error

	// Events returns the kept events after the one of that sequence number,
	// oldest first. A bounded number is kept.
	Events(ctx context.Context, after uint64) ([]tracker.Event, error)
}
