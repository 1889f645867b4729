package handover

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pairOf(t *testing.T) (keeper, filter *Socket) {
	t.Helper()
	keeper, fd, err := Pair()
	must(t, err)
	return keeper, NewSocket(fd)
}

func openFile(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// taken is a filter that was given all, prepared itself and was told to begin.
func taken(t *testing.T, keeper, filter *Socket, held *Held) *Estate {
	t.Helper()
	device, folder, state := openFile(t), openFile(t), newState(t)
	must(t, Introduce(keeper, device, folder, state))
	e, err := Take(filter)
	must(t, err)
	must(t, errors.Join(unix.Close(device), unix.Close(folder)))
	must(t, Begin(keeper, held))
	must(t, e.Await())
	return e
}

// said collects what a filter says until it is dead.
func said(t *testing.T, keeper *Socket, held *Held) (words []Word, texts string, err error) {
	t.Helper()
	err = Keep(keeper, held, func(w Word, _ uint64, text string) { words, texts = append(words, w), texts+text })
	return words, texts, err
}

// TestEstate gives, takes, holds and drops; what a filter said before it died
// is heard.
func TestEstate(t *testing.T) {
	keeper, filter := pairOf(t)
	defer keeper.Close()
	held := NewHeld()
	held.hold(5, openFile(t))
	held.hold(6, openFile(t))
	five := held.fds[5]
	e := taken(t, keeper, filter, held)
	if len(e.Held) != 2 || !isOpen(e.Held[5]) || !isOpen(e.Held[6]) || !isOpen(e.Device) || !isOpen(e.Folder) || e.State.Folder() != "/srv/vms" {
		t.Errorf("the filter got %+v", e)
	}
	fd := openFile(t)
	must(t, errors.Join(e.Hold(7, fd), e.Hold(5, fd), e.Drop(6), e.Drop(99), e.Ready(), e.LetGo(3)))
	must(t, unix.Close(fd))
	filter.Close()
	words, _, err := said(t, keeper, held)
	must(t, err)
	if !slices.Equal(words, []Word{Prepared, Ready, LetGo}) {
		t.Errorf("the filter said %q", words)
	}
	if held.Len() != 2 || !isOpen(held.fds[5]) || !isOpen(held.fds[7]) || isOpen(five) && held.fds[5] != five {
		t.Errorf("the keeper holds %v", held.fds)
	}
	if len(e.own) != 2 || !isOpen(e.own[5]) || !isOpen(e.own[7]) {
		t.Errorf("the filter can give %v to another keeper", e.own)
	}

	var none *Estate
	must(t, errors.Join(none.Hold(1, 0), none.Drop(1), none.Ready(), none.LetGo(1)))
	none.Refuse(errors.New("nobody hears it"))
}

// TestBeats has a filter live from when it was told to begin.
func TestBeats(t *testing.T) {
	keeper, filter := pairOf(t)
	defer keeper.Close()
	e := taken(t, keeper, filter, NewHeld())
	first := e.State.Beats()
	again := time.NewTicker(BeatInterval / 4)
	defer again.Stop()
	for end := time.Now().Add(time.Minute); e.State.Beats() < first+2; <-again.C {
		if time.Now().After(end) {
			t.Fatalf("%d beats, then no more", e.State.Beats())
		}
	}
}

// TestOrders has the keeper ask a filter to let go, and go on, and die.
func TestOrders(t *testing.T) {
	keeper, filter := pairOf(t)
	e := taken(t, keeper, filter, NewHeld())
	must(t, errors.Join(AskToLetGo(keeper, 7), AskToGoOn(keeper)))
	for _, want := range []Order{{true, 7}, {}} {
		if got, err := e.Hear(); err != nil || got != want {
			t.Errorf("the filter hears %v (%v), want %v", got, err, want)
		}
	}
	keeper.Close()
	if _, err := e.Hear(); !errors.Is(err, ErrClosed) {
		t.Errorf("the keeper's death is %v", err)
	}
	must(t, errors.Join(e.Hold(1, e.Device), e.Drop(2))) // for the next keeper to hear
}

// TestDismissed has the keeper die while a filter stands by.
func TestDismissed(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		keeper, filter := pairOf(t)
		must(t, Introduce(keeper, openFile(t), openFile(t), newState(t)))
		e, err := Take(filter)
		must(t, err)
		ended := make(chan error, 1)
		if !prepared {
			keeper.Close()
		}
		go func() { ended <- e.Await() }()
		if prepared {
			_, err := keeper.receive()
			must(t, err)
			keeper.Close()
		}
		if err := <-ended; !errors.Is(err, ErrDismissed) {
			t.Errorf("prepared %v: it ends with %v", prepared, err)
		}
	}
}

// TestRefused has a filter find that it cannot take over: the keeper hears why.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		introduce func(keeper *Socket, state int) error
		why       string
	}{
		"state": {func(keeper *Socket, state int) error {
			mapped(t, state).header.version++
			return Introduce(keeper, openFile(t), openFile(t), state)
		}, "version 3"},
		"protocol": {func(keeper *Socket, _ int) error { return keeper.send(sendProtocol, Protocol+1, -1) }, "older than the keeper"},
	} {
		t.Run(name, func(t *testing.T) {
			keeper, filter := pairOf(t)
			defer keeper.Close()
			must(t, c.introduce(keeper, newState(t)))
			if e, err := Take(filter); err == nil {
				t.Errorf("the filter takes %+v", e)
			}
			filter.Close()
			words, text, err := said(t, keeper, NewHeld())
			must(t, err)
			if !slices.Equal(words, []Word{Refused}) || !strings.Contains(text, c.why) {
				t.Errorf("the filter said %q, %q", words, text)
			}
		})
	}
}

// TestNonsense has either side say what it never would.
func TestNonsense(t *testing.T) {
	for name, say := range map[string]func(*Socket) error{
		"unknown":            func(s *Socket) error { return s.send('?', 0, -1) },
		"with a descriptor":  func(s *Socket) error { return s.send('?', 0, 0) },
		"go, but with what?": func(s *Socket) error { return s.send(sendGo, 0, -1) },
		"hold what?":         func(s *Socket) error { return s.send(sayHold, 1, -1) },
		"a descriptor to it": func(s *Socket) error { return s.send(sayReady, 0, 0) },
		"not a state":        func(s *Socket) error { return Introduce(s, 0, 0, 0) },
		"too short":          func(s *Socket) error { return unix.Send(s.fd, []byte("x"), 0) },
		"too long":           func(s *Socket) error { return unix.Send(s.fd, make([]byte, messageSize+MaxText+1), 0) },
		"dead":               func(*Socket) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			keeper, filter := pairOf(t)
			defer filter.Close()
			must(t, say(keeper))
			keeper.Close()
			if e, err := Take(filter); err == nil {
				t.Errorf("the filter takes %+v", e)
			}
			keeper, filter = pairOf(t)
			must(t, say(keeper))
			keeper.Close()
			if o, err := Adopt(filter); err == nil {
				t.Errorf("the keeper adopts %+v", o)
			}
			filter.Close()
			keeper, filter = pairOf(t)
			defer keeper.Close()
			must(t, say(filter))
			filter.Close()
			held := NewHeld()
			if words, _, err := said(t, keeper, held); (err == nil) != (name == "dead") || held.Len() != 0 || len(words) != 0 {
				t.Errorf("the keeper holds %v and heard %q: %v", held.fds, words, err)
			}
		})
	}
}
