package uploader

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lifeboat/disk"
	"lifeboat/replica/segment"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// fakeFilter is a filter whose disks are byte slices: what control.Backend
// promises, in the simplest way. It keeps what every disk held at every
// rollover, for judging what became of it.
type fakeFilter struct {
	mu    sync.Mutex
	vms   map[string]*fakeVM
	away  bool // every call fails as if nobody listened
	reads int64
	files map[string][]byte // what is in the folder before it is protected
}

type fakeVM struct {
	tracker.VM
	disks  map[string]*fakeDisk
	sealed map[uint64]map[string]*fakeSealed
	// recorded is what the disks held at each rollover.
	recorded map[uint64]map[string][]byte
}

type fakeDisk struct {
	content []byte
	marks   map[disk.Block]bool
	floor   int64
}

type fakeSealed struct {
	content []byte
	marks   map[disk.Block]bool
}

var _ control.Backend = (*fakeFilter)(nil)

func newFakeFilter() *fakeFilter { return &fakeFilter{vms: map[string]*fakeVM{}} }

// lock takes the lock and finds the VM.
func (f *fakeFilter) lock(id string) (*fakeVM, error) {
	f.mu.Lock()
	if f.away {
		f.mu.Unlock()
		return nil, fmt.Errorf("fake filter: %w", control.ErrUnavailable)
	}
	vm := f.vms[id]
	if vm == nil {
		f.mu.Unlock()
		return nil, fmt.Errorf("VM %s: %w", id, tracker.ErrNotFound)
	}
	return vm, nil
}

func (f *fakeFilter) VMs(context.Context) ([]tracker.VM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, fmt.Errorf("fake filter: %w", control.ErrUnavailable)
	}
	var vms []tracker.VM
	for _, vm := range f.vms {
		vms = append(vms, vm.copy())
	}
	slices.SortFunc(vms, func(a, b tracker.VM) int { return strings.Compare(a.Name, b.Name) })
	return vms, nil
}

func (f *fakeFilter) VM(_ context.Context, id string) (tracker.VM, error) {
	vm, err := f.lock(id)
	if err != nil {
		return tracker.VM{}, err
	}
	defer f.mu.Unlock()
	return vm.copy(), nil
}

func (vm *fakeVM) copy() tracker.VM {
	c := vm.VM
	c.Sealed = slices.Clone(vm.Sealed)
	for i := range c.Sealed {
		c.Sealed[i].Disks = slices.Clone(c.Sealed[i].Disks)
	}
	c.Disks = slices.Clone(vm.Disks)
	for i := range c.Disks {
		c.Disks[i].Size = int64(len(vm.disks[c.Disks[i].ID].content))
	}
	return c
}

func (f *fakeFilter) Protect(_ context.Context, spec tracker.Spec) (tracker.VM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vm := range f.vms {
		if vm.ID == spec.ID || vm.Name == spec.Name {
			return tracker.VM{}, fmt.Errorf("VM %s: %w", spec.Name, tracker.ErrExists)
		}
	}
	vm := &fakeVM{
		VM:    tracker.VM{ID: spec.ID, Name: spec.Name, Open: 1, Walk: tracker.Walk{Number: 1, Required: true, Reason: "new", Since: time.Now()}},
		disks: map[string]*fakeDisk{}, sealed: map[uint64]map[string]*fakeSealed{}, recorded: map[uint64]map[string][]byte{},
	}
	for _, d := range spec.Disks {
		vm.Disks = append(vm.Disks, tracker.Disk{ID: d.ID, Path: d.Path})
		content := slices.Clone(f.files[d.Path])
		vm.disks[d.ID] = &fakeDisk{content: content, floor: int64(len(content)), marks: map[disk.Block]bool{}}
	}
	f.vms[spec.ID] = vm
	return vm.copy(), nil
}

func (f *fakeFilter) Unprotect(_ context.Context, id string) error {
	if _, err := f.lock(id); err != nil {
		return err
	}
	defer f.mu.Unlock()
	delete(f.vms, id)
	return nil
}

