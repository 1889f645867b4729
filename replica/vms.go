package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"lifeboat/replica/segment"
)

// parallel bounds the requests that one call has under way.
const parallel = 16

// ErrUnknownVM tells that the repository has no such VM.
var ErrUnknownVM = errors.New("unknown VM")

// PutVM puts a generation of a VM's description. Putting the same again is no
// error; another under the same generation is a DivergenceError. A generation
// after the first must follow one with the same key, by which all that lies in
// the container was made.
func (r *Repository) PutVM(ctx context.Context, vm VM) error {
	vm.Format = format
	vm.Created = vm.Created.UTC()
	vm.Disabled = vm.Disabled.UTC()
	err := vm.Validate()
	if err == nil && vm.Generation > 1 {
		var before *VM
		if before, err = r.VM(ctx, vm.ID, vm.Generation-1); err == nil && before.Key != vm.Key {
			err = errors.New("its checksum key differs from that of the generation before")
		}
	}
	var data []byte
	if err == nil {
		data, err = encodeDocument(vm)
	}
	if err == nil {
		err = r.putOnce(ctx, vmBlob(vm.ID, vm.Generation), data)
	}
	if err != nil {
		return fmt.Errorf("describing VM %q in the container: %w", vm.Name, err)
	}
	return nil
}

// VM returns a generation of a VM's description.
func (r *Repository) VM(ctx context.Context, id string, generation uint64) (*VM, error) {
	blob := vmBlob(id, generation)
	data, err := r.read(ctx, blob)
	if err != nil {
		return nil, err
	}
	vm, err := decodeVM(data)
	if err == nil && (vm.ID != id || vm.Generation != generation) {
		err = fmt.Errorf("it describes generation %d of VM %s", vm.Generation, vm.ID)
	}
	if err != nil {
		return nil, &segment.DamageError{Blob: blob, Cause: err}
	}
	return vm, nil
}

// NewestVM returns the newest generation of a VM's description. If there is
// none, the error matches ErrUnknownVM.
func (r *Repository) NewestVM(ctx context.Context, id string) (*VM, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("%w: %q is no VM id", ErrUnknownVM, id)
	}
	var newest uint64
	prefix := vmPrefix(id) + "vm-"
	for info, err := range r.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("listing the generations of VM %s: %w", id, err)
		}
		if n, ok := parseNumbered(info.Name, prefix); ok {
			newest = max(newest, n)
		}
	}
	if newest == 0 {
		return nil, fmt.Errorf("%w: %s has no description in %s", ErrUnknownVM, id, r.store)
	}
	return r.VM(ctx, id, newest)
}

// VMs returns the newest description of every VM, ordered by name.
func (r *Repository) VMs(ctx context.Context) ([]*VM, error) {
	var ids []string
	for id, err := range r.store.Prefixes(ctx, vmsPrefix) {
		if err != nil {
			return nil, fmt.Errorf("listing the VMs: %w", err)
		}
		if ValidID(id) {
			ids = append(ids, id)
		}
	}
	vms := make([]*VM, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, id := range ids {
		group.Go(func() error {
			vm, err := r.NewestVM(ctx, id)
			if errors.Is(err, ErrUnknownVM) {
				return nil // a protection that was interrupted before it began
			}
			vms[i] = vm
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	vms = slices.DeleteFunc(vms, func(vm *VM) bool { return vm == nil })
	slices.SortFunc(vms, func(a, b *VM) int {
		return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID)
	})
	return vms, nil
}

// FindVM returns the newest description of the VM with that id or name. Of VMs
// that share a name, one that is not disabled is meant. If there is none, the
// error matches ErrUnknownVM and lists the names; a name that several VMs have
// is refused.
func (r *Repository) FindVM(ctx context.Context, idOrName string) (*VM, error) {
	if ValidID(idOrName) {
		return r.NewestVM(ctx, idOrName)
	}
	vms, err := r.VMs(ctx)
	if err != nil {
		return nil, err
	}
	var found []*VM
	var names, ids []string
	for _, vm := range vms {
		names = append(names, fmt.Sprintf("%q", vm.Name))
		if vm.Name == idOrName {
			found, ids = append(found, vm), append(ids, vm.ID)
		}
	}
	if enabled := slices.DeleteFunc(slices.Clone(found), func(vm *VM) bool { return !vm.Disabled.IsZero() }); len(enabled) == 1 {
		return enabled[0], nil
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%d VMs have the name %q; name one by its id: %s", len(found), idOrName, strings.Join(ids, ", "))
	case len(vms) == 0:
		return nil, fmt.Errorf("%w %q: %s holds no VM", ErrUnknownVM, idOrName, r.store)
	}
	return nil, fmt.Errorf("%w %q: %s holds %s", ErrUnknownVM, idOrName, r.store, strings.Join(names, ", "))
}
