package tracker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The liveness file tells the next process how this one ended. It is mapped
// shared, so that it is written without a system call and survives the death
// of the process, and its space is allocated ahead, so that it can be written
// when nothing else can. All fields are 8 bytes, little-endian:
//
//	0   magic and version
//	8   state: 0 not in use, 1 running, 2 stopped cleanly
//	16  the last time, in Unix nanoseconds, that the process was alive
//	24  1 if the change log lacks something that only memory holds
//	32  the boot that it ran in, 36 characters
//	72  the name of the passes that it kept up to date, 0 if it had none
const (
	livenessSize  = 4096
	livenessMagic = 0x314556494c42464c // "LFBLIVE1"

	stateRunning = 1
	stateClean   = 2
)

type liveness struct{ mem []byte }

// ending is how the previous process ended.
type ending struct {
	first      bool // there was none
	clean      bool
	sameBoot   bool
	incomplete bool // the change log lacked something
	lastAlive  time.Time
	passes     uint64 // the name of those that it kept
}

// trusted tells whether all that the process wrote is still there, and the disk
// files are what it knew; otherwise the host lost power.
func (e ending) trusted() bool { return !e.first && (e.clean || e.sameBoot) }

// openLiveness maps the file and tells how the last process ended. The file
// goes on telling that until begin is called.
func openLiveness(folder *os.Root, bootID string) (*liveness, ending, error) {
	f, err := folder.OpenFile("liveness", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, ending{}, fmt.Errorf("open liveness file: %w", err)
	}
	defer f.Close() //nolint:errcheck // the mapping stays, the descriptor is not needed
	if err := unix.Fallocate(int(f.Fd()), 0, 0, livenessSize); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, ending{}, fmt.Errorf("allocate liveness file: %w", err)
	} else if err != nil {
		if err := f.Truncate(livenessSize); err != nil {
			return nil, ending{}, fmt.Errorf("allocate liveness file: %w", err)
		}
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, livenessSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, ending{}, fmt.Errorf("map liveness file: %w", err)
	}
	l := &liveness{mem: mem}
	return l, l.previous(bootID), nil
}

// begin notes that a process runs, durably before anything is tracked: after a
// power cut the clean mark of an earlier stop must not be what is found. What
// the last process left has been dealt with by then, or a death while it is
// being dealt with would make it look like the work of this boot.
func (l *liveness) begin(bootID string, now time.Time, passes uint64) error {
	clear(l.mem[32:68])
	copy(l.mem[32:68], bootID)
	l.word(0).Store(livenessMagic)
	l.word(72).Store(passes)
	l.alive(now)
	l.word(8).Store(stateRunning)
	return l.sync()
}

func (l *liveness) sync() error {
	if err := unix.Msync(l.mem, unix.MS_SYNC); err != nil {
		return fmt.Errorf("sync liveness file: %w", err)
	}
	return nil
}

func (l *liveness) previous(bootID string) ending {
	if l.word(0).Load() != livenessMagic {
		return ending{first: binary.LittleEndian.Uint64(l.mem) == 0}
	}
	return ending{
		clean:      l.word(8).Load() == stateClean,
		sameBoot:   strings.TrimRight(string(l.mem[32:68]), "\x00") == bootID,
		incomplete: l.word(24).Load() != 0,
		lastAlive:  time.Unix(0, int64(l.word(16).Load())),
		passes:     l.word(72).Load(),
	}
}

func (l *liveness) word(at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&l.mem[at]))
}

// alive notes the time.
func (l *liveness) alive(now time.Time) { l.word(16).Store(uint64(now.UnixNano())) }

// setIncomplete tells the next process that the change log cannot be trusted,
// even if the host loses power.
func (l *liveness) setIncomplete(yes bool) error {
	v := uint64(0)
	if yes {
		v = 1
	}
	if l.word(24).Swap(v) == v {
		return nil
	}
	return l.sync()
}

// close notes a clean stop, durably, or none, and gives up the mapping.
func (l *liveness) close(clean bool) error {
	var syncing error
	if clean {
		l.word(8).Store(stateClean)
		syncing = l.sync()
	}
	return errors.Join(syncing, unix.Munmap(l.mem))
}

func readBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
