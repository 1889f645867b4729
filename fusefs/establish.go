package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// Established is a folder with a mount over it that nobody serves yet: what a
// keeper gives to one filter after the other.
type Established struct {
	Device int // /dev/fuse
	Folder int // the folder below
	State  int // the shared state, see package handover
	// Resends tells that the kernel can send again what a filter that died did
	// not answer: without, nobody can take over from it.
	Resends bool
	Below   string // the absolute path of the folder
	Point   string // likewise of the mount point
}

// ErrNotKept says that a mount cannot outlive its filter.
var ErrNotKept = errors.New("a mount that outlives its filter takes root's rights")

// Establish mounts over a directory, as FS.Mount does, and reads the kernel's
// first request. An empty mountPoint is the folder itself.
func Establish(folder, mountPoint string, log *slog.Logger) (e *Established, err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("fusefs: establish a mount over %s: %w", folder, ErrNotKept)
	}
	if mountPoint == "" {
		mountPoint = folder
	}
	if folder, err = uncover(folder, log); err != nil {
		return nil, err
	}
	e = &Established{Device: -1, Folder: -1, State: -1, Below: folder}
	defer func() {
		if err != nil {
			e.Close()
			e = nil
		}
	}()
	e.Folder, err = unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return e, fmt.Errorf("fusefs: open folder %s: %w", folder, err)
	}
	if e.Point, err = uncover(mountPoint, log); err != nil {
		return e, err
	}
	if e.Device, err = mountDevice(e.Point); err != nil {
		return e, fmt.Errorf("fusefs: mount %s on %s: %w", folder, e.Point, err)
	}
	if err = e.begin(folder); err != nil {
		return e, errors.Join(fmt.Errorf("fusefs: mount %s on %s: %w", folder, e.Point, err), detach(e.Point))
	}
	return e, nil
}

func (e *Established) begin(folder string) error {
	request := make([]byte, bufferSize) // the kernel wants room for any request
	k, err := unix.Read(e.Device, request)
	if err != nil {
		return fmt.Errorf("read the kernel's INIT: %w", err)
	}
	if request = request[:k]; k < inHeaderSize || headerOf(request).Opcode != opInit {
		return errors.New("the kernel's first request is not INIT")
	}
	e.Resends = resends(request)
	e.State, err = handover.Create(folder, e.Point, request)
	return err
}

// resends tells whether a kernel that sends this INIT can send requests again.
func resends(request []byte) bool {
	if len(request) < int(unsafe.Sizeof(fuse.InitIn{})) {
		return false
	}
	offered := (*fuse.InitIn)(unsafe.Pointer(unsafe.SliceData(request))).Flags64()
	return offered&fuse.CAP_HAS_RESEND != 0
}

// Reestablish is what Establish returned, from its descriptors, which it takes
// over.
func Reestablish(device, folder, state int) (*Established, error) {
	s, err := handover.Map(state)
	if err != nil {
		return nil, err
	}
	defer s.Unmap()
	return &Established{
		Device: device, Folder: folder, State: state, Below: s.Folder(), Point: s.Point(), Resends: resends(s.Init()),
	}, nil
}

// Ended tells whether the mount has gone, whoever took it off.
func (e *Established) Ended() bool {
	poll := []unix.PollFd{{Fd: int32(e.Device), Events: unix.POLLIN}}
	_, err := unix.Poll(poll, 0)
	return err == nil && poll[0].Revents&unix.POLLERR != 0
}

// Abandon takes the mount off, in use or not: what its users had open fails
// from then on. It is what becomes of a mount that nobody can serve.
func (e *Established) Abandon() error {
	if e.Ended() {
		return nil
	}
	// If it is in use then by force, so that nobody waits even if some process
	// still has /dev/fuse.
	for _, how := range []int{0, unix.MNT_FORCE} {
		if unix.Unmount(e.Point, how|unix.UMOUNT_NOFOLLOW) == nil {
			return nil
		}
	}
	if err := detach(e.Point); err != nil {
		return fmt.Errorf("fusefs: take %s off: %w", e.Point, err)
	}
	return nil
}

// Close lets go of everything. If no filter lives, the mount is dead from then
// on, and no request waits.
func (e *Established) Close() {
	closeFD(e.Device)
	closeFD(e.Folder)
	closeFD(e.State)
}
