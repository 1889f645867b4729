// Package tracker knows which blocks of the protected disks changed, and what
// the changed ones held at each rollover.
//
// # The law
//
// What ReadSealed returns for a block that a sealed epoch marked is what the
// disk held at that epoch's rollover, byte for byte; or it fails. Three rules
// make it so:
//
//  1. A change is announced before it is made (BeginChange) and when it is
//     over (EndChange). It belongs to the epoch in which it was announced; a
//     rollover ends an epoch for all disks of a VM at one instant, and the
//     epoch is sealed when the changes that belong to it are over: see gate.
//  2. When a block is touched for the first time in the open epoch, and a
//     sealed epoch still needs it, its content is saved first: a before-image.
//     A reader reads the disk, and looks afterwards whether the block was
//     saved meanwhile; if so, the saved one is the truth.
//  3. What cannot be saved or logged makes sealed epochs unreadable, or a walk
//     of the disks necessary; both are noted, where a crash does not lose it,
//     before the guest's write goes on. The write itself never fails for it.
//
// A disk that somebody opened other than through the mount breaks the first
// rule: see foreign.go.
//
// # What a crash leaves
//
// The bitmaps live in memory. Before the first change of a region (1 MiB) in
// an epoch, a record puts the region in doubt, at first in the daybook (see
// daybook.go) and soon in the change log; at the rollover the epoch's bitmaps
// replace its records. So a process that starts anew takes the regions of the
// open epoch as changed in full, and merges a sealed epoch that was not flushed
// into the next one. If the host lost power, hot zones and logged regions count
// as changed (see zones.go), and sealed epochs are dropped.
package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// FolderName is the name of the folder, within the folder of the disks, that
// holds the tracker's files. The mount hides it.
const FolderName = ".lifeboat"

// FileSystem is what the tracker needs of the filter file system.
type FileSystem interface {
	// Attach makes every change of the file go through d. It returns when no
	// change that began before is still going on, and fails if it cannot
	// make sure of that.
	Attach(device, inode uint64, d Tracked) error
	// Watch has w told of whoever opens the file for writing other than
	// through the mount, from the moment it returns on.
	// It stays open until Detach.
	Watch(file *os.File, w Witness)
	// Detach undoes both.
	Detach(device, inode uint64)
	// Look returns when everybody was told of who had opened a watched file
	// when it was called. No disk's resizing may be held.
	Look()
}

// Config is what Open needs.
type Config struct {
	// Folder is the folder of the disks, opened before anything was mounted
	// over it. The tracker does not close it.
	Folder     *os.File
	FileSystem FileSystem
	Logger     *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// ImageShare bounds the before-images of a VM, as a share of the size of
	// its disks; 0 means a tenth.
	ImageShare float64
	// RolloverPause, unless nil, is told how long each rollover kept waiting
	// those guests that it makes wait: at most the ones whose writes make a
	// disk longer.
	RolloverPause func(time.Duration)
	// zoneBlocks is the size of a zone; 0 means zoneBlocks, which it must be
	// wherever the records outlive the process. Tests have small ones.
	zoneBlocks disk.Block
	// room stands for Tracker.room in tests.
	room func(reserve uint64) error
}

// Tracker tracks the protected VMs of one folder. All methods may be called
// concurrently. It implements control.Backend.
type Tracker struct {
	cfg         Config
	log         *changelog.Log
	imageFolder *os.Root
	live        *liveness
	// room fails if less than reserve bytes are free. Tests replace it.
	room func(reserve uint64) error
	// syncLog makes the change log durable, syncDisk a disk file. Tests
	// replace them, too.
	syncLog  func() error
	syncDisk func(*os.File) error

	mu  sync.RWMutex // guards vms
	vms map[changelog.ID]*vm

	// incomplete tells that the change log could not be written, so that a
	// part of it exists in memory only.
	incomplete atomic.Bool
	touches    touchGroup
	daybook    *daybook
	events     eventBook
	stretches  chan stretch

	mending sync.Mutex // one round at a time
	giving  sync.Mutex // likewise: see MakeRoom
	wake    chan struct{}
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// Open opens the tracker of a folder, takes up where the last process ended,
// and attaches the protected disks to the file system.
func Open(cfg Config) (_ *Tracker, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ImageShare == 0 {
		cfg.ImageShare = 0.1
	}
	if cfg.RolloverPause == nil {
		cfg.RolloverPause = func(time.Duration) {}
	}
	if cfg.zoneBlocks == 0 {
		cfg.zoneBlocks = zoneBlocks
	}
	bootID, err := readBootID()
	if err != nil {
		return nil, err
	}
	own, err := openOwnFolder(cfg.Folder)
	if err != nil {
		return nil, err
	}
	defer own.Close() //nolint:errcheck // only directory descriptors
	t := &Tracker{cfg: cfg, vms: map[changelog.ID]*vm{}, wake: make(chan struct{}, 1), stretches: make(chan stretch, 64)}
	if t.room = cfg.room; t.room == nil {
		t.room = func(reserve uint64) error { return roomIn(cfg.Folder, reserve) }
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.release(false))
		}
	}()
	// Badger names its files by path; this one leads through the descriptor,
	// wherever the folder is and whatever is mounted over it.
	logDir := fmt.Sprintf("/proc/self/fd/%d/%s/log", cfg.Folder.Fd(), FolderName)
	if t.log, err = changelog.Open(logDir, cfg.Logger); err != nil {
		return nil, err
	}
	t.syncLog, t.syncDisk = t.log.Sync, (*os.File).Sync
	if t.imageFolder, err = own.OpenRoot("images"); err != nil {
		return nil, fmt.Errorf("open folder of before-images: %w", err)
	}
	var was ending
	if t.live, was, err = openLiveness(own, bootID); err != nil {
		return nil, err
	}
	complete, err := t.openDaybook(own, was)
	if err != nil {
		return nil, err
	}
	was.incomplete = was.incomplete || !complete
	if err := t.load(was); err != nil {
		return nil, err
	}
	t.noteIncomplete(t.failing() || t.incomplete.Load())
	if err := t.live.begin(bootID, cfg.Now()); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.workers.Go(func() { t.beat(ctx) })
	t.workers.Go(func() { t.postOften(ctx) })
	t.workers.Go(func() { t.lookAhead(ctx) })
	t.workers.Go(func() { t.mend(ctx) })
	t.workers.Go(func() { t.cool(ctx) })
	return t, nil
}

