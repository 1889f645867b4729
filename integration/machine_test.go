package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// guestKernel is where scripts/install-guest.sh put a kernel and its modules.
const guestKernel = "../.cache/guest"

// machine is a virtual machine that runs: QEMU without hardware acceleration,
// with a kernel, the guest program as all of its user space, and a disk on the
// mount.
type machine struct {
	site   *site
	disk   string // its name
	driver string
	guest  string // the guest program
	log    string // what is printed on the serial console
	qemu   *exec.Cmd
	ended  chan struct{}
	// moments are what the guest had said around each cut.
	moments map[uint64]moment
}

// newMachine makes the disk, with an empty file system, and the guest program.
func newMachine(t *testing.T, s *site, disk string) *machine {
	t.Helper()
	if _, err := os.Stat(filepath.Join(guestKernel, "installed")); err != nil {
		t.Fatalf("this test boots a guest: make setup installs its kernel (%v)", err)
	}
	m := &machine{
		site: s, disk: disk, driver: formats[disk].driver,
		guest: filepath.Join(s.dir, "guest"), log: filepath.Join(s.dir, "console"), moments: map[uint64]moment{},
	}
	build := exec.Command("go", "build", "-o", m.guest, "lifeboat/integration/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v: %s", err, out)
	}
	empty := filepath.Join(s.dir, "empty")
	sparseFile(t, empty, 128<<20)
	execute(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", empty)
	convert := []string{"qemu-img", "convert", "-q", "-f", "raw", "-O", m.driver}
	if options := formats[disk].options; options != "" {
		convert = append(convert, "-o", options)
	}
	execute(t, append(convert, empty, s.disk(disk))...)
	return m
}

// boot starts the machine in a mode, `cache:aio`, with arguments for its kernel,
// and returns when the guest is at work.
func (m *machine) boot(t *testing.T, mode string, arguments ...string) {
	t.Helper()
	initrd := filepath.Join(m.site.dir, "initrd")
	must(t, os.WriteFile(initrd, m.userSpace(t), 0o600))
	must(t, os.WriteFile(m.log, nil, 0o600))
	cache, aio, _ := strings.Cut(mode, ":")
	m.qemu = exec.Command(
		"qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "max", "-m", "192", "-nodefaults", "-no-reboot", "-display", "none",
		"-kernel", filepath.Join(guestKernel, "vmlinuz"), "-initrd", initrd,
		"-append", strings.Join(append(arguments, "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off no_timer_check"), " "), "-serial", "file:"+m.log,
		"-drive", fmt.Sprintf("file=%s,format=%s,if=none,id=disk,cache=%s,aio=%s,discard=unmap", m.site.disk(m.disk), m.driver, cache, aio),
		"-device", "virtio-blk-pci,drive=disk,werror=stop,rerror=stop", "-qmp", "unix:"+m.monitor()+",server=on,wait=off",
	)
	var said bytes.Buffer
	m.qemu.Stdout, m.qemu.Stderr = &said, &said
	must(t, m.qemu.Start())
	m.ended = make(chan struct{})
	go func() {
		defer close(m.ended)
		_ = m.qemu.Wait() // it is killed
	}()
	t.Cleanup(func() { m.kill(t) }) // before the site looks for what was left
	eventually(t, "the guest is at work", func() bool {
		m.alive(t)
		return bytes.Contains(m.console(t), []byte("ready"))
	})
}

// userSpace is the initial file system: an archive as cpio makes it.
func (m *machine) userSpace(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	number := 0
	add := func(name string, mode int, content []byte) {
		number++
		fmt.Fprintf(&archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		pad := func() { archive.Write(make([]byte, -archive.Len()&3)) }
		pad()
		archive.Write(content)
		pad()
	}
	add("modules", 0o040755, nil)
	modules, err := filepath.Glob(filepath.Join(guestKernel, "modules", "*.ko"))
	must(t, err)
	for _, path := range append(modules, m.guest) {
		content, err := os.ReadFile(path)
		must(t, err)
		if path == m.guest {
			add("init", 0o100755, content)
		} else {
			add("modules/"+filepath.Base(path), 0o100644, content)
		}
	}
	add("TRAILER!!!", 0, nil)
	return archive.Bytes()
}

// console returns what the guest has printed so far.
func (m *machine) console(t *testing.T) []byte {
	t.Helper()
	log, err := os.ReadFile(m.log)
	must(t, err)
	return log
}

// alive fails the test if the machine has ended, or the guest has failed.
func (m *machine) alive(t *testing.T) {
	t.Helper()
	log := m.console(t)
	select {
	case <-m.ended:
		t.Fatalf("the machine ended: %v: %s\n%s", m.qemu.ProcessState, m.qemu.Stderr, tail(m.log))
	default:
	}
	if bytes.Contains(log, []byte("failed ")) || bytes.Contains(log, []byte("Kernel panic")) {
		t.Fatalf("the guest said:\n%s", tail(m.log))
	}
}

// work waits until the guest has printed more lines.
func (m *machine) work(t *testing.T, lines int) {
	t.Helper()
	until := bytes.Count(m.console(t), []byte("\n")) + lines
	eventually(t, "the guest goes on", func() bool {
		m.alive(t)
		return bytes.Count(m.console(t), []byte("\n")) >= until
	})
}

// kill ends the machine as a crash of the host's QEMU would.
func (m *machine) kill(t *testing.T) {
	t.Helper()
	if err := m.qemu.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-m.ended
}

// verify fails the test unless a restored image has what the guest had said to be
// durable, in a file system that is whole when its journal was replayed.
func (m *machine) verify(t *testing.T, image string, before, after []byte) {
	t.Helper()
	raw, at := filepath.Join(m.site.dir, "copy"), filepath.Join(m.site.dir, "copy.mounted")
	beforeLog, afterLog := filepath.Join(m.site.dir, "before"), filepath.Join(m.site.dir, "after")
	must(t, errors.Join(os.WriteFile(beforeLog, before, 0o600), os.WriteFile(afterLog, after, 0o600)))
	if formats[m.disk].checks { // qcow2 may leak clusters when QEMU dies, and VHDX has a log to replay
		execute(t, "qemu-img", "check", "-q", "-r", "leaks", "-f", m.driver, image)
	}
	execute(t, "qemu-img", "convert", "-q", "-f", m.driver, "-O", "raw", image, raw)
	must(t, os.MkdirAll(at, 0o700))
	execute(t, "mount", "-o", "loop", raw, at)
	out, err := exec.Command(m.guest, "verify", at, beforeLog, afterLog).CombinedOutput()
	execute(t, "umount", at)
	t.Logf("%s: %s", filepath.Base(image), bytes.TrimSpace(out))
	if err != nil {
		t.Errorf("%s: %v; the guest had said:\n%s", image, err, tail(beforeLog))
	}
	execute(t, "e2fsck", "-fn", raw)
	must(t, os.Remove(raw))
}
