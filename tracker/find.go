package tracker

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// aliveSlack is how much later than the last sign of life a disk file may have
// been changed by a process that was killed: signs come every beatInterval.
const aliveSlack = 10 * beatInterval

// writebackSlack is the same after a power cut, when the last sign of life is
// the last one that the kernel had written back.
const writebackSlack = 2 * time.Minute

// findDisk opens the file that a record means: by its path if that is still
// the same file, else by its handle.
func (t *Tracker) findDisk(r diskRecord) (*os.File, fileState, error) {
	file, state, err := t.openDisk(r.Path)
	if err == nil {
		if state.inode == r.Inode && slices.Equal(handleOf(file), r.Handle) {
			return file, state, nil
		}
		err = errors.Join(errors.New("another file has its name now"), file.Close())
	}
	file, byHandle := openHandle(t.cfg.Folder, r.Handle, unix.O_RDWR)
	if byHandle != nil {
		return nil, fileState{}, err
	}
	if state, err := stateOf(file); err == nil && state.regular && state.Links > 0 {
		return file, state, nil
	}
	return nil, fileState{}, errors.Join(err, file.Close())
}

// changedBehind tells, unless it is empty, why the disk file must have been
// changed while no filter was there to see it.
func (d *tracked) changedBehind(r diskRecord, s fileState, was ending) string {
	if early := d.vm.t.cfg.Early.of(d); early != nil {
		if early.used.Load() {
			return "" // this was asked before anything passed
		}
		was.lastAlive = was.until(early.pass)
	}
	if was.clean {
		if r.Stopped != nil && r.Stopped.Size == s.Size && r.Stopped.Mtime == s.Mtime && r.Stopped.Ctime == s.Ctime {
			return ""
		}
		return fmt.Sprintf("disk %s was changed while the filter was not mounted", r.Path)
	}
	slack := aliveSlack
	if !was.sameBoot {
		slack = writebackSlack
	}
	if s.changedSince(was.lastAlive, slack) {
		return fmt.Sprintf("disk %s was changed after the filter had been killed", r.Path)
	}
	return ""
}

func (s *fileState) changedSince(last time.Time, slack time.Duration) bool {
	return time.Unix(0, s.Mtime).After(last.Add(slack))
}
