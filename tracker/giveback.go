package tracker

import (
	"errors"
	"fmt"
	"os"
)

var errSpaceNeeded = errors.New("the file system of the disks is full, and the guests need the space that they take")

// MakeRoom gives back the space that before-images take on the file system of
// the disks, because a guest's change failed for want of it: recovery points
// that were not shipped yet are given up, the change is not. It takes no lock
// that anybody holds while he waits for a guest's change, and returns when the
// space is free; it may be called concurrently.
func (t *Tracker) MakeRoom() {
	t.giveImagesBack()
	t.wakeUp()
}

func (t *Tracker) giveImagesBack() {
	t.giving.Lock()
	defer t.giving.Unlock()
	for _, v := range t.list() {
		if v.imageBytes.Load() == 0 {
			continue
		}
		for _, d := range v.disks {
			if err := d.giveImagesBack(); err != nil {
				t.cfg.Logger.Warn("before-images still take space", "vm", v.name, "disk", d.path, "error", err)
			}
		}
	}
}

// giveImagesBack empties the files of the disk's before-images. The sealed
// epochs count as lost before, so nobody takes a hole for what was saved.
func (d *tracked) giveImagesBack() error {
	logs, shots := *d.logs.Load(), *d.shots.Load()
	open := logs[len(logs)-1].number
	if len(logs) > 1 {
		d.vm.loseSealed(d, open-1, errSpaceNeeded)
	}
	var errs []error
	for _, shot := range shots {
		// A later epoch's may have begun meanwhile, for what is sealed only now.
		if shot.epoch <= open {
			errs = append(errs, shot.empty(d.vm.t.imageFolder))
		}
	}
	return errors.Join(errs...)
}

// empty frees what the file takes. Whoever still copies into it leaves a few
// blocks at most, until the file goes with its epoch.
func (im *images) empty(folder *os.Root) error {
	if im.bytes.Load() == 0 {
		return nil
	}
	im.opening.Lock()
	defer im.opening.Unlock()
	if im.file == nil { // saved by a process that died, or removed meanwhile
		f, err := folder.OpenFile(im.name, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open before-image file: %w", err)
		}
		im.file = f
	}
	if err := im.file.Truncate(0); err != nil {
		return fmt.Errorf("empty before-image file: %w", err)
	}
	return nil
}
