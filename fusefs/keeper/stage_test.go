package keeper

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// stage is a keeper whose filters, mount and clock are played by a test.
type stage struct {
	t       *testing.T
	k       *keeper
	cancel  context.CancelFunc
	filters []*fake // that were started
	ended   bool    // somebody took the mount off
	beats   atomic.Uint64
	done    chan error
	refuse  error // starting a filter fails
}

// fake is a filter that a test plays.
type fake struct {
	stage    *stage
	heard    hearing
	program  *Program
	did      []string // what the keeper did to it
	dead     bool
	onDisk   bool // it waits for a disk
	stubborn bool // it outlives being killed
}

var errKilled = errors.New("killed")

// play plays on a stage, in a bubble with a clock of its own.
func play(t *testing.T, standby bool, script func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, done: make(chan error, 1)}
		s.k = &keeper{
			Config: Config{Logger: slog.New(slog.DiscardHandler), Standby: standby, Patience: 3, Recovered: time.Second, Ready: func() error { return nil }},
			held:   handover.NewHeld(), program: s.open(), start: s.start,
			mount: served{
				point: "/vms", resends: true,
				ended: func() bool { return s.ended }, beats: s.beats.Load,
			},
			events: make(chan func()), requests: make(chan request), ended: make(chan struct{}),
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.cancel = cancel
		go func() { s.done <- s.k.keep(ctx) }()
		synctest.Wait()
		script(s)
		s.ended = true
		for len(s.done) == 0 {
			for _, f := range s.filters {
				f.die(errKilled)
			}
			s.silence(time.Minute)
		}
		s.k.program.Close()
		s.k.former.Close()
	})
}

func (s *stage) open() *Program {
	p, err := OpenProgram("/proc/self/exe")
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *stage) start(p *Program, heard hearing) (process, error) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	f := &fake{stage: s, heard: heard, program: p}
	s.filters = append(s.filters, f)
	return f, nil
}

func (f *fake) begin()             { f.did = append(f.did, "begin") }
func (f *fake) letGo(uint64)       { f.did = append(f.did, "let go") }
func (f *fake) goOn()              { f.did = append(f.did, "go on") }
func (f *fake) signal(unix.Signal) { f.did = append(f.did, "signal") }
func (f *fake) waitsForDisk() bool { return f.onDisk }
func (f *fake) pid() int           { return slices.Index(f.stage.filters, f) + 1 }

func (f *fake) kill() {
	f.did = append(f.did, "kill")
	if !f.dead && !f.stubborn {
		f.dead = true
		go f.heard.ended(errKilled)
	}
}

// die ends it; the keeper has done about it what it does when that returns.
func (f *fake) die(err error) {
	if !f.dead {
		f.dead = true
		f.heard.ended(err)
		synctest.Wait()
	}
}

func (f *fake) says(words ...handover.Word) {
	for _, w := range words {
		f.heard.said(w, f.stage.k.attempts, "")
		synctest.Wait()
	}
}

// is fails the test unless so many filters were started, and the keeper did that
// to the n-th.
func (s *stage) is(started, n int, did ...string) {
	s.t.Helper()
	if len(s.filters) != started {
		s.t.Fatalf("%d filters were started, want %d", len(s.filters), started)
	}
	if f := s.filters[n]; !slices.Equal(f.did, did) {
		s.t.Errorf("to filter %d the keeper did %q, want %q", n, f.did, did)
	}
}

// pass lets time go by, in which the filter that serves lives.
func (s *stage) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.beats.Add(1)
		s.meet()
		<-time.After(min(handover.BeatInterval, time.Until(end)))
		synctest.Wait()
	}
}

// silence is pass for one that does not.
func (s *stage) silence(d time.Duration) {
	s.meet()
	<-time.After(d)
	synctest.Wait()
}

// meet has the keeper know of what the test did, as the race detector wants it:
// that both wait for the same clock is not enough.
func (s *stage) meet() {
	select {
	case s.k.events <- func() {}:
	case <-s.k.ended:
	}
}

// serving plays the first filter until it is ready, and the one that stands by,
// if any, until it is prepared.
func (s *stage) serving() {
	s.t.Helper()
	s.filters[0].says(handover.Prepared, handover.Ready)
	if s.k.Standby {
		s.is(2, 0, "begin")
		s.filters[1].says(handover.Prepared)
	}
}
