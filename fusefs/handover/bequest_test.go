package handover

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBequeath has a filter that lost its keeper find another, which holds what
// the first one did, and hears what comes next.
func TestBequeath(t *testing.T) {
	keeper, filter := pairOf(t)
	held := NewHeld()
	held.hold(5, openFile(t))
	held.hold(6, openFile(t))
	e := taken(t, keeper, filter, held)
	fd := openFile(t)
	must(t, e.Hold(7, fd))
	keeper.Close()
	must(t, errors.Join(e.Drop(6), e.Hold(8, fd)))

	adopted := make(chan *Orphan, 1)
	next, theirs := pairOf(t)
	defer theirs.Close()
	e.NewKeeper = func() (*Socket, error) {
		go func() {
			o, err := Adopt(theirs)
			if err == nil {
				err = o.Kept()
			}
			if err != nil {
				t.Error(err)
			}
			adopted <- o
		}()
		return next, nil
	}
	must(t, e.Bequeath())
	o := <-adopted
	if o.PID != os.Getpid() || o.Held.Len() != 3 || !isOpen(o.Held.fds[5]) || !isOpen(o.Held.fds[7]) || !isOpen(o.Held.fds[8]) || !isOpen(o.Device) || !isOpen(o.Folder) {
		t.Errorf("the keeper adopted %+v", o)
	}
	s, err := Map(o.State)
	must(t, err)
	if s.Point() != "/mnt/vms" {
		t.Errorf("it keeps %s", s.Point())
	}
	must(t, unix.PidfdSendSignal(o.Filter, 0, nil, 0))
	must(t, errors.Join(e.Hold(9, fd), e.Drop(5)))
	next.Close()
	if _, _, err := said(t, theirs, o.Held); err != nil || o.Held.Len() != 3 || !isOpen(o.Held.fds[9]) {
		t.Errorf("it holds %v (%v)", o.Held.fds, err)
	}
}

// TestNoOtherKeeper has none come up: the filter is told, and may try again.
func TestNoOtherKeeper(t *testing.T) {
	keeper, filter := pairOf(t)
	e := taken(t, keeper, filter, NewHeld())
	keeper.Close()
	if err := e.Bequeath(); err == nil {
		t.Error("there was none to be had")
	}
	lost := errors.New("lost")
	e.NewKeeper = func() (*Socket, error) { return nil, lost }
	if err := e.Bequeath(); !errors.Is(err, lost) {
		t.Errorf("one that cannot be started: %v", err)
	}
	for _, dies := range []func(*Socket){(*Socket).Close, func(s *Socket) {
		if _, err := Adopt(s); err != nil {
			t.Error(err)
		}
		s.Close()
	}} {
		e.NewKeeper = func() (*Socket, error) {
			next, theirs := pairOf(t)
			go dies(theirs)
			return next, nil
		}
		if err := e.Bequeath(); err == nil {
			t.Error("one that died keeps the filter")
		}
	}
}
