package integration

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The file system below cannot write to a disk: the guest is told what that
// says, other disks are not touched by it, and recovery points are made as
// before. Then the file system is full as well, so that the change logs cannot
// be written either: the guest goes on, and no point is made. When both is over,
// what was lost is found, and what the guest does again is there.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBrittle(t, s)
	rng := randomness(t)
	for _, name := range []string{"a.img", "b.img", "probe"} {
		must(t, os.WriteFile(s.below(name), make([]byte, brittleDisk), 0o600))
	}
	under := append(b.blocksOf(t, "b.img"), b.blocksOf(t, "probe")...)
	probe, err := os.OpenFile(s.below("probe"), os.O_WRONLY|unix.O_DSYNC, 0)
	must(t, err)
	below, err := os.Open(s.below("b.img"))
	must(t, err)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	s.protect(t, "a.img", "b.img")
	s.cut(t, true)

	b.takeAway(t, under)
	_, err = probe.Write(make([]byte, blockSize))
	want, ok := errors.AsType[unix.Errno](err)
	if !ok {
		t.Fatalf("a write below the mount: %v: it should fail", err)
	}
	t.Logf("the file system below says: %v", want)
	must(t, probe.Close())
	first, second := newChange(rng, brittleDisk, 100), newChange(rng, brittleDisk, 100)
	must(t, first.flushed(s.disk("a.img"), 0))
	s.failsWith(t, first, "b.img", want)
	p := s.cut(t, true) // what the disk shows is what a point holds
	s.sameAt(t, p.Epoch)

	fillUp(t, s.disk("fill"))
	s.failsWith(t, second, "b.img", want)
	must(t, second.flushed(s.disk("a.img"), 0)) // its blocks are there
	s.refused(t, []refusal{{[]string{"cut", vm}, 1, []string{"free some space"}}})
	eventually(t, "health tells of the log", func() bool { return s.status(t).says("log-failed") })

	b.mend(t)
	must(t, os.Remove(s.disk("fill")))
	eventually(t, "health is normal again", func() bool { return s.status(t).Health == "Normal" })
	p = s.cut(t, true)
	s.sameAt(t, p.Epoch)

	// The filter finds, when it syncs the disk at its end, that something was
	// lost; the next one has the disks compared, which are what they were before.
	s.filter.stopsWith(t, 1, "sync disk b.img")
	s.mount(t)
	eventually(t, "the disks have been compared", func() bool {
		status := s.status(t)
		return status.Newest != nil && status.Newest.Epoch > p.Epoch && status.State == "replicating"
	})
	to := s.sameAt(t, s.cut(t, true).Epoch)
	must(t, unix.Fadvise(int(below.Fd()), 0, 0, unix.FADV_DONTNEED))
	onDisk := make([]byte, brittleDisk)
	_, err = below.ReadAt(onDisk, 0)
	must(t, errors.Join(err, below.Close()))
	if !bytes.Equal(onDisk, contentOf(t, filepath.Join(to, "b.img"))) {
		t.Error("the point has what the kernel remembered of the disk, and not what is on it")
	}

	for _, c := range []change{first, second} {
		must(t, c.flushed(s.disk("b.img"), 0))
	}
	to = s.sameAt(t, s.cut(t, true).Epoch)
	if !bytes.Equal(contentOf(t, filepath.Join(to, "b.img")), second.applied(first.applied(make([]byte, brittleDisk)))) {
		t.Error("what the guest flushed after all is not in the point")
	}
}

