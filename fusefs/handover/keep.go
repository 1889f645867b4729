package handover

import (
	"errors"
	"fmt"
	"sync"
)

// Held are the descriptors that a keeper holds for the filters, by the nodes'
// ids.
type Held struct {
	mu  sync.Mutex
	fds map[uint64]int
}

// NewHeld holds nothing yet.
func NewHeld() *Held { return &Held{fds: make(map[uint64]int)} }

// Len is how many it holds.
func (h *Held) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.fds)
}

func (h *Held) hold(id uint64, fd int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	drop(h.fds, id)
	h.fds[id] = fd
}

func (h *Held) drop(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	drop(h.fds, id)
}

// Introduce gives a filter that was started what it needs to get prepared.
func Introduce(s *Socket, device, folder, state int) error {
	err := s.send(sendProtocol, Protocol, -1)
	for _, m := range []message{{kind: sendDevice, fd: device}, {kind: sendFolder, fd: folder}, {kind: sendState, fd: state}} {
		if err == nil {
			err = s.sendMessage(m)
		}
	}
	if err != nil {
		return fmt.Errorf("handover: give the filter what it needs: %w", err)
	}
	return nil
}

// Begin has a filter that is prepared begin: no other one lives.
func Begin(s *Socket, held *Held) error {
	if err := held.sendTo(s); err != nil {
		return fmt.Errorf("handover: tell the filter to begin: %w", err)
	}
	return nil
}

func (h *Held) sendTo(s *Socket) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, fd := range h.fds {
		if err := s.send(sendHeld, id, fd); err != nil {
			return err
		}
	}
	return s.send(sendGo, 0, -1)
}

// AskToLetGo has a filter that serves end what is under way and say so; the
// number is for telling attempts apart.
func AskToLetGo(s *Socket, attempt uint64) error { return s.send(sendLetGo, attempt, -1) }

// AskToGoOn takes that back.
func AskToGoOn(s *Socket) error { return s.send(sendGoOn, 0, -1) }

// Word is what a filter says of itself.
type Word byte

// The words of a filter.
const (
	Prepared Word = sayPrepared // it can begin at once
	Refused  Word = sayRefused  // it cannot; the text says why
	Ready    Word = sayReady    // requests are being answered
	LetGo    Word = sayLetGo    // nothing is under way; with the number of the attempt
)

// Keep receives what a filter says until it is dead. What it wants held is held,
// the rest heard.
func Keep(s *Socket, held *Held, heard func(w Word, attempt uint64, text string)) error {
	for {
		m, err := s.receive()
		if errors.Is(err, ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case m.kind == sayHold && m.fd >= 0:
			held.hold(m.n, m.fd)
			continue
		case m.fd >= 0:
			closeFD(m.fd)
		case m.kind == sayDrop:
			held.drop(m.n)
			continue
		case m.kind == sayPrepared, m.kind == sayRefused, m.kind == sayReady, m.kind == sayLetGo:
			heard(Word(m.kind), m.n, m.text)
			continue
		}
		return fmt.Errorf("handover: the filter said %q", m.kind)
	}
}
