package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	magic   = 0x7265766f646e6168 // "handover"
	version = 2

	folderAt  = 4096
	pointAt   = 3 * 4096
	journalAt = 5 * 4096
	recordsAt = journalAt + JournalSize*entrySize
	stateSize = recordsAt + Slots*recordSize

	maxPath = 2*4096 - 2
	maxInit = 256

	// Slots is how many nodes the table has room for.
	Slots = 1 << SlotBits
	// SlotBits are the low bits of a node's id, which tell its slot.
	SlotBits = 24
)

// ErrNotUnderstood says that a state was written by another build, or is
// damaged.
var ErrNotUnderstood = errors.New("the state that the filter before left is not understood")

// header is the first page.
type header struct {
	magic     uint64
	version   uint32
	entry     uint32 // sizes
	record    uint32
	initSize  uint32
	replySize uint32 // 0 until the kernel's INIT is about to be answered
	_         uint32
	number    uint64
	fresh     uint64
	init      [maxInit]byte
	reply     [maxInit]byte
	beats     uint64
}

// State is a mapped state. The methods that write are for the one filter that
// serves; what they write concurrently must not be the same node or entry.
type State struct {
	memory []byte
	header *header
}

// Create makes a state in a memfd, which the caller owns.
func Create(folder, point string, init []byte) (fd int, err error) {
	if len(folder) > maxPath || len(point) > maxPath || len(init) == 0 || len(init) > maxInit {
		return -1, errors.New("handover: a path or the kernel's INIT is too long for the state")
	}
	fd, err = unix.MemfdCreate("lifeboat-state", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("handover: make the state: %w", err)
	}
	if err := fill(fd, folder, point, init); err != nil {
		_ = unix.Close(fd) // nothing is in it
		return -1, fmt.Errorf("handover: make the state: %w", err)
	}
	return fd, nil
}

func fill(fd int, folder, point string, init []byte) error {
	if err := unix.Ftruncate(fd, stateSize); err != nil {
		return err
	}
	// Nobody can take the file away under a mapping.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	s, err := mapState(fd)
	if err != nil {
		return err
	}
	defer s.Unmap()
	h := s.header
	h.version, h.entry, h.record = version, entrySize, recordSize
	h.fresh = 2 // the root has slot 1
	h.initSize = uint32(copy(h.init[:], init))
	putPath(s.memory[folderAt:], folder)
	putPath(s.memory[pointAt:], point)
	h.magic = magic
	return nil
}

// Map maps the state in fd, which stays the caller's, and checks that it is
// understood.
func Map(fd int) (*State, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("handover: look at the state: %w", err)
	}
	if stat.Size != stateSize {
		return nil, fmt.Errorf("handover: %w: it has %d bytes", ErrNotUnderstood, stat.Size)
	}
	s, err := mapState(fd)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if err := s.check(); err != nil {
		s.Unmap()
		return nil, fmt.Errorf("handover: %w: %w", ErrNotUnderstood, err)
	}
	return s, nil
}

func mapState(fd int) (*State, error) {
	memory, err := unix.Mmap(fd, 0, stateSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map the state: %w", err)
	}
	return &State{memory: memory, header: (*header)(unsafe.Pointer(unsafe.SliceData(memory)))}, nil
}

func (s *State) check() error {
	h := s.header
	switch {
	case h.magic != magic:
		return errors.New("it does not begin like one")
	case h.version != version || h.entry != entrySize || h.record != recordSize:
		return fmt.Errorf("it has version %d with entries of %d and records of %d bytes, not %d, %d and %d",
			h.version, h.entry, h.record, version, entrySize, recordSize)
	case h.initSize == 0 || h.initSize > maxInit || h.replySize > maxInit:
		return errors.New("its INIT has no possible size")
	case h.fresh < 2 || h.fresh > Slots:
		return fmt.Errorf("it has used %d of %d slots", h.fresh, Slots)
	case h.number > maxNumber:
		return errors.New("its node numbers are used up")
	case pathSize(s.memory[folderAt:]) > maxPath || pathSize(s.memory[pointAt:]) > maxPath:
		return errors.New("its paths have no possible size")
	}
	return nil
}

// Unmap ends the use of the state and of all records.
func (s *State) Unmap() { _ = unix.Munmap(s.memory) } // cannot fail for memory that was mapped so

// Folder is the absolute path of the folder below.
func (s *State) Folder() string { return pathAt(s.memory[folderAt:]) }

// Point is the absolute path of the mount point.
func (s *State) Point() string { return pathAt(s.memory[pointAt:]) }

// Init returns INIT as the kernel sent it.
func (s *State) Init() []byte { return s.header.init[:s.header.initSize] }

// Reply returns the answer that the kernel was given to INIT; it is empty if it
// was given none.
func (s *State) Reply() []byte { return s.header.reply[:s.header.replySize] }

// SetReply notes the answer that the kernel is about to be given.
func (s *State) SetReply(reply []byte) error {
	if len(reply) > maxInit {
		return errors.New("handover: the answer to INIT is too long for the state")
	}
	copy(s.header.reply[:], reply)
	atomic.StoreUint32(&s.header.replySize, uint32(len(reply)))
	return nil
}

// Beat is a sign of life of the filter that serves, or is about to.
func (s *State) Beat() { atomic.AddUint64(&s.header.beats, 1) }

// Beats counts them: while it grows, the filter lives.
func (s *State) Beats() uint64 { return atomic.LoadUint64(&s.header.beats) }

// Number is that of the node made last, and Fresh the first slot that never had
// a node.
func (s *State) Number() uint64 { return s.header.number }

// Fresh is explained at Number.
func (s *State) Fresh() uint64 { return s.header.fresh }

func putPath(p []byte, path string) {
	binary.NativeEndian.PutUint16(p, uint16(len(path)))
	copy(p[2:], path)
}

func pathSize(p []byte) int { return int(binary.NativeEndian.Uint16(p)) }

func pathAt(p []byte) string { return string(p[2 : 2+pathSize(p)]) }
