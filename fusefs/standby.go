package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"lifeboat/fusefs/handover"
)

// prepared is what a filter has ready that waits for its keeper's word to begin.
type prepared struct {
	connection *connection
	buffers    []*buffers
	reply      []byte // to the kernel's INIT
}

// prepare does all that depends neither on the nodes nor on what lies in the
// folder, and may fail: after that the filter before is asked to let go.
func (f *filter) prepare() (*prepared, error) {
	all, err := newBuffersFor(f.options.Readers, f.log)
	if err != nil {
		return nil, err
	}
	c := newConnection(f.estate.Device, f)
	reply, err := c.negotiateAgain(all[0])
	if err != nil {
		freeAll(all)
		return nil, err
	}
	return &prepared{c, all, reply}, nil
}

// negotiateAgain makes the answer to the kernel's INIT, which has to be the one
// that the kernel was given, if it was.
func (c *connection) negotiateAgain(b *buffers) ([]byte, error) {
	state := c.filter.estate.State
	request := b.request[:copy(b.request, state.Init())]
	if len(request) < inHeaderSize || headerOf(request).Opcode != opInit {
		return nil, errors.New("what the kernel sent first is not INIT")
	}
	size, err := c.negotiate(request, b.reply)
	if err != nil {
		return nil, err
	}
	reply := bytes.Clone(b.reply[:size])
	return reply, agreed(state, reply)
}

// agreed is an error if the kernel was given another answer to INIT.
func agreed(state *handover.State, reply []byte) error {
	if given := state.Reply(); len(given) > 0 && !bytes.Equal(given, reply) {
		return errors.New("this build negotiates otherwise with the kernel than the filter before did: unmount and mount again")
	}
	return nil
}

func newBuffersFor(readers int, log *slog.Logger) ([]*buffers, error) {
	all := make([]*buffers, readers)
	for i := range all {
		var err error
		if all[i], err = newBuffers(log); err != nil {
			freeAll(all[:i])
			return nil, err
		}
	}
	return all, nil
}

// inherit opens the folder that a keeper gave, waits for its word, and knows
// every node that the filter before has told the kernel of.
func inherit(options Options) (*FS, error) {
	options.Folder = options.Estate.State.Folder()
	f, err := newFilter(options.Estate.Folder, options)
	if err == nil {
		f.prepared, err = f.prepare()
	}
	if err != nil {
		err = fmt.Errorf("fusefs: take over %s: %w", options.Folder, err)
		options.Estate.Refuse(err)
		return nil, err
	}
	if err := f.estate.Await(); err != nil {
		return nil, err
	}
	f.journal = f.estate.State.Journal()
	if err := f.inheritNodes(); err != nil {
		err = fmt.Errorf("fusefs: take over %s: %w", options.Folder, err)
		options.Estate.Refuse(err)
		return nil, err
	}
	return &FS{filter: f}, nil
}
