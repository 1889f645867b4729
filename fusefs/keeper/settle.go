package keeper

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

const (
	patience  = 6
	recovered = time.Second
	// The pause before another filter takes over: none after the first that
	// died, then doubled from firstPause to longestPause. Likewise before
	// another one stands by.
	firstPause     = 100 * time.Millisecond
	longestPause   = 2 * time.Second
	longestStandby = time.Minute
	// preparedWithin bounds how long a filter takes to get prepared, on a
	// machine that has other things to do.
	preparedWithin = 30 * time.Second
)

var (
	errSlow = fmt.Errorf("it was not prepared within %v", preparedWithin)
	errLeft = errors.New("the filter ended and left the mount")
)

// settle does what the situation asks for, after each event.
func (k *keeper) settle() {
	if k.over {
		return
	}
	k.wakeAt = time.Time{}
	defer func() {
		if !k.wakeAt.IsZero() {
			k.wake.Reset(time.Until(k.wakeAt))
		}
	}()
	k.advance()
	if k.former != nil && k.serving != nil && k.due(k.provenAt) {
		k.former.Close()
		k.former = nil
		k.dismissOthers()
	}
	if f := k.standby; f != nil && !f.prepared {
		k.killAt(f, f.since.Add(preparedWithin), errSlow)
	}
	switch {
	case k.serving == nil:
		k.takeOver()
	case k.standby == nil && k.Standby && k.mount.resends && k.serving.ready && !k.stopping && k.replacement == nil:
		if k.due(k.standbyAt) {
			k.standby = k.begin(k.next())
		}
	}
}

// takeOver has the filter that stands by serve, or starts one that will.
func (k *keeper) takeOver() {
	switch {
	case k.kept && k.mount.ended(): // while nobody served it
		k.end(nil)
	case !k.due(k.pausedUntil):
	case k.former != nil:
		k.revert()
		k.takeOver()
	case k.standby == nil:
		k.standby = k.begin(k.program)
	case k.standby.prepared:
		f := k.standby
		k.standby = nil
		k.serve(f)
	}
}

// due tells whether the time has come, and if not, sees to it that settle is
// called then.
func (k *keeper) due(at time.Time) bool {
	if time.Until(at) <= 0 {
		return true
	}
	if k.wakeAt.IsZero() || at.Before(k.wakeAt) {
		k.wakeAt = at
	}
	return false
}

// begin starts a filter, which gets prepared.
func (k *keeper) begin(program *Program) *filter {
	f := &filter{program: program, since: time.Now()}
	k.alive++
	tell := func(event func()) { k.events <- event }
	var err error
	f.process, err = k.start(program, hearing{
		said:  func(w handover.Word, attempt uint64, text string) { tell(func() { k.heard(f, w, attempt, text) }) },
		ended: func(err error) { tell(func() { k.gone(f, err) }) },
	})
	if err != nil {
		f.process = noProcess{}
		go tell(func() { k.gone(f, err) })
	}
	return f
}

// serve tells a filter that is prepared to begin. No other one lives.
func (k *keeper) serve(f *filter) {
	k.serving = f
	k.silent, k.beats = 0, k.mount.beats()
	f.begin()
}

// heard is called when a filter has said something.
func (k *keeper) heard(f *filter, w handover.Word, attempt uint64, text string) {
	switch w {
	case handover.Prepared:
		f.prepared = true
		if f == k.standby && k.serving != nil {
			k.Logger.Info("another filter stands by", "pid", f.pid())
		}
	case handover.Refused:
		f.told = text
	case handover.Ready:
		if f == k.serving && !f.ready {
			f.ready, f.since = true, time.Now()
			k.answering(f)
		}
	case handover.LetGo:
		k.letGo(f, attempt)
	}
}

// answering is called when a filter answers requests.
func (k *keeper) answering(f *filter) {
	if k.kept {
		k.Logger.Info("another filter has taken over", "pid", f.pid())
	} else if err := k.Ready(); err != nil {
		k.Logger.Error("nobody could be told that the mount is ready", "error", err)
	}
	k.kept = true
	k.replaced(f)
	if k.stopping {
		f.signal(unix.SIGTERM)
	}
}

// gone is called when a filter has been reaped and all that it said was heard.
func (k *keeper) gone(f *filter, err error) {
	k.alive--
	if f.cause != nil {
		err = f.cause
	}
	wasServing, stoodBy := f == k.serving, f == k.standby
	if wasServing {
		k.serving = nil
	}
	if stoodBy {
		k.standby = nil
	}
	switch {
	case k.over:
	case k.goneInReplacement(f, wasServing, err):
	case wasServing && k.mount.ended():
		k.end(err)
	case wasServing || stoodBy && k.serving == nil:
		k.died(f, err)
	case stoodBy:
		k.standbyDeaths++
		pause := pauseAfter(k.standbyDeaths+1, longestStandby)
		k.standbyAt = time.Now().Add(pause)
		k.Logger.Warn("the filter that stood by died", "cause", f.reason(err), "deaths", k.standbyDeaths, "pause", pause)
	}
}

// died is called when the filter that served, or was about to, has died.
func (k *keeper) died(f *filter, err error) {
	if err == nil {
		err = errLeft
	}
	if !k.kept || !k.mount.resends {
		k.end(err)
		return
	}
	if f.yielding { // for another one that did not come up
		return
	}
	if f.ready && time.Since(f.since) >= k.Recovered {
		k.deaths, k.standbyDeaths = 0, 0
	}
	if k.deaths++; k.deaths > k.Patience {
		k.end(fmt.Errorf("keep %s: %w: %w", k.mount.point, ErrGivenUp, err))
		return
	}
	pause := pauseAfter(k.deaths, longestPause)
	k.pausedUntil = time.Now().Add(pause)
	k.Logger.Warn("the filter died; another one takes over", "cause", f.reason(err), "deaths", k.deaths, "pause", pause)
}

// pauseAfter is the back-off.
func pauseAfter(deaths int, longest time.Duration) time.Duration {
	if deaths < 2 {
		return 0
	}
	return min(firstPause<<min(deaths-2, 16), longest)
}

// reason is the error with what the filter itself said.
func (f *filter) reason(err error) error {
	switch {
	case f.told == "":
		return err
	case err == nil:
		return errors.New(f.told)
	}
	return fmt.Errorf("%s (%w)", f.told, err)
}

// killAt kills a filter when the time has come.
func (k *keeper) killAt(f *filter, at time.Time, cause error) {
	if f.cause == nil && k.due(at) {
		f.cause = cause
		f.kill()
	}
}

// dismiss ends a filter that is not needed; its end is heard and means nothing.
func (k *keeper) dismiss(f *filter) {
	if f == nil {
		return
	}
	if f == k.standby {
		k.standby = nil
	}
	f.kill()
}
