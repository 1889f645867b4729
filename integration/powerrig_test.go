package integration

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// power is what a site's host runs on. The folder of the disks and the sidecar's
// state lie on a file system on a loop device, whose file lies on an XFS that
// can share extents. A clone of that file is what would be on the platter if the
// power went now: what that file system has not written to its device is in
// the page cache only, and lost.
type power struct {
	site   *site
	outer  string // where the XFS is mounted
	inner  string // where the host's file system is
	option string // of its mounts
	// cutting keeps the flusher off what is about to be taken away.
	cutting sync.Mutex
}

// device is the file that is the host's disk.
func (p *power) device() string { return filepath.Join(p.outer, "device") }

const (
	outerSize = 4 << 30
	innerSize = 512 << 20
)

// newPower gives the site a host that can lose its power.
func newPower(t *testing.T, s *site, fstype string) *power {
	t.Helper()
	p := &power{site: s, outer: filepath.Join(s.dir, "outer"), inner: filepath.Join(s.dir, "host"), option: "loop,nodiscard"}
	t.Cleanup(func() { p.off(t) }) // before the site looks for what was left
	must(t, os.Mkdir(p.outer, 0o700))
	must(t, os.Mkdir(p.inner, 0o700))
	platter := filepath.Join(s.dir, "platter")
	sparseFile(t, platter, outerSize)
	execute(t, "mkfs.xfs", "-q", "-m", "reflink=1", platter)
	execute(t, "mount", "-o", "loop,nodiscard", platter, p.outer)
	sparseFile(t, p.device(), innerSize)
	switch fstype {
	case "ext4":
		execute(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", p.device())
	case "xfs":
		execute(t, "mkfs.xfs", "-q", p.device())
		p.option += ",nouuid"
	}
	p.on(t)
	for _, name := range []string{"vms", "state"} {
		must(t, os.Mkdir(filepath.Join(p.inner, name), 0o700))
	}
	s.folder = filepath.Join(p.inner, "vms")
	s.env = append(s.env, "LIFEBOAT_STATE_DIR="+filepath.Join(p.inner, "state"))
	return p
}

func sparseFile(t *testing.T, path string, size int64) {
	t.Helper()
	must(t, errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)))
}

func execute(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}

// on mounts the host's file system, which mends itself by its journal.
func (p *power) on(t *testing.T) {
	t.Helper()
	execute(t, "mount", "-o", p.option, p.device(), p.inner)
}

// off stops what runs and takes the mounts away.
func (p *power) off(t *testing.T) {
	for _, process := range []*process{p.site.sidecar, p.site.filter} {
		if process != nil && process.running() {
			process.stop(t)
		}
	}
	for _, point := range []string{p.inner, p.outer} {
		if err := unix.Unmount(point, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
}

// cut takes the power away while everything is at work, and gives it back.
// after is called when all processes are dead.
func (p *power) cut(t *testing.T, after func()) {
	t.Helper()
	s := p.site
	clone := p.device() + ".clone"
	execute(t, "cp", "--reflink=always", p.device(), clone)
	s.sidecar.kill(t)
	s.filter.kill(t)
	after()
	p.cutting.Lock()
	defer p.cutting.Unlock()
	if s.mountpoint != s.folder {
		must(t, unix.Unmount(s.mountpoint, 0))
	}
	must(t, unix.Unmount(p.inner, 0))
	must(t, os.Rename(clone, p.device()))
	p.on(t)
	s.otherBoot(t)
}

// otherBoot has the tracker believe that the host was booted since it ran: the
// file that tells the boot is made to name another one.
func (s *site) otherBoot(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.folder, ".lifeboat", "liveness"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("00000000-0000-0000-0000-000000000000"), 32)
	must(t, errors.Join(err, f.Close()))
}

// writeBack stands for the kernel's own writing back, which takes half a minute
// to begin: parts of the disks, of the change log, of before-images and of the
// sidecar's state become durable in any order, until stop is closed.
func (p *power) writeBack(rng *rand.Rand, pace time.Duration, stop <-chan struct{}) {
	again := time.NewTicker(pace)
	defer again.Stop()
	for {
		select {
		case <-stop:
			return
		case <-again.C:
			p.writeBackOnce(rng)
		}
	}
}

func (p *power) writeBackOnce(rng *rand.Rand) {
	p.cutting.Lock()
	defer p.cutting.Unlock()
	var files []string
	for _, pattern := range []string{"vms/*.img", "vms/.lifeboat/*/*", "vms/.lifeboat/liveness", "state/*/*", "state/*/*/*"} {
		found, _ := filepath.Glob(filepath.Join(p.inner, pattern))
		files = append(files, found...)
	}
	if len(files) == 0 {
		return
	}
	f, err := os.Open(files[rng.IntN(len(files))])
	if err != nil {
		return // gone meanwhile
	}
	defer f.Close() //nolint:errcheck // only read
	size, err := f.Seek(0, 2)
	if err != nil || size == 0 {
		return
	}
	switch rng.IntN(20) {
	case 0:
		_ = unix.Syncfs(int(f.Fd())) // what the journal does by itself every few seconds
	case 1, 2, 3:
		_ = f.Sync()
	default:
		at := rng.Int64N(size)
		_ = syscall.SyncFileRange(int(f.Fd()), at, rng.Int64N(size-at)+1,
			unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	}
}
