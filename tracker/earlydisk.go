package tracker

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
	"lifeboat/tracker/passes"
)

// earlyDisk is a protected disk whose tracker is not there yet.
type earlyDisk struct {
	pass     *passes.Disk
	identity passes.Identity
	file     *os.File // nil unless passes may be used
	size     int64
	used     atomic.Bool // something passed

	// passing is held while something passes, and while it is decided that
	// nothing does any more.
	passing  sync.Mutex
	next     atomic.Pointer[successor] // nil until it is decided
	deciding sync.Once
	decided  chan struct{}
	resizing Tracked // who was told of the resizing under way

	removed atomic.Bool
	foreign atomic.Pointer[string]
}

// successor is who is told of changes from now on; nobody, if its disk is nil.
type successor struct{ disk Tracked }

// later is the bit of a change that the successor knows.
const later = 1 << 63

// look opens the disk file and finds out whether its passes may be used.
func (d *earlyDisk) look(folder *os.File, was ending) error {
	file, err := openHandle(folder, []byte(d.identity.Handle), unix.O_PATH)
	if err != nil {
		return err
	}
	state, err := stateOf(file)
	if err == nil && (!state.regular || state.device != d.identity.Device || state.inode != d.identity.Inode) {
		err = errors.New("it is another file")
	}
	if err == nil && state.changedSince(was.until(d.pass), aliveSlack) {
		err = errors.New("it was changed after the filter had been killed")
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	d.file, d.size = file, state.Size
	return nil
}

// until returns the last time when the disk may have been changed rightly: an
// early disk that died, too, had looked before it let anything pass.
func (e ending) until(pass *passes.Disk) time.Time {
	if alive := time.Unix(0, pass.Alive()); alive.After(e.lastAlive) {
		return alive
	}
	return e.lastAlive
}

// decide says who is told of changes from now on; nil is nobody.
func (d *earlyDisk) decide(next Tracked) {
	d.passing.Lock()
	d.next.Store(&successor{next})
	d.passing.Unlock()
	d.deciding.Do(func() { close(d.decided) })
	if next == nil {
		return
	}
	if d.removed.Load() {
		next.NameRemoved()
	}
	if witness, ok := next.(Witness); ok {
		if by := d.foreign.Load(); by != nil {
			witness.ClosedBelow(*by)
		}
	}
}

// await returns who is told of changes, when it is decided.
func (d *earlyDisk) await() Tracked {
	<-d.decided
	return d.next.Load().disk
}

// passes tells whether a change may go on by itself.
func (d *earlyDisk) passes(offset, length int64) bool {
	d.passing.Lock()
	defer d.passing.Unlock()
	if d.next.Load() != nil || d.file == nil || length <= 0 || offset > d.size-length {
		return false
	}
	if !d.pass.Pass(disk.ExtentOf(offset, length)) {
		return false
	}
	d.used.Store(true)
	d.pass.Lived(time.Now().UnixNano())
	return true
}

// BeginChange implements Tracked.
func (d *earlyDisk) BeginChange(offset, length int64) (change uint64) {
	if d.passes(offset, length) {
		return 0
	}
	if next := d.await(); next != nil {
		return next.BeginChange(offset, length) | later
	}
	return 0
}

// BeginClear implements Tracked.
func (d *earlyDisk) BeginClear(offset, length int64) (change uint64) {
	if next := d.await(); next != nil {
		return next.BeginClear(offset, length) | later
	}
	return 0
}

// EndChange implements Tracked.
func (d *earlyDisk) EndChange(change uint64) {
	if change&later != 0 {
		d.await().EndChange(change &^ later)
		return
	}
	if d.used.Load() {
		d.pass.Lived(time.Now().UnixNano())
	}
}

// BeginResize implements Tracked.
func (d *earlyDisk) BeginResize(keep int64) {
	if d.resizing = d.await(); d.resizing != nil {
		d.resizing.BeginResize(keep)
	}
}

// EndResize implements Tracked.
func (d *earlyDisk) EndResize() {
	if d.resizing != nil {
		d.resizing.EndResize()
	}
}

// NameRemoved implements Tracked.
func (d *earlyDisk) NameRemoved() {
	d.removed.Store(true)
	if next := d.next.Load(); next != nil && next.disk != nil {
		next.disk.NameRemoved()
	}
}

// OpenedBelow implements Witness.
func (d *earlyDisk) OpenedBelow(by string) { d.heard(by) }

// ClosedBelow implements Witness.
func (d *earlyDisk) ClosedBelow(by string) { d.heard(by) }

// heard remembers it for the successor, who finds by himself whether somebody
// still has the disk open.
func (d *earlyDisk) heard(by string) {
	d.foreign.Store(&by)
	if next := d.next.Load(); next != nil {
		if witness, ok := next.disk.(Witness); ok {
			witness.ClosedBelow(by)
		}
	}
}
