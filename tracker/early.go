package tracker

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"lifeboat/tracker/passes"
)

// Early stands for the tracker until it is open, on a mount whose filter died:
// to open the change log takes a while, and guests do not wait for it with what
// the passes allow. Everything else that they do to a protected disk waits, and
// then goes through the tracker.
//
// What a pass lets through is over before a rollover can begin, since the
// tracker's disk takes the early one's place only when no change of it is under
// way.
type Early struct {
	cfg   Config
	disks []*earlyDisk
	// lapsed tells that changes went by untracked.
	lapsed atomic.Bool
}

// Anticipate attaches every protected disk that the process before has told of.
// It returns nil if that did not tell of all: then the tracker has to be open
// before any request is answered. cfg is for Open, which has to be given what is
// returned.
func Anticipate(cfg Config) *Early {
	if !cfg.Passes.Complete() {
		return nil
	}
	e := &Early{cfg: cfg}
	was, err := howItEnded(cfg.Folder)
	if err != nil {
		cfg.Logger.Warn("how the filter before ended is not known, so changes wait for the change log", "error", err)
	} else if was.passes != cfg.Passes.Name() {
		return nil // somebody has tracked since who did not keep them
	}
	// After a clean stop a disk has to be exactly as it was, so nothing may
	// change it before that has been looked at.
	passable := err == nil && !was.first && !was.clean && was.sameBoot
	for _, pass := range cfg.Passes.Disks() {
		d := &earlyDisk{pass: pass, identity: pass.Identity(), decided: make(chan struct{})}
		if passable {
			if err := d.look(cfg.Folder, was); err != nil {
				cfg.Logger.Warn("changes of a disk wait for the change log", "inode", d.identity.Inode, "error", err)
			}
		}
		if d.file != nil {
			cfg.FileSystem.Watch(d.file, d)
		}
		cfg.FileSystem.Anticipate(d.identity.Device, d.identity.Inode, d)
		e.disks = append(e.disks, d)
	}
	return e
}

// howItEnded tells how the last process ended, and changes nothing.
func howItEnded(folder *os.File) (ending, error) {
	bootID, err := readBootID()
	if err != nil {
		return ending{}, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s/liveness", folder.Fd(), FolderName))
	if err != nil {
		return ending{}, fmt.Errorf("read liveness file: %w", err)
	}
	if len(b) < livenessSize {
		return ending{}, fmt.Errorf("liveness file has %d bytes", len(b))
	}
	return (&liveness{mem: b}).previous(bootID), nil
}

// Forgo lets every change go on untracked from now on, because the tracker
// cannot be opened: a guest's I/O waits for nothing that may never come. That
// the change log is incomplete is noted before, durably, so that whoever opens
// it demands a walk and reads no sealed epoch; so nobody needs before-images.
func (e *Early) Forgo() error {
	if e.lapsed.Load() {
		return nil
	}
	bootID, err := readBootID()
	if err != nil {
		return err
	}
	own, err := openOwnFolder(e.cfg.Folder)
	if err != nil {
		return err
	}
	defer own.Close() //nolint:errcheck // only directory descriptors
	live, _, err := openLiveness(own, bootID)
	if err != nil {
		return err
	}
	if err := errors.Join(live.setIncomplete(true), live.sync(), live.close(false)); err != nil {
		return err
	}
	e.lapsed.Store(true)
	for _, d := range e.disks {
		d.decide(nil)
	}
	return emptyImages(own)
}

// emptyImages gives back the space that before-images take.
func emptyImages(own *os.Root) error {
	folder, err := own.OpenRoot("images")
	if err != nil {
		return fmt.Errorf("open folder of before-images: %w", err)
	}
	defer folder.Close() //nolint:errcheck // only a directory descriptor
	names, err := namesIn(folder)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, folder.Remove(name))
	}
	return errors.Join(errs...)
}

// of returns what stands for a disk, nil if nothing does.
func (e *Early) of(d *tracked) *earlyDisk {
	if e == nil || d.file == nil {
		return nil
	}
	for _, early := range e.disks {
		if x := early.identity; x.ID == passes.ID(d.id) && x.Device == d.device && x.Inode == d.inode {
			return early
		}
	}
	return nil
}

// untracked tells whether changes went by untracked.
func (e *Early) untracked() bool { return e != nil && e.lapsed.Load() }

// dismiss lets what nobody succeeds go on: the tracker is open, and disks that
// it does not know are not protected.
func (e *Early) dismiss() {
	if e == nil {
		return
	}
	for _, d := range e.disks {
		if d.next.Load() == nil {
			d.decide(nil)
		}
	}
}

// end lets go of all, after dismiss and when the others' successors are
// attached.
func (e *Early) end() {
	if e == nil {
		return
	}
	for _, d := range e.disks {
		if d.next.Load().disk == nil {
			e.cfg.FileSystem.Detach(d.identity.Device, d.identity.Inode)
			d.pass.Remove()
		}
		if d.file != nil {
			_ = d.file.Close() // nothing was written through it
		}
	}
}
