package keeper

import (
	"errors"
	"fmt"
	"time"
)

const (
	// candidateWithin bounds how long the filter of a new program takes to get
	// prepared, and after that to answer requests. The former costs nothing.
	candidateWithin = 10 * time.Second
	// drainedWithin bounds how long requests that are under way may take: so
	// long the guests wait.
	drainedWithin = 3 * time.Second
	// provenAfter is how long the new program's filter has to serve before the
	// old program is given up.
	provenAfter = 10 * time.Second
)

// ErrNotReplaced says that the filter was not replaced: the mount is served by
// the program that served it before.
var ErrNotReplaced = errors.New("the filter is not replaced, and the mount is served as before")

// Replaced tells what a replacement cost.
type Replaced struct {
	PID   int           // of the filter that serves now
	Pause time.Duration // for which requests waited
}

// request asks for the filter to be replaced; answer is called once.
type request struct {
	program *Program // the keeper's from then on
	answer  func(Replaced, error)
}

// replacement is a new program on its way. There are three stages: its filter,
// the candidate, gets prepared; the filter that serves lets go and is killed;
// the candidate serves and gets ready. Whatever fails, filters of the old
// program go on.
type replacement struct {
	request
	candidate *filter
	attempt   uint64
	deadline  time.Time // of the stage
	asked     time.Time // the filter that serves was, to let go
	yielded   time.Time // it did
	began     time.Time // the candidate was told to
}

// replace begins a replacement.
func (k *keeper) replace(r request) {
	var err error
	switch {
	case k.stopping:
		err = errors.New("the keeper was asked to stop")
	case k.replacement != nil:
		err = errors.New("another replacement is under way")
	case !k.mount.resends:
		err = errors.New("this kernel cannot send requests again (Linux 6.9 can): unmount, and mount again")
	case !k.kept:
		err = errors.New("the first filter is not ready yet")
	default:
		k.Logger.Info("the filter is to be replaced")
		k.attempts++
		k.replacement = &replacement{request: r, attempt: k.attempts, deadline: time.Now().Add(candidateWithin)}
		k.replacement.candidate = k.begin(r.program)
		return
	}
	k.Logger.Error("the filter is not replaced", "cause", err)
	r.program.Close()
	r.answer(Replaced{}, fmt.Errorf("%w: %w", ErrNotReplaced, err))
}

// advance brings the replacement to its next stage if it can.
func (k *keeper) advance() {
	r := k.replacement
	if r == nil {
		return
	}
	switch {
	case !r.began.IsZero():
		k.killAt(r.candidate, r.deadline, fmt.Errorf("it was not ready within %v", candidateWithin))
	case !r.candidate.prepared:
		k.killAt(r.candidate, r.deadline, fmt.Errorf("it was not prepared within %v", candidateWithin))
	case r.asked.IsZero():
		if f := k.serving; f != nil && f.ready {
			r.asked = time.Now()
			r.deadline = r.asked.Add(drainedWithin)
			f.letGo(r.attempt)
			k.due(r.deadline)
		}
	case r.yielded.IsZero() && k.due(r.deadline):
		k.failReplacement(fmt.Errorf("requests were under way for more than %v: try again when the disks are less busy", drainedWithin))
	}
}

// letGo is called when nothing is under way any more: the filter is killed as in
// a crash, since taking over after that is what works.
func (k *keeper) letGo(f *filter, attempt uint64) {
	r := k.replacement
	if r == nil || r.attempt != attempt || f != k.serving || f.yielding {
		return
	}
	r.yielded, f.yielding = time.Now(), true
	f.kill()
}

// goneInReplacement is called when a filter has ended, and returns true if that
// is all that there is to it.
func (k *keeper) goneInReplacement(f *filter, wasServing bool, err error) bool {
	r := k.replacement
	switch {
	case r == nil:
		return false
	case f == r.candidate:
		if err == nil {
			err = errLeft
		}
		if f.told == "" && f.cause == nil {
			err = fmt.Errorf("the new one ended: %w: what it said is in the keeper's log", err)
		}
		k.failReplacement(f.reason(err))
		return !wasServing || !k.mount.ended() // the old program goes on at once
	case wasServing && !r.asked.IsZero() && !k.mount.ended():
		// It let go, or died when it was about to.
		r.began = time.Now()
		if r.yielded.IsZero() {
			r.yielded = r.began
		}
		r.deadline = r.began.Add(candidateWithin)
		k.serve(r.candidate)
		return true
	}
	return false
}

// replaced is called when a filter answers requests.
func (k *keeper) replaced(f *filter) {
	r := k.replacement
	if r == nil || f != r.candidate {
		return
	}
	k.replacement = nil
	k.former.Close()
	k.former, k.program, k.provenAt = k.program, r.program, time.Now().Add(provenAfter)
	k.deaths, k.standbyDeaths, k.standbyAt = 0, 0, time.Time{}
	k.dismissOthers()
	pause := time.Since(r.asked)
	k.Logger.Info("the filter is replaced", "pid", f.pid(), "pause", pause,
		"letting_go", r.yielded.Sub(r.asked), "ending", r.began.Sub(r.yielded), "beginning", time.Since(r.began))
	r.answer(Replaced{f.pid(), pause}, nil)
}

// next is the program of who takes over next.
func (k *keeper) next() *Program {
	if k.former != nil {
		return k.former
	}
	return k.program
}

// revert goes back to the program before: the one that replaced it has to be
// followed before it was proven.
func (k *keeper) revert() {
	k.Logger.Error("the program that replaced the filter did not last; the one before takes over", "proven_after", provenAfter)
	k.program.Close()
	k.program, k.former = k.former, nil
	k.dismissOthers()
}

// dismissOthers ends a standby of another program than the next.
func (k *keeper) dismissOthers() {
	if k.standby != nil && k.standby.program != k.next() {
		k.dismiss(k.standby)
	}
}

// failReplacement ends it, if there is one; the old program stays.
func (k *keeper) failReplacement(cause error) {
	r := k.replacement
	if r == nil {
		return
	}
	k.replacement = nil
	k.Logger.Error("the filter is not replaced", "cause", cause)
	if f := k.serving; f != nil && f != r.candidate && !r.asked.IsZero() {
		f.goOn()
	}
	if r.began.IsZero() {
		k.dismiss(r.candidate)
	}
	r.program.Close()
	r.answer(Replaced{}, fmt.Errorf("%w: %w", ErrNotReplaced, cause))
}

// reload has the filter replaced by what lies at the path of the program now.
func (k *keeper) reload() {
	program, err := OpenProgram(k.Program)
	if err != nil {
		k.Logger.Error("the filter is not replaced", "cause", err)
		return
	}
	k.replace(request{program, func(Replaced, error) {}}) // the log tells
}
