package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mount is a folder being served. It ends when somebody unmounts it, here or
// elsewhere.
type Mount struct {
	filter *filter
	point  string
	device uint64 // st_dev of what is mounted
	done   chan struct{}
	err    error // set before done is closed

	connection  *connection
	crew        *crew
	keptSince   time.Time     // by the present keeper; these two are heed's
	keeperPause time.Duration // before the next is started
}

// Mount mounts over a directory, which may be the folder itself, and serves
// requests from then on. An empty mountPoint is the folder itself. A dead
// lifeboat mount on it is taken away first.
//
// This process itself must not use files on the mount: Go's runtime polls every
// file that it opens, in a way that leaves the readers no chance to answer.
//
// A FS is mounted once. Mount sets the umask of the process to 0: the modes of
// new files are the callers'.
func (fs *FS) Mount(mountPoint string) (*Mount, error) {
	f := fs.filter
	if f.estate != nil {
		return f.takeOver()
	}
	if mountPoint == "" {
		mountPoint = f.options.Folder
	}
	point, err := uncover(mountPoint, f.log)
	if err != nil {
		return nil, err
	}
	unix.Umask(0)
	device, err := mountDevice(point)
	if err != nil {
		return nil, fmt.Errorf("fusefs: serve %s on %s: %w", f.options.Folder, point, err)
	}
	all, err := newBuffersFor(f.options.Readers, f.log)
	var m *Mount
	if err == nil {
		m, err = f.start(newConnection(device, f), all, point, (*connection).handshake)
	}
	if err != nil {
		closeFD(device) // ends the connection
		return nil, errors.Join(fmt.Errorf("fusefs: serve %s on %s: %w", f.options.Folder, point, err), detach(point))
	}
	return m, nil
}

// start begins the conversation with the kernel and starts the readers, each
// with its buffers.
func (f *filter) start(c *connection, all []*buffers, point string, begin func(*connection) error) (*Mount, error) {
	top, ok, err := topMount(point)
	if err == nil && (!ok || top.fsType != mountType) {
		err = errors.New("the mount has gone again")
	}
	if err == nil {
		err = begin(c)
	}
	if err != nil {
		freeAll(all)
		return nil, err
	}
	f.fuseDevice.Store(int32(c.device))
	f.mountDevice.Store(top.device)
	m := &Mount{
		filter: f, point: point, device: top.device, done: make(chan struct{}),
		connection: c, crew: newCrew(len(all)), keptSince: time.Now(),
	}
	go m.serve(all)
	return m, nil
}

// serve runs the readers until the mount ends and lets go of everything.
func (m *Mount) serve(all []*buffers) {
	c, crew := m.connection, m.crew
	errs := make([]error, len(all))
	var readers sync.WaitGroup
	for i, b := range all {
		readers.Go(func() {
			errs[i] = c.serve(crew.readers[i], b)
			crew.dismiss()
			b.free()
		})
	}
	crew.lead()
	readers.Wait()
	c.slow.Wait()
	m.filter.passthrough.Store(false)
	m.filter.fuseDevice.Store(-1)
	closeFD(c.device)
	m.filter.mountDevice.Store(0)
	m.err = errors.Join(errs...)
	close(m.done)
}

// Point returns the absolute path of the mount point.
func (m *Mount) Point() string { return m.point }

// Done is closed when the mount has ended and all requests are answered.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Wait waits for that, and says why it ended if not by an unmount.
func (m *Mount) Wait() error {
	<-m.done
	return m.err
}

// Unmount ends the mount and waits until all requests are answered, or ctx
// ends. If it is in use, the error is a *BusyError and the mount goes on.
func (m *Mount) Unmount(ctx context.Context) error {
	select {
	case <-m.done:
		return m.err
	default:
	}
	if err := m.takeOff(); err != nil {
		return err
	}
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("fusefs: %s is unmounted, but requests are still under way: %w", m.point, ctx.Err())
	}
}

func (m *Mount) takeOff() error {
	top, ok, err := topMount(m.point)
	if err != nil {
		return fmt.Errorf("fusefs: unmount %s: %w", m.point, err)
	}
	if !ok || top.device != m.device {
		if ok {
			return fmt.Errorf("fusefs: unmount %s: something else (%s) is mounted over it: unmount that first", m.point, top.fsType)
		}
		return nil // it is gone already
	}
	if os.Geteuid() == 0 {
		err = unix.Unmount(m.point, unix.UMOUNT_NOFOLLOW)
	} else {
		err = fusermount("-u", "--", m.point)
	}
	if errors.Is(err, unix.EBUSY) {
		holders, scanErr := usersOf(m.device)
		return errors.Join(&BusyError{What: m.point + " is in use", Holders: holders}, scanErr)
	}
	if err != nil {
		return fmt.Errorf("fusefs: unmount %s: %w", m.point, err)
	}
	return nil
}