// openOwnFolder opens .lifeboat and makes it and what belongs into it.
func openOwnFolder(folder *os.File) (*os.Root, error) {
	base, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d/.", folder.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	defer base.Close() //nolint:errcheck // only a directory descriptor
	for _, name := range []string{FolderName, filepath.Join(FolderName, "log"), filepath.Join(FolderName, "images")} {
		if err := base.Mkdir(name, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("create %s in the folder of the disks, which holds the change logs: %w", name, err)
		}
	}
	own, err := base.OpenRoot(FolderName)
	if err != nil {
		return nil, fmt.Errorf("open %s in the folder of the disks: %w", FolderName, err)
	}
	return own, nil
}

// Close ends the tracking. To be called when the file system serves no more:
// the disks are taken as they are then, and a change by anybody else is found
// at the next start.
func (t *Tracker) Close() error {
	t.stop()
	t.workers.Wait()
	clean := true
	var errs []error
	for _, v := range t.list() {
		v.mu.Lock()
		err := v.park()
		v.mu.Unlock()
		if err != nil {
			clean = false
			errs = append(errs, fmt.Errorf("VM %s: %w", v.name, err))
		}
	}
	t.saveEvents()
	return errors.Join(append(errs, t.release(clean && !t.incomplete.Load()))...)
}

// park makes a VM's change log exact and durable. mu is held.
func (v *vm) park() error {
	// They are watched until it is noted how they stand.
	defer func() {
		for _, d := range v.disks {
			if d.file != nil {
				v.t.cfg.FileSystem.Detach(d.device, d.inode)
			}
		}
	}()
	if v.failure.Load() != nil {
		return errors.New("changes of its disks were not tracked")
	}
	if err := v.syncDisks(); err != nil {
		v.t.noteIncomplete(true) // the next process has to compare them
		return err
	}
	err := v.t.bulk(func(w *changelog.Writes) {
		for _, d := range v.disks {
			d.storeExact(w, d.open())
		}
	})
	if err != nil {
		return err
	}
	return v.t.commit(func(w *changelog.Writes) { w.VM(v.id, v.record(true)) })
}

// release closes all files.
func (t *Tracker) release(clean bool) error {
	var errs []error
	for _, v := range t.list() {
		errs = append(errs, v.close())
	}
	if t.log != nil {
		err := t.log.Close()
		clean = clean && err == nil
		errs = append(errs, err)
	}
	if t.live != nil {
		errs = append(errs, t.live.close(clean))
	}
	if t.daybook != nil {
		errs = append(errs, t.daybook.close())
	}
	if t.imageFolder != nil {
		errs = append(errs, t.imageFolder.Close())
	}
	return errors.Join(errs...)
}

// close gives up a VM's descriptors.
func (v *vm) close() error {
	var errs []error
	for _, d := range v.disks {
		if shots := d.shots.Load(); shots != nil {
			for _, shot := range *shots {
				errs = append(errs, shot.close())
			}
		}
		if d.file != nil {
			errs = append(errs, d.file.Close())
		}
	}
	return errors.Join(errs...)
}

func (t *Tracker) list() []*vm {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]*vm, 0, len(t.vms))
	for _, v := range t.vms {
		out = append(out, v)
	}
	return out
}

// locked returns a VM by its ID, with its mu held.
func (t *Tracker) locked(id string) (*vm, error) {
	v, err := t.vm(id)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	if v.gone {
		v.mu.Unlock()
		return nil, fmt.Errorf("VM %s: %w", id, ErrNotFound)
	}
	return v, nil
}

// vm returns a VM by its ID.
func (t *Tracker) vm(id string) (*vm, error) {
	key, err := parseID(id)
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	v := t.vms[key]
	if v == nil {
		return nil, fmt.Errorf("VM %s: %w", id, ErrNotFound)
	}
	return v, nil
}