func (f *fakeFilter) Rollover(_ context.Context, id string, walk uint64) (tracker.Epoch, error) {
	vm, err := f.lock(id)
	if err != nil {
		return tracker.Epoch{}, err
	}
	defer f.mu.Unlock()
	if vm.Walk.Required && walk != vm.Walk.Number {
		return tracker.Epoch{}, fmt.Errorf("VM %s: %w", vm.Name, tracker.ErrWalkRequired)
	}
	e := tracker.Epoch{Number: vm.Open, SealedAt: time.Now().UTC()}
	vm.sealed[e.Number] = map[string]*fakeSealed{}
	vm.recorded[e.Number] = map[string][]byte{}
	for _, d := range vm.Disks {
		fd := vm.disks[d.ID]
		size := int64(len(fd.content))
		content := slices.Clone(fd.content)
		vm.recorded[e.Number][d.ID] = content
		vm.sealed[e.Number][d.ID] = &fakeSealed{content: content, marks: fd.marks}
		e.Disks = append(e.Disks, tracker.EpochDisk{ID: d.ID, Path: d.Path, Size: size, Floor: min(size, fd.floor), Blocks: uint64(len(fd.marks))})
		fd.marks, fd.floor = map[disk.Block]bool{}, size
	}
	vm.Sealed = append(vm.Sealed, e)
	vm.Open++
	e.Disks = slices.Clone(e.Disks)
	return e, nil
}

func (vm *fakeVM) find(epoch uint64, diskID string) (*fakeSealed, error) {
	s := vm.sealed[epoch]
	if s == nil || s[diskID] == nil {
		return nil, fmt.Errorf("epoch %d of VM %s: %w", epoch, vm.Name, tracker.ErrEpochGone)
	}
	return s[diskID], nil
}

func (f *fakeFilter) Changed(_ context.Context, id string, epoch uint64, diskID string) (tracker.Extents, error) {
	vm, err := f.lock(id)
	if err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	s, err := vm.find(epoch, diskID)
	if err != nil {
		return nil, err
	}
	var x tracker.Extents
	for _, b := range slices.Sorted(maps.Keys(s.marks)) {
		switch last := len(x) - 1; {
		case uint64(b) >= disk.BlockCount(int64(len(s.content))):
		case last >= 0 && x[last].End() == b:
			x[last].Count++
		default:
			x = append(x, disk.Extent{Start: b, Count: 1})
		}
	}
	return x, nil
}

func (f *fakeFilter) ReadSealed(_ context.Context, id string, epoch uint64, diskID string, p []byte, offset int64) error {
	vm, err := f.lock(id)
	if err != nil {
		return err
	}
	defer f.mu.Unlock()
	s, err := vm.find(epoch, diskID)
	if err != nil {
		return err
	}
	x := disk.ExtentOf(offset, int64(len(p)))
	for b := x.Start; b < x.End(); b++ {
		if !s.marks[b] {
			return fmt.Errorf("block %d is not marked in epoch %d: %w", b, epoch, tracker.ErrInvalid)
		}
	}
	readAt(s.content, p, offset)
	return nil
}

func (f *fakeFilter) ReadDisk(_ context.Context, id, diskID string, p []byte, offset int64) error {
	vm, err := f.lock(id)
	if err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.reads += int64(len(p))
	readAt(vm.disks[diskID].content, p, offset)
	return nil
}

func readAt(content, p []byte, offset int64) {
	clear(p)
	if offset < int64(len(content)) {
		copy(p, content[offset:])
	}
}

// Allocated takes zero blocks for holes, but for some.
func (f *fakeFilter) Allocated(_ context.Context, id, diskID string, from disk.Block) (disk.Extent, error) {
	vm, err := f.lock(id)
	if err != nil {
		return disk.Extent{}, err
	}
	defer f.mu.Unlock()
	content := vm.disks[diskID].content
	end := disk.Block(disk.BlockCount(int64(len(content))))
	block := make([]byte, disk.BlockSize)
	data := func(b disk.Block) bool {
		readAt(content, block, b.Offset())
		return b%7 == 3 || !segment.IsZero(block)
	}
	for from < end && !data(from) {
		from++
	}
	x := disk.Extent{Start: from}
	for x.End() < end && data(x.End()) {
		x.Count++
	}
	return x, nil
}

func (f *fakeFilter) Acknowledge(_ context.Context, id string, epoch, walk uint64) error {
	vm, err := f.lock(id)
	if err != nil {
		return err
	}
	defer f.mu.Unlock()
	for len(vm.Sealed) > 0 && vm.Sealed[0].Number <= epoch {
		delete(vm.sealed, vm.Sealed[0].Number)
		vm.Sealed = vm.Sealed[1:]
	}
	if walk != 0 && walk == vm.Walk.Number {
		vm.Walk = tracker.Walk{Number: walk}
	}
	return nil
}

func (f *fakeFilter) RequireWalk(_ context.Context, id, reason string) error {
	vm, err := f.lock(id)
	if err != nil {
		return err
	}
	defer f.mu.Unlock()
	vm.Walk = tracker.Walk{Number: vm.Walk.Number + 1, Required: true, Reason: reason, Since: time.Now()}
	vm.sealed = map[uint64]map[string]*fakeSealed{}
	vm.Sealed = nil
	return nil
}

func (f *fakeFilter) Events(context.Context, uint64) ([]tracker.Event, error) { return nil, nil }
