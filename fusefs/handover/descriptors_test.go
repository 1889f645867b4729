package handover

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func pairOf(t *testing.T) (keeper, filter *Socket) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	return NewSocket(pair[0]), NewSocket(pair[1])
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

// TestEstate gives, takes, holds and drops; what a filter said before it died
// is heard.
func TestEstate(t *testing.T) {
	keeper, filter := pairOf(t)
	defer keeper.Close()
	device, folder, state := openFile(t), openFile(t), newState(t)
	held := map[uint64]int{5: openFile(t), 6: openFile(t)}
	must(t, Give(keeper, device, folder, state, held))
	e, err := Take(filter)
	must(t, err)
	if len(e.Held) != 2 || !isOpen(e.Held[5]) || !isOpen(e.Held[6]) || !isOpen(e.Device) || !isOpen(e.Folder) || e.State.Folder() != "/srv/vms" {
		t.Errorf("the filter got %+v", e)
	}
	for _, fd := range []int{device, folder, e.Device, e.Folder, e.Held[5], e.Held[6]} {
		must(t, unix.Close(fd))
	}
	defer e.State.Unmap()

	fd, five := openFile(t), held[5]
	must(t, errors.Join(e.Hold(7, fd), e.Hold(5, fd), e.Drop(6), e.Drop(99), e.Ready()))
	must(t, unix.Close(fd))
	filter.Close()
	ready := 0
	must(t, Keep(keeper, held, func() { ready++ }))
	if len(held) != 2 || !isOpen(held[5]) || !isOpen(held[7]) || isOpen(five) && held[5] != five || ready != 1 {
		t.Errorf("the keeper holds %v, ready %d times", held, ready)
	}
	must(t, errors.Join(unix.Close(held[5]), unix.Close(held[7])))

	var none *Estate
	must(t, errors.Join(none.Hold(1, 0), none.Drop(1), none.Ready()))
}

// TestNonsense has either side say what it never would.
func TestNonsense(t *testing.T) {
	for name, say := range map[string]func(*Socket) error{
		"unknown":            func(s *Socket) error { return s.send('?', 0, -1) },
		"with a descriptor":  func(s *Socket) error { return s.send('?', 0, 0) },
		"go, but with what?": func(s *Socket) error { return s.send(sendGo, 0, -1) },
		"hold what?":         func(s *Socket) error { return s.send(sayHold, 1, -1) },
		"not a state":        func(s *Socket) error { return s.send(sendState, 0, 0) },
		"too short":          func(s *Socket) error { return unix.Send(s.fd, []byte("x"), 0) },
		"too long":           func(s *Socket) error { return unix.Send(s.fd, make([]byte, 20), 0) },
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
			defer keeper.Close()
			must(t, say(filter))
			filter.Close()
			held := map[uint64]int{}
			if err := Keep(keeper, held, func() { t.Error("ready") }); (err == nil) != (name == "dead") || len(held) != 0 {
				t.Errorf("the keeper holds %v: %v", held, err)
			}
		})
	}
}
