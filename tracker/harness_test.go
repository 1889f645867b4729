package tracker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lifeboat/disk"
)

// fakeFS stands for the mount: it changes disk files as the filter would.
type fakeFS struct {
	mu        sync.Mutex
	disks     map[uint64]Tracked
	witnesses map[uint64]Witness
	held      map[uint64]bool // open for writing other than through the mount
	// broken, unless nil, is what the disk files do not let through: how many
	// bytes of a write get to the file, and the error that the guest is given.
	// What has no bytes to write fails without effect.
	broken func(length int) (int, error)

	looking sync.Mutex
	unheard []func() // what the kernel has told and nobody read
}

func newFakeFS(held map[uint64]bool) *fakeFS {
	return &fakeFS{disks: map[uint64]Tracked{}, witnesses: map[uint64]Witness{}, held: held}
}

// reach returns how much of a change reaches the file.
func (f *fakeFS) reach(length int) (int, error) {
	if f.broken == nil {
		return length, nil
	}
	return f.broken(length)
}

func (f *fakeFS) Attach(_, inode uint64, d Tracked) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[inode] {
		return errHeld
	}
	f.disks[inode] = d
	return nil
}

var errHeld = errors.New("it is open below the mount")

func (f *fakeFS) Watch(file *os.File, w Witness) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.witnesses[inodeOf(file)] = w
}

func (f *fakeFS) Detach(_, inode uint64) {
	f.looking.Lock()
	defer f.looking.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.disks, inode)
	delete(f.witnesses, inode)
}

// Look has the witnesses hear what the kernel told.
func (f *fakeFS) Look() {
	f.looking.Lock()
	defer f.looking.Unlock()
	f.mu.Lock()
	unheard := f.unheard
	f.unheard = nil
	f.mu.Unlock()
	for _, tell := range unheard {
		tell()
	}
}

// hold opens a disk for writing other than through the mount, or closes it.
func (f *fakeFS) hold(file *os.File, open bool) {
	inode := inodeOf(file)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held[inode] = open
	f.unheard = append(f.unheard, func() {
		f.mu.Lock()
		w := f.witnesses[inode]
		f.mu.Unlock()
		switch {
		case w == nil:
		case open:
			w.OpenedBelow("a test")
		default:
			w.ClosedBelow("a test")
		}
	})
}

// foreign tells whether a disk is held, or was and nobody has heard of it.
func (f *fakeFS) foreign() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, held := range f.held {
		if held {
			return true
		}
	}
	return len(f.unheard) > 0
}

func inodeOf(file *os.File) uint64 {
	s, err := stateOf(file)
	if err != nil {
		panic(err)
	}
	return s.inode
}

func (f *fakeFS) tracked(file *os.File) Tracked {
	inode := inodeOf(file)
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.disks[inode]; d != nil {
		return d
	}
	return untracked{}
}

type untracked struct{}

func (untracked) BeginChange(int64, int64) uint64 { return 0 }
func (untracked) BeginClear(int64, int64) uint64  { return 0 }
func (untracked) EndChange(uint64)                {}
func (untracked) BeginResize(int64)               {}
func (untracked) EndResize()                      {}
func (untracked) NameRemoved()                    {}

func (f *fakeFS) write(file *os.File, p []byte, offset int64) error {
	d := f.tracked(file)
	defer d.EndChange(d.BeginChange(offset, int64(len(p))))
	n, failed := f.reach(len(p))
	_, err := file.WriteAt(p[:n], offset)
	return errors.Join(err, failed)
}

func (f *fakeFS) punch(file *os.File, offset, length int64) error {
	d := f.tracked(file)
	defer d.EndChange(d.BeginClear(offset, length))
	if _, err := f.reach(0); err != nil {
		return err
	}
	return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
}

func (f *fakeFS) truncate(file *os.File, size int64) error {
	d := f.tracked(file)
	s, err := stateOf(file)
	if err != nil {
		return err
	}
	d.BeginResize(min(size, s.Size))
	defer d.EndResize()
	if _, err := f.reach(0); err != nil {
		return err
	}
	return file.Truncate(size)
}

// tb is what testing.T and rapid.T have in common here.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// host is a folder of disks with a tracker on it.
type host struct {
	t       tb
	dir     string
	folder  *os.File
	fs      *fakeFS
	tracker *Tracker
	disks   []*os.File
	// beforeReopen, unless nil, is called once, between two trackers.
	beforeReopen func()
	// onSync, unless nil, is called whenever the change log was synced, and
	// onSyncDisk when a disk file was.
	onSync     func()
	onSyncDisk func()
	syncing    sync.Mutex // guards them, and lets one at a time go on
	// roomAtOpen, unless nil, is the next tracker's room, until setRoom.
	roomAtOpen func(uint64) error
	room       atomic.Pointer[func(uint64) error]
}

// smallZone makes zones small enough for the tests' disks to have several.
const smallZone = 100

var background = context.Background()

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func check(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// startHost opens the tracker of a folder; sizes make new disks.
func startHost(t tb, dir string, sizes ...int64) *host {
	h := &host{t: t, dir: dir, fs: newFakeFS(map[uint64]bool{})}
	for i, size := range sizes {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("disk%d.img", i)))
		check(t, err)
		check(t, f.Truncate(size))
		check(t, f.Close())
	}
	paths, err := filepath.Glob(filepath.Join(dir, "disk*.img"))
	check(t, err)
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		check(t, err)
		h.disks = append(h.disks, f)
	}
	h.folder, err = os.Open(dir)
	check(t, err)
	h.reopen()
	return h
}

