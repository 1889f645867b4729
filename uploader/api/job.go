package api

import "time"

// JobState is how a job stands.
type JobState string

// The states of jobs.
const (
	JobRunning   JobState = "in progress"
	JobSucceeded JobState = "succeeded"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Kinds of jobs.
const (
	KindProtect   = "enable protection"
	KindResync    = "resynchronization"
	KindUnprotect = "disable protection"
)

// Job is a workflow with numbered steps.
type Job struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	// VM is the ID of the VM, empty as long as it has none; Name its name.
	VM    string   `json:"vm,omitempty"`
	Name  string   `json:"name"`
	State JobState `json:"state"`
	// Steps in their order; Step is the number of the current or last one,
	// from 1.
	Steps []string `json:"steps"`
	Step  int      `json:"step"`
	// DoneBytes of TotalBytes were looked at, in a step that has progress.
	DoneBytes  int64 `json:"done_bytes,omitempty"`
	TotalBytes int64 `json:"total_bytes,omitempty"`
	// Error is why it failed, or what it waits for.
	Error   *Error    `json:"error,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Done tells that the job has ended, in whichever way.
func (j Job) Done() bool { return j.State != JobRunning }
