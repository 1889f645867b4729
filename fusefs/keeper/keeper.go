// Package keeper is the process that keeps a mount while filters come and go:
// it mounts, holds what a filter cannot leave behind when it is killed, starts a
// filter, and another one when it has died. It does nothing else that could
// fail.
//
// # Invariants
//
//   - There is one filter at a time: the next is started when the one before
//     has been reaped, so that none of its writes is under way any more.
//   - The keeper asks nothing of the mount, which nobody may be serving.
//   - However filters end, nobody waits for ever: a mount that cannot be served
//     is taken off, and closing /dev/fuse fails what waits.
//   - Without the keeper a filter serves on, and dies as one without.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"syscall"
	"time"

	"lifeboat/fusefs"
)

// Config says what is kept and how.
type Config struct {
	Folder     string // of the disks
	Mountpoint string // may be the folder itself
	// Filter returns the command that serves the mount, to be started. It finds
	// the keeper by Estate.
	Filter func() *exec.Cmd
	// Ready is called once, when the first filter answers requests.
	Ready  func() error
	Logger *slog.Logger
	// Patience is how many filters may die one after the other without having
	// answered requests for as long as Recovered. 0 means the default of either.
	Patience  int
	Recovered time.Duration
}

const (
	patience  = 6
	recovered = time.Second
	// The pause before a filter is started anew: none for the first that died,
	// then doubled from firstPause to longestPause.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// ErrGivenUp says that filters died faster than they are started.
var ErrGivenUp = errors.New("the filter dies again and again: the mount was taken off, and what was open on it fails")

// Run keeps a mount until it ends. When ctx ends, the filter is asked to stop,
// which it does when nobody uses the mount. The error is an *exec.ExitError if
// the filter ended by itself and not in good order.
func Run(ctx context.Context, c Config) error {
	if c.Patience == 0 {
		c.Patience = patience
	}
	if c.Recovered == 0 {
		c.Recovered = recovered
	}
	mount, err := fusefs.Establish(c.Folder, c.Mountpoint, c.Logger)
	if err != nil {
		return err
	}
	defer mount.Close()
	k := &keeper{Config: c, mount: mount, held: make(map[uint64]int)}
	if err := k.keep(ctx); err != nil {
		return errors.Join(err, mount.Abandon())
	}
	return nil
}

type keeper struct {
	Config
	mount  *fusefs.Established
	held   map[uint64]int // descriptors, by the nodes' ids
	ready  bool           // a filter has been
	since  time.Time      // the present one is
	deaths int            // of filters one after the other that had not served for long
}

// keep has one filter after the other serve the mount.
func (k *keeper) keep(ctx context.Context) error {
	if !k.mount.Resends {
		k.Logger.Warn("this kernel cannot send requests again (Linux 6.9 can): if the filter dies, what is open on the mount fails")
	}
	for {
		k.since = time.Time{}
		err := k.serve(ctx)
		if k.mount.Ended() {
			return err
		}
		if err == nil {
			err = errors.New("the filter ended and left the mount")
		}
		if !k.ready || !k.mount.Resends {
			return err
		}
		lived := time.Duration(0)
		if !k.since.IsZero() {
			lived = time.Since(k.since)
		}
		if !k.bear(lived, err) {
			return fmt.Errorf("keep %s: %w: %w", k.mount.Point, ErrGivenUp, err)
		}
	}
}

// bear waits before another filter takes over from one that had answered
// requests for so long; it returns false if that is the end.
func (k *keeper) bear(lived time.Duration, cause error) bool {
	if lived >= k.Recovered {
		k.deaths = 0
	}
	if k.deaths++; k.deaths > k.Patience {
		return false
	}
	pause := pauseAfter(k.deaths)
	k.Logger.Warn("the filter died; another one takes over", "cause", cause, "deaths", k.deaths, "pause", pause)
	time.Sleep(pause)
	return true
}

// pauseAfter is the back-off.
func pauseAfter(deaths int) time.Duration {
	if deaths < 2 {
		return 0
	}
	return min(firstPause<<min(deaths-2, 8), longestPause)
}

// serve starts a filter and returns when it has been reaped and all that it
// said was heard.
func (k *keeper) serve(ctx context.Context) error {
	filter, err := k.start()
	if err != nil {
		return err
	}
	asked := func() bool { return true }
	listening := make(chan error, 1)
	go func() {
		listening <- filter.converse(k, func() {
			k.answering()
			// Not before it is ready, or it might die of the signal.
			asked = context.AfterFunc(ctx, func() {
				_ = filter.command.Process.Signal(syscall.SIGTERM) // it may have ended
			})
		})
	}()
	err = filter.command.Wait()
	heard := <-listening
	asked()
	if heard != nil && err == nil {
		return heard
	}
	return err
}

// answering is called when a filter answers requests.
func (k *keeper) answering() {
	k.since = time.Now()
	if k.ready {
		k.Logger.Info("another filter has taken over")
		return
	}
	k.ready = true
	if err := k.Ready(); err != nil {
		k.Logger.Error("nobody could be told that the mount is ready", "error", err)
	}
}