// stop ends the tracker and closes the disks.
func (h *host) stop() {
	if h.tracker == nil {
		return // it could not be opened, which was told
	}
	check(h.t, h.tracker.Close())
	for _, f := range h.disks {
		check(h.t, f.Close())
	}
	check(h.t, h.folder.Close())
}

// kill ends the tracker as the death of its process would: what it stored in
// files and shared mappings is there, nothing else. Then another one starts.
//
// after, unless nil, is called in the dead process: it lets go of what its
// goroutines wait for.
func (h *host) kill(after func()) {
	t := h.tracker
	h.fs.Look() // what came at its very end is never heard: a gap that is known
	own, dead := filepath.Join(h.dir, FolderName), filepath.Join(h.dir, "dead")
	h.copyOwn(dead)
	if after != nil {
		after()
	}
	t.stop()
	t.workers.Wait()
	// Closing the database writes more than a dead process could.
	if err := t.release(false); err != nil {
		h.t.Logf("release: %v", err)
	}
	check(h.t, os.RemoveAll(own))
	check(h.t, os.Rename(dead, own))
	h.reopen()
}

// copyOwn copies the tracker's folder. A copy is a state that a death can leave
// only if no file came or went meanwhile: the database tidies up in the
// background.
//
// No first touch is under way meanwhile, not even one that looks ahead: of what
// it stores, the copy might have the later part alone.
func (h *host) copyOwn(to string) {
	for _, v := range h.tracker.list() {
		for _, d := range v.disks {
			for i := range d.regions {
				d.regions[i].Lock()
				defer d.regions[i].Unlock()
			}
		}
	}
	h.tracker.daybook.posting.Lock() // what is posted must be in one place at least
	defer h.tracker.daybook.posting.Unlock()
	own := filepath.Join(h.dir, FolderName)
	for tries := 1; ; tries++ {
		check(h.t, os.RemoveAll(to))
		before := listing(own)
		out, err := exec.Command("cp", "-a", "--sparse=always", own, to).CombinedOutput()
		if err == nil && before == listing(own) {
			return
		}
		if tries == 50 {
			h.t.Fatalf("no consistent copy: %v: %s", err, out)
		}
	}
}

// listing returns the names and sizes of all files.
func listing(dir string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil {
			info, err := entry.Info()
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, path, info.Size())
		}
		return err
	})
	return b.String()
}

// restart ends the tracker in an orderly way and starts another one.
func (h *host) restart() {
	check(h.t, h.tracker.Close())
	h.reopen()
}

func (h *host) reopen() {
	h.fs = newFakeFS(h.fs.held)
	if f := h.beforeReopen; f != nil {
		h.beforeReopen = nil
		f()
	}
	h.setRoom(h.roomAtOpen)
	h.roomAtOpen = nil
	room := func(reserve uint64) error { return (*h.room.Load())(reserve) }
	var err error
	h.tracker, err = Open(Config{Folder: h.folder, FileSystem: h.fs, Logger: quiet, zoneBlocks: smallZone, room: room})
	check(h.t, err)
	h.hook()
}

// setRoom makes room what the tracker knows of free space; nil means the truth.
func (h *host) setRoom(room func(reserve uint64) error) {
	if room == nil {
		room = func(reserve uint64) error { return roomIn(h.folder, reserve) }
	}
	h.room.Store(&room)
}

// hook lets the host know of what becomes durable.
func (h *host) hook() {
	t := h.tracker
	t.syncLog = func() error {
		err := t.log.Sync()
		h.syncing.Lock()
		defer h.syncing.Unlock()
		if h.onSync != nil {
			h.onSync()
		}
		return err
	}
	t.syncDisk = func(f *os.File) error {
		err := f.Sync()
		h.syncing.Lock()
		defer h.syncing.Unlock()
		if h.onSyncDisk != nil {
			h.onSyncDisk()
		}
		return err
	}
}

var testSpec = Spec{ID: "000000000000000000000000000000aa", Name: "vm", Disks: []DiskSpec{
	{ID: "000000000000000000000000000000b0", Path: "disk0.img"},
	{ID: "000000000000000000000000000000b1", Path: "disk1.img"},
}}

// content returns a disk file's bytes.
func content(t tb, f *os.File) []byte {
	s, err := stateOf(f)
	check(t, err)
	p := make([]byte, s.Size)
	_, err = f.ReadAt(p, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read disk: %v", err)
	}
	return p
}

// replicaDisk is what somebody knows who only reads sealed epochs.
type replicaDisk struct{ bytes []byte }

// apply brings a replica forward by an epoch: what the law promises to be
// exact. The caller tells whether the floor counts.
func (r *replicaDisk) apply(h *host, e Epoch, i int, useFloor bool) error {
	ed := e.Disks[i]
	changed, err := h.tracker.Changed(background, testSpec.ID, e.Number, ed.ID)
	if err != nil {
		return err
	}
	blocks := int(disk.BlockCount(ed.Size)) * disk.BlockSize
	next := make([]byte, blocks)
	keep := int64(len(r.bytes))
	if useFloor {
		keep = min(keep, ed.Floor)
	}
	copy(next, r.bytes[:keep])
	for _, x := range changed {
		at := next[x.Start.Offset() : x.Start.Offset()+int64(x.Count)*disk.BlockSize]
		if err := h.tracker.ReadSealed(background, testSpec.ID, e.Number, ed.ID, at, x.Start.Offset()); err != nil {
			return err
		}
	}
	if tail := next[ed.Size:]; !bytes.Equal(tail, make([]byte, len(tail))) {
		return fmt.Errorf("epoch %d: bytes beyond the disk's size are not zero", e.Number)
	}
	r.bytes = next[:ed.Size]
	return nil
}
