package api

import (
	"context"
	"time"
)

// Backend is what the server serves: *uploader.Service. Client has the same
// methods. All may be called concurrently; errors are *Error, or the client's
// when the sidecar cannot be asked. VMs are named by their name or their ID.
type Backend interface {
	// Status tells how the sidecar and all VMs are.
	Status(ctx context.Context) (Status, error)
	// Protect checks the prerequisites and starts to protect a VM. It returns
	// when the tracking has started; the job goes on. If a prerequisite is
	// not met, nothing was created, and the Error has the checks.
	Protect(ctx context.Context, request ProtectRequest) (Protected, error)
	// Unprotect ends the protection of a VM; its replica stays. force allows
	// it for a VM that the container has and no filter: then only the name
	// is freed.
	Unprotect(ctx context.Context, vm string, force bool) error
	// Cut makes a recovery point now. With wait it returns when the point is
	// committed; the Error has the code CodePointGivenUp if that will not be.
	Cut(ctx context.Context, vm string, wait bool) (Point, error)
	// Points lists the recovery points of a VM, oldest first.
	Points(ctx context.Context, vm string) ([]Point, error)
	// Jobs lists the kept jobs, newest first, and Job returns one.
	Jobs(ctx context.Context) ([]Job, error)
	Job(ctx context.Context, id string) (Job, error)
	// Resume tries at once what waits for its retry or stopped for an error.
	Resume(ctx context.Context, vm string) error
}

// Status is how the sidecar is.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Store is where to, without secrets.
	Store   string   `json:"store"`
	Filters []Filter `json:"filters"`
	VMs     []VM     `json:"vms"`
}

// Filter is a filter that the sidecar serves.
type Filter struct {
	Folder     string `json:"folder"`
	Mountpoint string `json:"mountpoint"`
	Available  bool   `json:"available"`
}

// State is where a VM stands in the life cycle of protection.
type State string

// The states.
const (
	StateInitialReplication State = "initial replication"
	StateReplicating        State = "replicating"
	StateResyncRequired     State = "resynchronization required"
	StateResynchronizing    State = "resynchronizing"
	StateError              State = "error"
)

// Health tells how much an operator has to worry.
type Health string

// The healths, from best to worst.
const (
	HealthNormal   Health = "Normal"
	HealthWarning  Health = "Warning"
	HealthCritical Health = "Critical"
)

// Reason is why the health is not Normal.
type Reason struct {
	Health Health `json:"health"`
	// Code is stable and for programs, Text for people.
	Code  string    `json:"code"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
}

// VM is how a protected VM is.
type VM struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Mountpoint string `json:"mountpoint"`
	Disks      []Disk `json:"disks"`
	State      State  `json:"state"`
	Health     Health `json:"health"`
	// Reasons are the worst first; empty when the health is Normal.
	Reasons []Reason `json:"reasons"`
	// FrequencySeconds is the copy frequency.
	FrequencySeconds float64 `json:"frequency_seconds"`
	// Newest is the newest committed recovery point, nil if there is none
	// yet; AgeSeconds is how far back it lies: what would be lost now.
	Newest     *Point  `json:"newest_point"`
	AgeSeconds float64 `json:"age_seconds,omitempty"`
	// PendingBytes is what changed and is not committed.
	PendingBytes int64 `json:"pending_bytes"`
	// WaitingEpochs counts the sealed epochs that are not committed.
	WaitingEpochs int    `json:"waiting_epochs"`
	GivenUp       uint64 `json:"given_up_points"`
	LastCycle     *Cycle `json:"last_cycle"`
	// Job is the running job of the VM, if any.
	Job *Job `json:"job"`
	// Retry tells what went wrong last and when it is tried again.
	Retry *Retry `json:"retry"`
}

// Disk is a disk of a protected VM.
type Disk struct {
	ID string `json:"id"`
	// Path is absolute, as seen through the mount.
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	Removed   bool   `json:"removed,omitempty"`
}

// Cycle is how the last delta replication went.
type Cycle struct {
	Epoch uint64 `json:"epoch"`
	// Blocks were shipped, and took Bytes in the container.
	Blocks  uint64    `json:"blocks"`
	Bytes   int64     `json:"bytes"`
	Ended   time.Time `json:"ended"`
	Seconds float64   `json:"seconds"`
}

// Retry tells of a failed attempt.
type Retry struct {
	Error Error     `json:"error"`
	Since time.Time `json:"since"`
	// Next is when it is tried again; zero if an operator has to act first.
	Next time.Time `json:"next,omitzero"`
}

// Point is a recovery point.
type Point struct {
	VM   string `json:"vm"`
	Name string `json:"name"`
	// Epoch names the point, Time is its instant.
	Epoch uint64    `json:"epoch"`
	Time  time.Time `json:"time"`
	// The rest is empty for a point that is not committed yet.
	Consistency string `json:"consistency,omitempty"`
	// SizeBytes is that of all disks, StoredBytes what was shipped for it.
	SizeBytes   int64 `json:"size_bytes,omitempty"`
	StoredBytes int64 `json:"stored_bytes,omitempty"`
}

// ProtectRequest asks to protect a VM.
type ProtectRequest struct {
	Name string `json:"name"`
	// Disks are absolute paths as seen through the mount.
	Disks []string `json:"disks"`
	// FrequencySeconds is the copy frequency; 0 means the default.
	FrequencySeconds float64 `json:"frequency_seconds,omitempty"`
}

// Protected tells that a VM's protection has begun.
type Protected struct {
	VM     string  `json:"vm"`
	Name   string  `json:"name"`
	Job    string  `json:"job"`
	Checks []Check `json:"checks"`
}

// Check is the outcome of one prerequisite.
type Check struct {
	// Item says what was checked, with its object.
	Item string `json:"item"`
	OK   bool   `json:"ok"`
	// Message says what is wrong, Hint what to do.
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
}
