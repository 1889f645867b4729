package tracker

import (
	"fmt"

	"lifeboat/tracker/changelog"
)

// A disk file may be opened other than through the mount: by a process that
// reaches it by another path, or by a loop device. What is written there has
// neither marks nor before-images. So from the opening on the VM is in doubt:
// sealed epochs cannot be read, and a walk is required. While the disk is held
// like that no epoch is sealed, not even to close a walk, since what was walked
// may change unseen; and when it is held no more, another walk is required.
//
// The doubt is stored, durably, before anything else happens, and is taken away
// when the walk is stored that resolves it and nobody holds a disk. So whoever
// takes up the change logs of a process that died meanwhile has it, too.

// Witness is told of who has a disk file open for writing other than through the
// mount: see fusefs.Witness.
type Witness interface {
	OpenedBelow(by string)
	ClosedBelow(by string)
}

// OpenedBelow implements Witness.
func (d *tracked) OpenedBelow(by string) {
	text := fmt.Sprintf("disk %s is open for writing other than through the mount, by %s", d.name(), by)
	if d.holder.Swap(&text) == nil {
		d.vm.suspect(d, EventForeignWriter, text)
	}
}

// ClosedBelow implements Witness.
func (d *tracked) ClosedBelow(by string) {
	d.holder.Store(nil)
	d.vm.suspect(d, EventForeignWriter, fmt.Sprintf("disk %s was open for writing other than through the mount, by %s", d.name(), by))
}

// suspect notes that a disk may have changed unseen. It takes no lock of the
// VM's, since whoever holds those may wait for it.
func (v *vm) suspect(d *tracked, code, reason string) {
	v.doubt.Store(&reason)
	v.t.logTouch(func(w *changelog.Writes) { w.Doubt(v.id, reason) })
	if err := v.t.syncLog(); err != nil {
		v.t.cfg.Logger.Error("a power cut now would hide that a disk may have changed unseen", "vm", v.name, "error", err)
	}
	v.t.event(v, d, code, reason)
	v.t.wakeUp()
}

// held tells which disk is held and by whom, empty if none is.
func (v *vm) held() string {
	for _, d := range v.disks {
		if text := d.holder.Load(); text != nil {
			return *text
		}
	}
	return ""
}

// resolve takes the stored doubt away when a walk is stored, unless a disk is
// held. mu is held.
func (v *vm) resolve() error {
	was := v.doubt.Load()
	if err := v.t.commit(func(w *changelog.Writes) { w.Doubt(v.id, v.held()) }); err != nil {
		return err
	}
	if now := v.doubt.Load(); now != was { // what it stored may have been overwritten
		return v.t.commit(func(w *changelog.Writes) { w.Doubt(v.id, *now) })
	}
	return nil
}

// unsuspected fails if a disk may have changed unseen before it was called.
func (v *vm) unsuspected() error {
	v.t.cfg.FileSystem.Look()
	if reason := v.doubt.Load(); reason != nil {
		return fmt.Errorf("%w: %s", ErrWalkRequired, *reason)
	}
	return nil
}

// unresized returns how the disk file stands, and fails if its size is not what
// the changes seen have made of it: truncate opens no file, so nobody is told of
// it. resizing is held.
func (d *tracked) unresized() (fileState, error) {
	d.growing.Lock()
	defer d.growing.Unlock()
	s, err := stateOf(d.file)
	if size := d.size.Load(); err == nil && s.Size != size {
		d.size.Store(s.Size)
		reason := fmt.Sprintf("disk %s had %d bytes and has %d, which was not done through the mount", d.name(), size, s.Size)
		d.vm.suspect(d, EventForeignWriter, reason)
		err = fmt.Errorf("%w: %s", ErrWalkRequired, reason)
	}
	return s, err
}

// name is the disk's path as it is now, for people.
func (d *tracked) name() string {
	if d.file != nil {
		if path, ok := d.vm.t.pathOf(d.file); ok {
			return path
		}
	}
	return d.idText()
}
