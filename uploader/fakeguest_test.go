package uploader

import (
	"time"

	"lifeboat/disk"
	"lifeboat/tracker"
)

// What a guest, a faulty host and a full change log do to a fake filter.

// write changes bytes; the disk grows if it has to.
func (f *fakeFilter) write(id, diskID string, offset int64, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.vms[id].disks[diskID]
	if end := offset + int64(len(data)); end > int64(len(d.content)) {
		d.content = append(d.content, make([]byte, end-int64(len(d.content)))...)
	}
	copy(d.content[offset:], data)
	d.mark(offset, int64(len(data)))
}

func (d *fakeDisk) mark(offset, length int64) {
	x := disk.ExtentOf(offset, length)
	for b := x.Start; b < x.End(); b++ {
		d.marks[b] = true
	}
}

// alsoMark marks blocks that did not change, as a log that is kept by region
// does.
func (f *fakeFilter) alsoMark(id, diskID string, offset, length int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vms[id].disks[diskID].mark(offset, length)
}

// resize cuts the disk off or makes it longer.
func (f *fakeFilter) resize(id, diskID string, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	vm := f.vms[id]
	d := vm.disks[diskID]
	old := int64(len(d.content))
	keep := min(size, old)
	if vm.Walk.Required && keep < old {
		d.mark(keep, old-keep) // a walk may have read what is cut off
	}
	if keep%disk.BlockSize != 0 {
		d.mark(keep, 1)
	}
	d.floor = min(d.floor, keep)
	if size < old {
		d.content = d.content[:size:size]
	} else {
		d.content = append(d.content[:old:old], make([]byte, size-old)...)
	}
}

// merge gives the oldest sealed epoch up, as back-pressure does.
func (f *fakeFilter) merge(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	vm := f.vms[id]
	if len(vm.Sealed) == 0 {
		return
	}
	gone := vm.Sealed[0]
	vm.Sealed = vm.Sealed[1:]
	for i, d := range vm.Disks {
		marks, floor := vm.disks[d.ID].marks, &vm.disks[d.ID].floor
		if len(vm.Sealed) > 0 {
			marks, floor = vm.sealed[vm.Sealed[0].Number][d.ID].marks, &vm.Sealed[0].Disks[i].Floor
		}
		for b := range vm.sealed[gone.Number][d.ID].marks {
			marks[b] = true
		}
		*floor = min(*floor, gone.Disks[i].Floor)
	}
	delete(vm.sealed, gone.Number)
	vm.GivenUp++
}

// loseLog is a change log that failed: marks are lost and a walk is required.
func (f *fakeFilter) loseLog(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	vm := f.vms[id]
	for _, d := range vm.disks {
		clear(d.marks)
	}
	vm.Walk = tracker.Walk{Number: vm.Walk.Number + 1, Required: true, Reason: "the log was lost", Since: time.Now()}
	vm.sealed = map[uint64]map[string]*fakeSealed{}
	vm.Sealed = nil
}

// rename gives a disk another path.
func (f *fakeFilter) rename(id string, n int, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vms[id].Disks[n].Path = path
}
