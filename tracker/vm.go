package tracker

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker/changelog"
)

// vm is a protected VM.
type vm struct {
	t    *Tracker
	id   changelog.ID
	name string

	// mu serialises everything but the write path and the reading of sealed
	// epochs.
	mu      sync.Mutex
	gone    bool       // not protected any more
	disks   []*tracked // never changed
	open    uint64
	limit   uint64 // no epoch above it was opened before it was made durable
	sealed  []*sealedEpoch
	walk    Walk
	givenUp uint64

	// retire is held for reading while a sealed epoch is read, and for
	// writing while one is taken away.
	retire sync.RWMutex

	// lostThrough is the last sealed epoch that lacks a before-image.
	lostThrough atomic.Uint64
	// failure tells why changes were not tracked, nil if they were.
	failure atomic.Pointer[string]
	// doubt tells why a disk may have changed unseen, nil if none may have, or
	// a walk is required for it. See foreign.go.
	doubt atomic.Pointer[string]

	// walking is walk.Required, for the write path.
	walking atomic.Bool
	// turn counts the rollovers of this process, and the graces: see gate.
	turn atomic.Uint64

	imageBytes atomic.Int64 // of all disks
	imageLimit atomic.Int64
}

// sealedEpoch is an epoch between its rollover and its acknowledgement, as it
// is stored in the change log.
type sealedEpoch struct {
	Epoch
	// Exact tells that the log holds the epoch's bitmaps. Until then it holds
	// regions in doubt, and of those a process that starts anew cannot tell
	// which blocks it could still read.
	Exact bool `json:"exact"`
}

// copy returns the epoch for the outside: a merge may still change ours.
func (s *sealedEpoch) copy() Epoch {
	e := s.Epoch
	e.Disks = slices.Clone(e.Disks)
	return e
}

// vmRecord is a VM as it is stored in the change log.
type vmRecord struct {
	Name    string       `json:"name"`
	Open    uint64       `json:"open"`
	Limit   uint64       `json:"limit"`
	Walk    Walk         `json:"walk"`
	GivenUp uint64       `json:"given_up"`
	Disks   []diskRecord `json:"disks"`
}

type diskRecord struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	Inode  uint64 `json:"inode"`
	Handle []byte `json:"handle,omitempty"`
	// Stopped is how the disk file stood at the last clean stop.
	Stopped *fileState `json:"stopped,omitempty"`
}

// floorRecord is a disk's floor in an epoch, as it is stored.
type floorRecord struct {
	Floor int64 `json:"floor"`
	// Resizing is the size to which the disk was being cut when this was
	// written, noResize if it was not.
	Resizing int64 `json:"resizing"`
}

const noResize = -1

// epochReserve is how many epochs ahead the number is made durable: after a
// power cut the next epoch is one that never was.
const epochReserve = 4096

func parseID(s string) (id changelog.ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%w: identity %q is not %d hexadecimal digits", ErrInvalid, s, 2*len(id))
	}
	return changelog.ID(b), nil
}

func (v *vm) idText() string { return hex.EncodeToString(v.id[:]) }

func (d *tracked) idText() string { return hex.EncodeToString(d.id[:]) }

// record returns the VM's record as of now. mu is held.
func (v *vm) record(stopped bool) []byte {
	r := vmRecord{Name: v.name, Open: v.open, Limit: v.limit, Walk: v.walk, GivenUp: v.givenUp}
	for _, d := range v.disks {
		dr := diskRecord{ID: d.idText(), Path: d.path, Inode: d.inode, Handle: d.handle}
		if stopped && d.file != nil {
			if s, err := stateOf(d.file); err == nil {
				dr.Stopped = &s
			}
		}
		r.Disks = append(r.Disks, dr)
	}
	return mustJSON(r)
}

// mustJSON encodes one of the records above, of which every value can be.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}

// newDisk returns a disk of the VM that has no file and no log yet.
func (v *vm) newDisk(id changelog.ID, path string, inode uint64, handle []byte) *tracked {
	d := &tracked{id: id, vm: v, path: path, inode: inode, handle: handle}
	d.gate.init(&v.turn)
	d.zones.init(v.t)
	return d
}

