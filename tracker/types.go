package tracker

import (
	"time"

	"lifeboat/disk"
)

// Spec is what Protect needs to know of a VM.
type Spec struct {
	// ID is the VM's identity for good, 32 hexadecimal digits; Name is what
	// people call it.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Disks are at least one, each given by its path relative to the folder.
	Disks []DiskSpec `json:"disks"`
}

// DiskSpec names one disk of a VM to be.
type DiskSpec struct {
	// ID is the disk's identity for good, 32 hexadecimal digits.
	ID   string `json:"id"`
	Path string `json:"path"`
}

// VM is a protected VM as the tracker knows it.
type VM struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Open is the number of the open epoch; epochs count from 1.
	Open  uint64 `json:"open_epoch"`
	Disks []Disk `json:"disks"`
	// Sealed are the epochs that wait to be shipped, oldest first.
	Sealed []Epoch `json:"sealed"`
	Walk   Walk    `json:"walk"`
	// PendingBytes is the size of all blocks that are marked in the open and
	// the sealed epochs; a block marked in two counts twice.
	PendingBytes int64 `json:"pending_bytes"`
	// BeforeImageBytes is the size of the before-images held.
	BeforeImageBytes int64 `json:"before_image_bytes"`
	// GivenUp counts the epochs whose recovery point was given up because
	// they were merged into the next one.
	GivenUp uint64 `json:"given_up"`
	// LogFailed tells that the change log cannot be written: changes are kept
	// in memory, and no recovery point can be made.
	LogFailed bool `json:"log_failed,omitempty"`
	// Held tells which disk is open for writing other than through the mount,
	// and by whom. Until that ends, no recovery point is made and no walk can
	// be closed.
	Held string `json:"held,omitempty"`
}

// Disk is a protected disk as it is now.
type Disk struct {
	ID string `json:"id"`
	// Path is relative to the folder; it follows renames.
	Path string `json:"path"`
	Size int64  `json:"size"`
	// Removed tells that the disk file has no name in the folder any more.
	Removed bool `json:"removed,omitempty"`
}

// Walk tells whether the change logs alone are not enough to bring the replica
// up to date: then the whole disks have to be walked, for initial replication
// or for resynchronization.
type Walk struct {
	// Number grows by one each time that a walk becomes required. What was
	// read from the disks for an earlier number proves nothing.
	Number   uint64    `json:"number"`
	Required bool      `json:"required"`
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// Epoch is a sealed epoch: what changed between two rollovers.
type Epoch struct {
	Number uint64 `json:"number"`
	// SealedAt is the instant of the rollover that ended it.
	SealedAt time.Time   `json:"sealed_at"`
	Disks    []EpochDisk `json:"disks"`
}

// EpochDisk tells how one disk stood at an epoch's end.
type EpochDisk struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	// Size is the disk's size in bytes at the rollover.
	Size int64 `json:"size"`
	// Floor is the lowest size that the disk had in the epoch, its start
	// included. From Floor on, what the epoch did not mark is zero.
	Floor int64 `json:"floor"`
	// Blocks counts the marked blocks.
	Blocks uint64 `json:"blocks"`
}

// Event is something that an operator should hear of.
type Event struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	VM       string    `json:"vm"`
	Disk     string    `json:"disk,omitempty"`
	// Code is stable and for programs: see the constants.
	Code string `json:"code"`
	Text string `json:"text"`
}

// Codes of events.
const (
	EventProtected    = "protected"
	EventUnprotected  = "unprotected"
	EventMerged       = "epoch-merged"   // a recovery point was given up
	EventWalkRequired = "walk-required"  // the change log is not enough any more
	EventDiskRemoved  = "disk-removed"   // a protected disk lost its name
	EventPowerLost    = "power-lost"     // the host stopped uncleanly
	EventUntracked    = "disk-untracked" // changes of a protected disk are not seen
	EventLogFailed    = "log-failed"     // the change log cannot be written
	EventImagesFailed = "before-image-failed"
	// EventForeignWriter: a disk was opened for writing other than through the
	// mount.
	EventForeignWriter = "foreign-writer"
)

// Extents is a sorted list of extents that neither touch nor overlap.
type Extents []disk.Extent

// Blocks returns how many blocks the extents hold.
func (x Extents) Blocks() uint64 {
	var n uint64
	for _, e := range x {
		n += e.Count
	}
	return n
}
