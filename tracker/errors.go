package tracker

import "errors"

// Sentinel errors of the tracker; all others are faults of the machine below.
var (
	// ErrNotFound: no such VM, disk, or epoch was ever known.
	ErrNotFound = errors.New("not found")
	// ErrExists: the VM, its name, or a disk of it is protected already.
	ErrExists = errors.New("protected already")
	// ErrEpochGone: the epoch was merged into a later one, dropped for a
	// walk, or acknowledged. Its recovery point cannot be made any more;
	// ask for the VM's sealed epochs again.
	ErrEpochGone = errors.New("epoch is gone")
	// ErrWalkRequired: a rollover makes no recovery point while a walk is
	// required and not finished.
	ErrWalkRequired = errors.New("a walk of the disks is required first")
	// ErrInvalid: the request itself is wrong; its text says how.
	ErrInvalid = errors.New("invalid request")
)
