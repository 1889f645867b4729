package tracker

import (
	"lifeboat/disk"
	"lifeboat/tracker/changelog"
	"lifeboat/tracker/passes"
)

// NewPasses makes passes in a memfd, which the caller owns.
func NewPasses() (fd int, err error) { return passes.Create(zoneBlocks) }

// MapPasses maps those in fd, which stays the caller's.
func MapPasses(fd int) (*passes.Passes, error) { return passes.Map(fd, zoneBlocks) }

// enter makes the disk known among the passes, in its open epoch; false means
// that the next process will not know of it. The VM's mu is held.
func (d *tracked) enter() bool {
	if d.file == nil || d.vm.t.cfg.Passes == nil {
		return true
	}
	d.pass = d.vm.t.cfg.Passes.Enter(passes.Identity{
		ID: passes.ID(d.id), Device: d.device, Inode: d.inode, Handle: string(d.handle),
	}, d.vm.open)
	d.pass.SetIdle(len(d.vm.sealed) == 0)
	d.publish()
	return d.pass != nil
}

// succeed has the disk be told of what the early one was until now, if there is
// one, and takes what early ones remembered. The VM's mu is held.
func (d *tracked) succeed() {
	if early := d.vm.t.cfg.Early.of(d); early != nil {
		d.vm.t.cfg.FileSystem.Watch(d.file, d)
		early.decide(d)
	}
	d.takeTouched()
}

// takeTouched makes what was touched before the tracker was open part of the open
// epoch. Nothing is remembered so any more, and the disk's changes come here, but
// no rollover can begin. The VM's mu is held.
func (d *tracked) takeTouched() {
	touched := d.pass.Touched()
	if len(touched) == 0 {
		return
	}
	open := d.open()
	err := d.vm.t.bulk(func(w *changelog.Writes) {
		for _, r := range touched {
			w.RegionInDoubt(d.id, open.number, r)
		}
	})
	if err != nil {
		d.vm.t.logBroke(err)
	}
	for _, n := range touched {
		r := region(n)
		lock := &d.regions[r%shards]
		lock.Lock()
		open.extra.add(r, changelog.AllBits())
		open.logged.set(disk.Block(r))
		lock.Unlock()
	}
	if err == nil {
		d.pass.Forget()
	}
}

// publish gives passes for all that the change log has. The VM's mu is held.
func (d *tracked) publish() {
	if d.pass == nil || d.vm.t.incomplete.Load() {
		return
	}
	d.zones.mu.Lock()
	defer d.zones.mu.Unlock()
	for n := range d.zones.hot.each() {
		d.pass.Heat(uint64(n))
	}
	for r, set := range d.open().marks.regions() {
		d.pass.Mark(d.vm.open, r.first(), set[:])
	}
}
