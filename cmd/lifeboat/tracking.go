package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
	"lifeboat/tracker"
	"lifeboat/tracker/passes"
)

// A tracker that cannot be opened where guests wait for it is tried again: a few
// times before changes go on without it, since that costs a resynchronization,
// and then until it is there.
const (
	openTries  = 3
	openDeaths = 5 // of filters one after the other: fewer than the keeper bears
	openPause  = 200 * time.Millisecond
	openAgain  = 3 * time.Second
	soonAgain  = time.Second
	frozenFor  = 5 * time.Second
)

// tracking is the tracker of a mount, which may be served before it is open.
type tracking struct {
	config tracker.Config
	log    *slog.Logger
	logs   atomic.Pointer[tracker.Tracker] // nil until it is open
	// settled is closed when it is open, or changes go on without it.
	settled  chan struct{}
	settling sync.Once
	// again is the pause while changes go on without it.
	again time.Duration
	build uint64
}

// errOtherBuild says that this program is not the one that tracked before.
var errOtherBuild = errors.New("the change logs cannot be opened by this build, and another one could")

func newTracking(log *slog.Logger) *tracking {
	return &tracking{log: log, settled: make(chan struct{}), again: openAgain, build: buildID()}
}

func (t *tracking) settle() { t.settling.Do(func() { close(t.settled) }) }

// makeRoom is fusefs.Options.MakeRoom.
func (t *tracking) makeRoom() {
	<-t.settled
	if logs := t.logs.Load(); logs != nil {
		logs.MakeRoom()
	}
}

// letGo is fusefs.Options.LetGo: the process is about to be killed, and then no
// rollover is half done. If it is not, they go on after a while.
func (t *tracking) letGo() {
	if logs := t.logs.Load(); logs != nil {
		time.AfterFunc(frozenFor, logs.Freeze())
	}
}

// anticipate has protected disks served before the tracker is open, and returns
// whether that can be: after a filter that died, and told of them.
func (t *tracking) anticipate() bool {
	t.config.Early = tracker.Anticipate(t.config)
	return t.config.Early != nil
}

// open opens the tracker.
func (t *tracking) open() error {
	t.config.Passes.Attempt()
	logs, err := tracker.Open(t.config)
	if err != nil {
		return err
	}
	t.config.Passes.Opened(t.build)
	t.logs.Store(logs)
	t.settle()
	return nil
}

// openLate opens the tracker while the mount is served; it fails if ctx ended
// before it could. Guests wait for it, but not for long: if it does not open, or
// filters die of it, changes go on untracked. But a program that is not the one
// that tracked before is an upgrade, which can be taken back: it gives up.
func (t *tracking) openLate(ctx context.Context) error {
	if deaths := t.config.Passes.Attempts(); deaths >= openDeaths {
		t.log.Error("filters die when they open the change logs", "deaths", deaths)
		if !t.forgo(ctx) || !wait(ctx, t.again) {
			return ctx.Err()
		}
	}
	for tries := 1; ; tries++ {
		err := t.open()
		if err == nil {
			return nil
		}
		t.log.Error("the change logs cannot be opened; it is tried again", "error", err)
		pause := openPause
		if tries >= openTries {
			if t.config.Passes.OpenedBy() != t.build {
				return fmt.Errorf("%w: %w", errOtherBuild, err)
			}
			if !t.forgo(ctx) {
				return ctx.Err()
			}
			pause = t.again
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// forgo lets changes go on untracked.
func (t *tracking) forgo(ctx context.Context) bool {
	select {
	case <-t.settled:
		return true
	default:
	}
	for {
		err := t.config.Early.Forgo()
		if err == nil {
			t.log.Error("changes of protected disks go on without being tracked until the change logs can be opened; then the disks are resynchronized")
			t.settle()
			return true
		}
		t.log.Error("that changes are not tracked cannot be noted, so guests wait", "error", err)
		if !wait(ctx, soonAgain) {
			return false
		}
	}
}

// close closes the tracker, if it was open.
func (t *tracking) close() error {
	if logs := t.logs.Load(); logs != nil {
		return logs.Close()
	}
	return nil
}

// buildID tells this build from others.
func buildID() uint64 {
	h := fnv.New64a()
	if info, ok := debug.ReadBuildInfo(); ok {
		_, _ = io.WriteString(h, info.String()) // a hash takes everything
	}
	_, _ = io.WriteString(h, version)
	return h.Sum64() | 1
}

// wait returns false if ctx ends before.
func wait(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// passesFrom returns the passes that the filter before left with the keeper, or
// new ones, which the keeper then holds; nil where there is no keeper.
func passesFrom(estate *handover.Estate, log *slog.Logger) *passes.Passes {
	if estate == nil {
		return nil
	}
	if fd, ok := estate.Held[handover.Passes]; ok {
		delete(estate.Held, handover.Passes)
		p, err := tracker.MapPasses(fd)
		_ = unix.Close(fd) // the mapping stays
		if err == nil {
			return p
		}
		log.Warn("guests wait until the change logs are open", "error", err)
	}
	p, err := newPasses(estate)
	if err != nil {
		log.Warn("if the filter dies, guests wait until the next one has opened the change logs", "error", err)
	}
	return p
}

func newPasses(estate *handover.Estate) (*passes.Passes, error) {
	fd, err := tracker.NewPasses()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // the mapping stays
	p, err := tracker.MapPasses(fd)
	if err != nil {
		return nil, err
	}
	if err := estate.Hold(handover.Passes, fd); err != nil {
		p.Unmap()
		return nil, err
	}
	return p, nil
}
