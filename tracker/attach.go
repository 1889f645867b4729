package tracker

import "fmt"

// attachAll has the changes of all disks go through the tracker, which cannot
// fail to open any more: there is nobody else they could go through.
func (t *Tracker) attachAll() {
	known := true
	for _, v := range t.list() {
		v.mu.Lock()
		for _, d := range v.disks {
			known = d.enter() && known
			d.succeed()
		}
		v.mu.Unlock()
	}
	t.cfg.Early.dismiss()
	// Nothing waits for a decision any more. Before, it might have kept another
	// disk from being attached: a guest may copy from one to the other.
	for _, v := range t.list() {
		v.mu.Lock()
		// A disk that cannot be attached must not keep the folder from being
		// mounted: its VM needs it. settle tries again.
		for _, d := range v.disks {
			if err := v.attach(d); err != nil {
				why := err.Error()
				d.holder.Store(&why)
				v.suspect(d, EventUntracked, why)
			}
		}
		if t.cfg.Early.untracked() {
			v.catchUp()
		}
		v.mu.Unlock()
	}
	t.cfg.Early.end()
	t.cfg.Passes.SetComplete(known)
}

// catchUp is for changes that went by untracked until now. A walk is required,
// and will ship them; no hot zone would tell that a power cut took one back. mu
// is held.
func (v *vm) catchUp() {
	for _, d := range v.disks {
		if d.file == nil {
			continue
		}
		d.measure()
		if err := d.sync(); err != nil {
			v.fail(d, fmt.Errorf("what was written to it may be lost: %w", err))
		}
	}
}

// attach makes the changes of a disk go through the tracker from now on. mu is
// held.
func (v *vm) attach(d *tracked) error {
	if d.file == nil || d.attached {
		return nil
	}
	// Watched first: who opens it from now on is told of, and Attach finds who
	// has it open already.
	v.t.cfg.FileSystem.Watch(d.file, d)
	if err := v.t.cfg.FileSystem.Attach(d.device, d.inode, d); err != nil {
		return fmt.Errorf("track disk %s: %w", d.path, err)
	}
	d.attached = true
	return nil
}