// sameAt restores a point and compares it with the disks as they are.
func (s *site) sameAt(t *testing.T, epoch uint64) (to string) {
	t.Helper()
	to, r := s.restore(t, epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	s.sameDisks(t, to)
	return to
}

// stopsWith asks it to end, and wants it to fail for a reason.
func (p *process) stopsWith(t *testing.T, code int, says string) {
	t.Helper()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.killed.Store(true) // so nobody else judges how it ended
	<-p.done
	if got := p.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(strings.Join(p.lines(t), "\n"), says) {
		t.Errorf("%s ended with code %d, not %d, or does not say %q", p.name, got, code, says)
	}
}

// failsWith has the guest change a disk, by a flush and by writes that are to be
// durable at once: either fails.
func (s *site) failsWith(t *testing.T, c change, name string, want error) {
	t.Helper()
	for _, flags := range []int{0, unix.O_DSYNC} {
		if err := c.flushed(s.disk(name), flags); !errors.Is(err, want) {
			t.Errorf("a change of %s with flags %#x: %v instead of %v", name, flags, err, want)
		}
	}
}

// flushed makes a change and has it made durable.
func (c change) flushed(path string, flags int) error {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	if err != nil {
		return err
	}
	for block, content := range c.blocks {
		if _, err := f.WriteAt(content, block*blockSize); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func (c change) applied(p []byte) []byte {
	for block, content := range c.blocks {
		copy(p[block*blockSize:], content)
	}
	return p
}

func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	return p
}

// fillUp makes a file that takes all the space there is.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill %s: %v", path, err)
	}
	must(t, f.Close())
}

// brittle is a folder on an ext4 on a loop device, whose file lies on a small
// tmpfs and has all its blocks, so that every write succeeds; until the blocks
// under one disk are taken away, and the tmpfs is filled.
type brittle struct {
	site         *site
	outer, image string
}

const (
	brittleDisk = 4 << 20
	brittleSize = 256 << 20
)

func newBrittle(t *testing.T, s *site) *brittle {
	t.Helper()
	b := &brittle{site: s, outer: filepath.Join(s.dir, "outer")}
	b.image = filepath.Join(b.outer, "image")
	t.Cleanup(func() {
		for _, p := range []*process{s.sidecar, s.filter} {
			if p != nil && p.running() {
				p.stop(t)
			}
		}
		for _, point := range []string{s.folder, b.outer} {
			if err := unix.Unmount(point, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				t.Errorf("unmount %s: %v", point, err)
			}
		}
	})
	must(t, os.Mkdir(b.outer, 0o700))
	must(t, unix.Mount("none", b.outer, "tmpfs", 0, "size=264m"))
	sparseFile(t, b.image, brittleSize)
	execute(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", b.image)
	b.fallocate(t, 0, 0, brittleSize) // mkfs punches holes where it wants zeros
	execute(t, "mount", "-o", "loop,nodiscard", b.image, s.folder)
	return b
}

func (b *brittle) fallocate(t *testing.T, mode uint32, offset, length int64) {
	t.Helper()
	f, err := os.OpenFile(b.image, os.O_RDWR, 0)
	must(t, err)
	must(t, errors.Join(unix.Fallocate(int(f.Fd()), mode, offset, length), f.Close()))
}

// blocksOf returns where on the device the blocks of a disk lie.
func (b *brittle) blocksOf(t *testing.T, name string) (at []int64) {
	t.Helper()
	f, err := os.Open(b.site.below(name))
	must(t, err)
	must(t, f.Sync())
	for block := range int32(brittleDisk / blockSize) {
		const fibmap = 1 // FIBMAP makes a block's place of its number
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fibmap, uintptr(unsafe.Pointer(&block))); errno != 0 || block == 0 {
			t.Fatalf("find a block of %s on the device: %v", name, errno)
		}
		at = append(at, int64(block))
	}
	must(t, f.Close())
	return at
}

// takeAway lets no more writes through to blocks, which hold zeros.
func (b *brittle) takeAway(t *testing.T, blocks []int64) {
	t.Helper()
	for _, at := range blocks {
		b.fallocate(t, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at*blockSize, blockSize)
	}
	fillUp(t, filepath.Join(b.outer, "fill"))
}

// mend lets all writes through again.
func (b *brittle) mend(t *testing.T) {
	t.Helper()
	must(t, os.Remove(filepath.Join(b.outer, "fill")))
}
