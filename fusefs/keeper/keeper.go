// Package keeper is the process that keeps a mount while filters come and go:
// it mounts, holds what a filter cannot leave behind when it is killed, starts a
// filter, and another one when it has died. It does nothing else that could
// fail.
//
// # Shape
//
// One goroutine decides (this file, settle.go, heartbeat.go, replacement.go): it hears of the
// filters by events, looks at a clock, and knows filters only as something that
// can be told to begin, to let go, and to die. What they are is in process.go and
// adopt.go; server.go takes orders from the command line.
//
// # Invariants
//
//   - One filter serves at a time: the next is told to begin when the one before
//     has been reaped, so that none of its writes is under way any more. Those
//     that stand by until then have touched nothing.
//   - The keeper asks nothing of the mount, which nobody may be serving.
//   - However filters end, nobody waits for ever: a mount that cannot be served
//     is taken off by force, which fails what waits.
//   - What a filter that stands by does never harms the one that serves.
//   - Without the keeper a filter serves on, and finds another keeper.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs"
	"lifeboat/fusefs/handover"
)

// Config says what is kept and how.
type Config struct {
	Folder     string // of the disks
	Mountpoint string // may be the folder itself
	// Filter returns the command that serves the mount, to be started from the
	// program at that path. It finds the keeper by Estate.
	Filter func(program string) *exec.Cmd
	// Ready is called once, when the first filter answers requests.
	Ready  func() error
	Logger *slog.Logger
	// Standby has a second filter prepared at all times.
	Standby bool
	// Listen, unless nil, opens the socket for Replace; point is the absolute
	// path of the mount point.
	Listen func(point string) (net.Listener, error)
	// Reload, unless nil, has the filter replaced by what lies at Program now.
	Reload  <-chan os.Signal
	Program string
	// Patience is how many filters may die one after the other without having
	// answered requests for as long as Recovered. 0 means the default of either.
	Patience  int
	Recovered time.Duration
}

// ErrGivenUp says that filters died faster than they are started.
var ErrGivenUp = errors.New("the filter dies again and again: the mount was taken off, and what was open on it fails")

// Run keeps a mount until it ends: a new one, or that of a filter that has lost
// its keeper and started this process. When ctx ends, the filter is asked to
// stop, which it does when nobody uses the mount. The error is an
// *exec.ExitError if the filter ended by itself and not in good order.
func Run(ctx context.Context, c Config) (err error) {
	orphan, err := orphaned()
	if err != nil {
		return err
	}
	k, mount, err := newKeeper(c, orphan)
	if err != nil {
		return err
	}
	defer mount.Close()
	if err := k.listen(mount, orphan != nil); err != nil {
		return errors.Join(err, mount.Abandon())
	}
	if orphan != nil {
		if err := orphan.Kept(); err != nil {
			return fmt.Errorf("keep %s: %w", mount.Point, err)
		}
		c.Logger.Info("this keeper took over from one that died", "mountpoint", mount.Point, "filter", orphan.PID)
	}
	if err := k.keep(ctx); err != nil {
		return errors.Join(err, mount.Abandon())
	}
	return nil
}

// keeper is what decides. Its methods are called by one goroutine.
type keeper struct {
	Config
	mount   served
	start   func(*Program, hearing) (process, error)
	held    *handover.Held
	program *Program // of the filter that serves
	// former is the program before, which takes over until this one is proven;
	// nil if it is.
	former   *Program
	provenAt time.Time

	events   chan func()
	requests chan request // for replacing the filter
	ended    chan struct{}

	serving     *filter // was told to begin
	standby     *filter // was started
	replacement *replacement
	attempts    uint64
	alive       int // processes that were not reaped yet

	kept     bool // a filter has been ready
	stopping bool
	over     bool
	err      error // of the end

	deaths        int       // of filters one after the other that had not served for long
	pausedUntil   time.Time // until which no other takes over
	standbyDeaths int
	standbyAt     time.Time // before which no standby is started
	wake          *time.Timer
	wakeAt        time.Time // for which settle wants it
	beats         uint64    // as they were at the last look
	silent        int       // looks since then
}

// served is the mount as the decisions need it.
type served struct {
	point   string
	resends bool
	ended   func() bool   // somebody took the mount off
	beats   func() uint64 // the signs of life of who serves
}

// filter is a process as the decisions see it.
type filter struct {
	process
	program  *Program
	prepared bool
	ready    bool
	since    time.Time // it is ready; before, when it was started
	told     string    // why it cannot take over
	cause    error     // it was killed for, if by us
	yielding bool      // it was killed because it had let go
}

// keep has one filter after the other serve the mount.
func (k *keeper) keep(ctx context.Context) error {
	if !k.mount.resends {
		k.Logger.Warn("this kernel cannot send requests again (Linux 6.9 can): if the filter dies, what is open on the mount fails")
	}
	k.wake = time.NewTimer(0)
	defer k.wake.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	stop := ctx.Done()
	for !k.over {
		select {
		case event := <-k.events:
			event()
		case <-k.wake.C:
		case <-look.C:
			k.look()
		case r := <-k.requests:
			k.replace(r)
		case <-k.Reload:
			k.reload()
		case <-stop:
			stop = nil
			k.stop()
		}
		k.settle()
	}
	close(k.ended)
	k.dismiss(k.standby)
	for k.alive > 0 {
		(<-k.events)()
	}
	return k.err
}

// stop asks the filter to stop, now or when it is ready: before, it might die
// of the signal.
func (k *keeper) stop() {
	k.stopping = true
	k.failReplacement(errors.New("the keeper was asked to stop"))
	if k.serving != nil && k.serving.ready {
		k.serving.signal(unix.SIGTERM)
	}
}

// end ends the keeping.
func (k *keeper) end(err error) {
	k.over, k.err = true, err
	k.failReplacement(errors.New("the mount has ended"))
}

func newKeeper(c Config, orphan *handover.Orphan) (*keeper, *fusefs.Established, error) {
	if c.Patience == 0 {
		c.Patience = patience
	}
	if c.Recovered == 0 {
		c.Recovered = recovered
	}
	program, err := OpenProgram("/proc/self/exe")
	if err != nil {
		return nil, nil, err
	}
	held := handover.NewHeld()
	var mount *fusefs.Established
	if orphan != nil {
		held = orphan.Held
		mount, err = fusefs.Reestablish(orphan.Device, orphan.Folder, orphan.State)
	} else {
		mount, err = fusefs.Establish(c.Folder, c.Mountpoint, c.Logger)
	}
	if err != nil {
		return nil, nil, err
	}
	state, err := handover.Map(mount.State) // as long as this process lives
	if err != nil {
		mount.Close()
		return nil, nil, err
	}
	k := &keeper{
		Config: c, held: held, program: program,
		mount:  served{point: mount.Point, resends: mount.Resends, ended: mount.Ended, beats: state.Beats},
		events: make(chan func()), requests: make(chan request), ended: make(chan struct{}),
	}
	k.start = (&starter{k.Config, mount, held, spare(c.Logger)}).start
	if orphan != nil {
		k.adopt(orphan)
	}
	return k, mount, nil
}
