// Package passes is what one process that tracks disks leaves to the next about
// them, in memory that outlives processes: the passes. A pass says that a block
// may be changed without asking the tracker, since all that this would find is
// that nothing is left to do. So while the next one still opens its change log,
// guests go on with most of what they do; and what they touch for the first time
// is remembered here, when that is all there is to do. It has no policy.
//
// # The memory
//
// It is a memfd that one process after the other maps. Nothing is ever synced,
// since it has to survive processes, not the host; what is not used takes no
// memory. All numbers are in the machine's own byte order.
//
//	     0  magic, version, sizes, a name; whether all protected disks are known;
//	        how many pages were ever used; how often a tracker was about to open,
//	        and what build it was that could
//	  4096  the disks: 1024 entries of 256 bytes
//	266240  what each page is: 4096 entries of 32 bytes
//	397312  4096 pages of 4 KiB: bitmaps of marked blocks, 128 MiB of a disk in
//	        each, of hot zones, and of regions that changed meanwhile
//
// # Invariants
//
//   - An entry is written before the number that makes it valid, and that goes
//     before the place is used again.
//   - A page of marks counts only while its epoch is the disk's, so that raising
//     one number takes all passes of an epoch away.
//   - What is there may be less than the tracker knows, never more. Only what was
//     touched without it is news, and stays until its change log has it.
//   - Whoever maps it checks its version and distrusts every entry: what is not
//     understood is refused as a whole, and there are no passes.
package passes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	magic   = 0x736573736150424c // "LBPasses"
	version = 1

	maxDisks  = 1024
	maxPages  = 4096
	disksAt   = 4096
	headersAt = disksAt + maxDisks*entrySize
	pagesAt   = headersAt + maxPages*headerSize
	size      = pagesAt + maxPages*pageSize
)

// ErrNotUnderstood says that the passes were written by another build, or are
// damaged.
var ErrNotUnderstood = errors.New("the passes that the filter before left are not understood")

type head struct {
	magic    uint64
	version  uint32
	entry    uint32 // sizes
	disks    uint32
	pages    uint32
	zone     uint64 // blocks in a zone
	complete uint32
	fresh    uint32 // pages from here on were never used
	attempts uint32
	_        uint32
	name     uint64
	build    uint64
}

// Passes are mapped passes. All methods may be called concurrently, by the one
// process that tracks. Nil Passes take everything and keep nothing.
type Passes struct {
	memory []byte
	head   *head

	mu    sync.Mutex // guards what follows, and all entries
	disks [maxDisks]*Disk
	free  []uint32 // pages
	low   int      // the least of them since Trim was called
	dirty [maxPages]bool
}

// Create makes passes in a memfd, which the caller owns. zone is how many blocks
// a zone has.
func Create(zone uint64) (fd int, err error) {
	fd, err = unix.MemfdCreate("lifeboat-passes", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("make passes: %w", err)
	}
	if err := begin(fd, zone); err != nil {
		_ = unix.Close(fd) // nothing is in it
		return -1, fmt.Errorf("make passes: %w", err)
	}
	return fd, nil
}

func begin(fd int, zone uint64) error {
	if err := unix.Ftruncate(fd, size); err != nil {
		return err
	}
	// Nobody can take the file away under a mapping.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	p, err := mapped(fd)
	if err != nil {
		return err
	}
	defer p.Unmap()
	h := p.head
	h.version, h.entry, h.disks, h.pages, h.zone = version, entrySize, maxDisks, maxPages, zone
	h.name = rand.Uint64() | 1
	atomic.StoreUint64(&h.magic, magic)
	return nil
}

// Map maps the passes in fd, which stays the caller's, and checks that they are
// understood, and that a zone has so many blocks.
func Map(fd int, zone uint64) (*Passes, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("look at the passes: %w", err)
	}
	if stat.Size != size {
		return nil, fmt.Errorf("%w: they have %d bytes", ErrNotUnderstood, stat.Size)
	}
	p, err := mapped(fd)
	if err != nil {
		return nil, err
	}
	if err := p.take(zone); err != nil {
		p.Unmap()
		return nil, fmt.Errorf("%w: %w", ErrNotUnderstood, err)
	}
	return p, nil
}

func mapped(fd int) (*Passes, error) {
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map the passes: %w", err)
	}
	return &Passes{memory: memory, head: (*head)(unsafe.Pointer(unsafe.SliceData(memory)))}, nil
}

// take checks everything and knows it from then on.
func (p *Passes) take(zone uint64) error {
	switch h := p.head; {
	case h.magic != magic:
		return errors.New("they do not begin like passes")
	case h.version != version || h.entry != entrySize || h.disks != maxDisks || h.pages != maxPages:
		return fmt.Errorf("they have version %d, with %d disks of %d bytes and %d pages, not %d, %d, %d and %d",
			h.version, h.disks, h.entry, h.pages, version, maxDisks, entrySize, maxPages)
	case h.zone != zone || zone == 0:
		return fmt.Errorf("their zones have %d blocks, not %d", h.zone, zone)
	case h.fresh > maxPages || h.complete > 1:
		return errors.New("they have used more pages than there are")
	}
	if err := p.takeDisks(); err != nil {
		return err
	}
	return p.takePages()
}

// Unmap ends the use of the passes and of all their disks.
func (p *Passes) Unmap() {
	if p != nil {
		_ = unix.Munmap(p.memory) // cannot fail for memory that was mapped so
	}
}

// Name tells these passes from others; it is never 0, but for nil Passes.
func (p *Passes) Name() uint64 {
	if p == nil {
		return 0
	}
	return p.head.name
}

// Complete tells whether every protected disk is known.
func (p *Passes) Complete() bool { return p != nil && atomic.LoadUint32(&p.head.complete) == 1 }

// SetComplete notes whether every protected disk is known.
func (p *Passes) SetComplete(yes bool) {
	if p == nil {
		return
	}
	value := uint32(0)
	if yes {
		value = 1
	}
	atomic.StoreUint32(&p.head.complete, value)
}

// Attempt counts that a tracker is about to be opened.
func (p *Passes) Attempt() {
	if p != nil {
		atomic.AddUint32(&p.head.attempts, 1)
	}
}

// Attempts returns how many times one was since it succeeded: they failed, or
// the process died of them.
func (p *Passes) Attempts() int {
	if p == nil {
		return 0
	}
	return int(atomic.LoadUint32(&p.head.attempts))
}

// Opened notes that one was, by a program of this build.
func (p *Passes) Opened(build uint64) {
	if p != nil {
		atomic.StoreUint64(&p.head.build, build)
		atomic.StoreUint32(&p.head.attempts, 0)
	}
}

// OpenedBy returns the build that opened one last, 0 if none did.
func (p *Passes) OpenedBy() uint64 {
	if p == nil {
		return 0
	}
	return atomic.LoadUint64(&p.head.build)
}
