package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// timeout is how long the kernel may believe names and attributes. Only the
// mount changes them, and the kernel knows what went through it; a second
// bounds how long a change behind the filter's back stays unseen.
const timeout = time.Second

// FS serves one folder. Its methods may be called concurrently.
type FS struct {
	filter *filter
}

// filter is what answers requests. Its exported methods are those of
// fuse.RawFileSystem that go-fuse's ProtocolServer calls.
type filter struct {
	fuse.RawFileSystem // ENOSYS for what is left to the kernel: locks, access, ioctl

	log      *slog.Logger
	options  Options
	root     int    // the folder below
	device   uint64 // of the folder below
	handles  bool   // inodes can be opened by handle
	asRoot   bool   // files can be given to their creators
	piece    int    // how much is written to the page cache at once
	nodes    *table
	idle     *idleList
	attach   sync.Mutex // serialises Attach, Anticipate and Detach
	early    map[FileID]bool
	watch    *watch
	counters counters
	estate   *handover.Estate  // nil if nobody keeps the mount when this process dies
	journal  *handover.Journal // likewise
	prepared *prepared         // likewise, and before takeOver

	fuseDevice  atomic.Int32  // /dev/fuse while it is mounted, else -1
	mountDevice atomic.Uint64 // st_dev of the mount, 0 if there is none
	passthrough atomic.Bool   // the kernel does it, and may

	// protect, if set, gives every new regular file its disk: for tests.
	protect func(FileID) Disk
	// spy, if set, sees every request before it is executed and before it is
	// answered: for tests.
	spy func(executed bool, header *fuse.InHeader)
}

// Open opens the folder below, which is then reached only through the
// descriptor, whatever is mounted over it. Disks can be attached from now on.
// A dead lifeboat mount that covers the folder is taken away first; a living
// one is an error.
func Open(options Options) (*FS, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	if options.Estate != nil {
		return inherit(options)
	}
	folder, err := uncover(options.Folder, options.Logger)
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fusefs: open folder %s: %w", folder, err)
	}
	options.Folder = folder
	f, err := newFilter(root, options)
	if err != nil {
		closeFD(root)
		return nil, fmt.Errorf("fusefs: open folder %s: %w", folder, err)
	}
	return &FS{filter: f}, nil
}

func newFilter(root int, options Options) (*filter, error) {
	f := &filter{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		log:           options.Logger,
		options:       options,
		root:          root,
		handles:       canOpenHandles(root),
		asRoot:        os.Geteuid() == 0,
		idle:          newIdleList(maxIdle),
		early:         make(map[FileID]bool),
		estate:        options.Estate,
	}
	var shared *handover.State
	if f.estate != nil {
		shared = f.estate.State
	}
	f.fuseDevice.Store(-1)
	var s syscall.Stat_t
	if err := syscall.Fstat(root, &s); err != nil {
		return nil, err
	}
	f.device = s.Dev
	var err error
	if f.piece, err = pieceFor(root); err != nil {
		return nil, err
	}
	x, err := f.identify(root)
	if err != nil {
		return nil, err
	}
	n := newNode(x)
	n.path.Store(int32(root))
	n.held.Store(true)
	f.nodes = newTable(n, shared)
	raiseDescriptorLimit(f.log)
	f.watch = newWatch(f.log)
	return f, nil
}

// Folder returns a path that leads to the folder below in this process,
// whatever is mounted over it.
func (fs *FS) Folder() string { return descriptorPath(fs.filter.root) }

// Close lets go of the folder. The mount must have ended.
func (fs *FS) Close() error {
	f := fs.filter
	for _, n := range f.nodes.all() {
		if n.id != fuse.FUSE_ROOT_ID {
			f.release(n)
		}
	}
	if err := errors.Join(f.watch.close(), unix.Close(f.root)); err != nil {
		return fmt.Errorf("fusefs: close folder %s: %w", f.options.Folder, err)
	}
	return nil
}

func (f *filter) String() string { return "lifeboat" }

// Forget is called by the kernel without waiting for an answer, so it comes
// even while the last requests for the node are being answered.
func (f *filter) Forget(id, count uint64) {
	if n := f.nodes.forget(id, count); n != nil {
		f.release(n)
	}
}

func (f *filter) release(n *node) {
	n.opening.Lock()
	f.closeBacking(n)
	n.opening.Unlock()
	n.drop()
	f.letGo(n)
	f.idle.forget(n)
}

// status is the answer to the kernel for an error.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if e, ok := err.(syscall.Errno); ok { //nolint:errorlint // system calls return it bare
		return fuse.Status(e)
	}
	return fuse.ToStatus(err)
}

// raiseDescriptorLimit makes room for one descriptor per file that guests have
// open. Failing that, opening fails where the old limit ends.
func raiseDescriptorLimit(log *slog.Logger) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= limit.Max {
		return
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("the limit of open files stays low", "error", err)
	}
}
