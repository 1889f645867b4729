package uploader

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

// Codes of the reasons that are no error codes.
const (
	reasonInitial     = "initial-replication-unfinished"
	reasonResync      = "resynchronization-required"
	reasonPointOld    = "recovery-point-old"
	reasonDiskRemoved = "disk-removed"
	reasonLogFailed   = "log-failed"
	reasonForeign     = "foreign-writer"
)

// lateCycles is how many copy frequencies old the newest point may be.
const lateCycles = 3

// condition is all that the state and health of a VM depend on.
type condition struct {
	walk      tracker.Walk
	walking   bool
	away      bool      // the filter does not answer
	newest    time.Time // of the newest recovery point; zero if there is none
	frequency time.Duration
	failed    *failure
	removed   []string // disks that lost their names
	logFailed bool     // the filter cannot write its change log
	held      string   // which disk is open for writing below the filter
}

// state tells where the VM stands in its life cycle.
func (c condition) state() api.State {
	switch {
	case c.failed != nil && c.failed.class == unrecoverable:
		return api.StateError
	case c.newest.IsZero():
		return api.StateInitialReplication
	case c.walk.Required && c.walking:
		return api.StateResynchronizing
	case c.walk.Required:
		return api.StateResyncRequired
	}
	return api.StateReplicating
}

// assess tells what is not as it should be, worst first. Since is not set.
func assess(c condition, now time.Time) []api.Reason {
	var reasons []api.Reason
	add := func(health api.Health, code, format string, args ...any) {
		reasons = append(reasons, api.Reason{Health: health, Code: code, Text: fmt.Sprintf(format, args...)})
	}
	if c.failed != nil && c.failed.class == unrecoverable {
		add(api.HealthCritical, c.failed.err.Code, "%s", c.failed.err.Message)
	}
	if c.away {
		add(api.HealthCritical, api.CodeFilterAway, "the filter does not answer")
	}
	if len(c.removed) > 0 {
		add(api.HealthCritical, reasonDiskRemoved, "deleted or replaced in the folder: %s; what has that name now is not protected: "+
			"unprotect the VM and protect it again with the disks that it has now", strings.Join(c.removed, ", "))
	}
	if c.logFailed {
		add(api.HealthCritical, reasonLogFailed, "the change log cannot be written, so no recovery points are made; free space on the file system of the disks")
	}
	if c.held != "" {
		add(api.HealthCritical, reasonForeign, "%s: no recovery points are made until it is closed and the disks have been compared with the replica", c.held)
	}
	if c.walk.Required && !c.newest.IsZero() {
		add(api.HealthCritical, reasonResync, "%s", c.walk.Reason)
	}
	if c.failed != nil && c.failed.class == recoverable {
		add(api.HealthWarning, c.failed.err.Code, "%s", c.failed.err.Message)
	}
	if c.newest.IsZero() {
		add(api.HealthWarning, reasonInitial, "initial replication is not finished: there is no recovery point yet")
	} else if age := now.Sub(c.newest); age > lateCycles*c.frequency {
		// Without the age in the text, so that it stays the same reason.
		add(api.HealthWarning, reasonPointOld, "the newest recovery point is older than %d copy frequencies of %v", lateCycles, c.frequency)
	}
	return reasons
}

// since gives each reason the time since when it holds, known from before.
func since(reasons, before []api.Reason, now time.Time) []api.Reason {
	for i := range reasons {
		reasons[i].Since = now.UTC()
		known := slices.IndexFunc(before, func(r api.Reason) bool { return r.Code == reasons[i].Code })
		if known >= 0 {
			reasons[i].Since = before[known].Since
		}
	}
	return reasons
}

// worst returns the health that the reasons, worst first, make.
func worst(reasons []api.Reason) api.Health {
	if len(reasons) == 0 {
		return api.HealthNormal
	}
	return reasons[0].Health
}
