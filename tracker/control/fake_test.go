package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"

	"lifeboat/disk"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// fake is a Backend that answers with what a test put in and notes what it was
// asked.
type fake struct {
	mu      sync.Mutex
	err     error // the answer to everything, if set
	vms     []tracker.VM
	spec    tracker.Spec
	calls   []string
	extents tracker.Extents
	events  []tracker.Event
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) == 0 {
		return ""
	}
	return f.calls[len(f.calls)-1]
}

func (f *fake) VMs(context.Context) ([]tracker.VM, error) { return f.vms, f.note("vms") }

func (f *fake) VM(_ context.Context, id string) (tracker.VM, error) {
	if err := f.note("vm %s", id); err != nil {
		return tracker.VM{}, err
	}
	i := slices.IndexFunc(f.vms, func(v tracker.VM) bool { return v.ID == id })
	if i < 0 {
		return tracker.VM{}, fmt.Errorf("VM %s: %w", id, tracker.ErrNotFound)
	}
	return f.vms[i], nil
}

func (f *fake) Protect(_ context.Context, spec tracker.Spec) (tracker.VM, error) {
	f.spec = spec
	return tracker.VM{ID: spec.ID, Name: spec.Name, Open: 1}, f.note("protect %s", spec.Name)
}

func (f *fake) Unprotect(_ context.Context, id string) error { return f.note("unprotect %s", id) }

func (f *fake) Rollover(_ context.Context, id string, walk uint64) (tracker.Epoch, error) {
	return tracker.Epoch{Number: 7}, f.note("rollover %s %d", id, walk)
}

func (f *fake) Changed(_ context.Context, id string, epoch uint64, diskID string) (tracker.Extents, error) {
	return f.extents, f.note("changed %s %d %s", id, epoch, diskID)
}

func (f *fake) ReadSealed(_ context.Context, id string, epoch uint64, diskID string, p []byte, offset int64) error {
	pattern(p, offset, byte(epoch))
	return f.note("read-sealed %s %d %s %d+%d", id, epoch, diskID, offset, len(p))
}

func (f *fake) ReadDisk(_ context.Context, id, diskID string, p []byte, offset int64) error {
	pattern(p, offset, 0)
	return f.note("read-disk %s %s %d+%d", id, diskID, offset, len(p))
}

func (f *fake) Allocated(_ context.Context, id, diskID string, from disk.Block) (disk.Extent, error) {
	err := f.note("allocated %s %s %d", id, diskID, from)
	for _, x := range f.extents {
		if x.End() > from {
			return x, err
		}
	}
	return disk.Extent{}, err
}

func (f *fake) Acknowledge(_ context.Context, id string, epoch, walk uint64) error {
	return f.note("acknowledge %s %d %d", id, epoch, walk)
}

func (f *fake) RequireWalk(_ context.Context, id, reason string) error {
	return f.note("require-walk %s %s", id, reason)
}

func (f *fake) Events(_ context.Context, after uint64) ([]tracker.Event, error) {
	return f.events, f.note("events %d", after)
}

// pattern fills p with what the fake's disks hold at offset.
func pattern(p []byte, offset int64, salt byte) {
	for i := range p {
		n := offset + int64(i)
		p[i] = byte(n) ^ byte(n>>8) ^ byte(n>>16) ^ salt
	}
}

// free is a backend whose disks cost nothing to read.
type free struct{ fake }

func (*free) ReadDisk(context.Context, string, string, []byte, int64) error { return nil }

func serveFree(b *testing.B, l net.Listener) {
	log := slog.New(slog.DiscardHandler)
	if err := control.Serve(b.Context(), l, control.NewHandler(&free{}, control.Info{}, log), log); err != nil {
		b.Error(err)
	}
}