// logFloor stores the floor of the open epoch. resizing is held.
func (d *tracked) logFloor(resizing int64) {
	open := d.open()
	record := mustJSON(floorRecord{Floor: open.floor.Load(), Resizing: resizing})
	d.vm.t.logTouch(func(w *changelog.Writes) { w.Floor(d.id, open.number, record) })
}

// loseSealed notes that sealed epochs cannot be read any more, durably, before
// the guest's write that overwrites them goes on. It takes no lock, for it is
// called on the write path.
func (v *vm) loseSealed(d *tracked, through uint64, cause error) {
	for {
		was := v.lostThrough.Load()
		if was >= through {
			return
		}
		if v.lostThrough.CompareAndSwap(was, through) {
			break
		}
	}
	v.t.logTouch(func(w *changelog.Writes) { w.Lost(v.id, through) })
	v.t.event(v, d, EventImagesFailed, fmt.Sprintf(
		"before-images cannot be kept, so the recovery points not yet shipped are given up; their changes come with the next one: %v", cause))
	v.t.wakeUp()
}

// fail notes that changes of a disk may be missing in the log. It takes no
// lock, like loseSealed.
func (v *vm) fail(d *tracked, cause error) {
	text := fmt.Sprintf("disk %s: %v", d.path, cause)
	v.failure.Store(&text)
	v.t.noteIncomplete(true)
	v.t.event(v, d, EventLogFailed, text)
	v.t.wakeUp()
}

// describe returns the VM for the outside. mu is held.
func (v *vm) describe() VM {
	out := VM{
		ID: v.idText(), Name: v.name, Open: v.open, Walk: v.walk, GivenUp: v.givenUp,
		Disks: make([]Disk, 0, len(v.disks)), Sealed: make([]Epoch, 0, len(v.sealed)),
		BeforeImageBytes: v.imageBytes.Load(), LogFailed: v.t.incomplete.Load(),
	}
	out.Held = v.held() // before the doubt: it may end meanwhile, in doubt
	unsettled := false
	for _, reason := range []*string{v.failure.Load(), v.doubt.Load()} {
		if reason == nil {
			continue
		}
		unsettled = true
		if !out.Walk.Required {
			out.Walk.Required, out.Walk.Reason = true, *reason
		}
	}
	var paths []string
	for _, d := range v.disks {
		out.Disks = append(out.Disks, d.describe())
		paths = append(paths, out.Disks[len(out.Disks)-1].Path)
		for _, e := range *d.logs.Load() {
			out.PendingBytes += int64(e.marks.count()+e.extra.count()) * disk.BlockSize
		}
	}
	v.apart(paths)
	for i := range out.Disks {
		out.Disks[i].Path = paths[i]
	}
	if unsettled {
		return out // what is sealed is as good as dropped
	}
	lost := v.lostThrough.Load()
	for _, s := range v.sealed {
		if s.Number > lost {
			out.Sealed = append(out.Sealed, s.copy())
		}
	}
	return out
}

func (d *tracked) describe() Disk {
	out := Disk{ID: d.idText(), Path: d.path, Removed: d.removed.Load()}
	if d.file == nil {
		out.Removed = true
		return out
	}
	if s, err := stateOf(d.file); err == nil {
		out.Size = s.Size
	}
	if path, ok := d.vm.t.pathOf(d.file); ok {
		out.Path = path
	}
	return out
}

// sealedAt returns the place of an epoch in v.sealed, or an error that tells
// why it cannot be read. mu is held.
func (v *vm) sealedAt(epoch uint64) (int, error) {
	for i, s := range v.sealed {
		if s.Number == epoch {
			return i, nil
		}
	}
	if epoch < v.open {
		return 0, fmt.Errorf("epoch %d of VM %s: %w", epoch, v.name, ErrEpochGone)
	}
	return 0, fmt.Errorf("epoch %d of VM %s is not sealed: %w", epoch, v.name, ErrNotFound)
}

func (v *vm) disk(id string) (*tracked, error) {
	for _, d := range v.disks {
		if d.idText() == id {
			return d, nil
		}
	}
	return nil, fmt.Errorf("disk %s of VM %s: %w", id, v.name, ErrNotFound)
}

// now returns the time without its monotonic part, as it is stored.
func (t *Tracker) now() time.Time { return t.cfg.Now().UTC().Round(0) }
