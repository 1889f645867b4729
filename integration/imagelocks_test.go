package integration

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Two QEMUs cannot open one image for writing: QEMU's own locks work through the
// mount, and are gone with the process that held them.
func TestImageLocks(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	// qemu-io lets others write to a raw image; TestGuests shows that a machine
	// does not.
	s.each(func(f format) bool { return f.driver != "raw" }, func(f format, path string) {
		holder := exec.Command("qemu-io", "-f", f.driver, path)
		stdin, err := holder.StdinPipe()
		must(t, err)
		stdout, err := holder.StdoutPipe()
		must(t, err)
		must(t, holder.Start())
		// The prompt tells that the image is open.
		prompt, err := bufio.NewReader(stdout).ReadString('>')
		if err != nil {
			t.Errorf("%s: QEMU said %q: %v", path, prompt, err)
		}
		out, err := exec.Command("qemu-io", "-f", f.driver, "-c", "write 0 4k", path).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "lock") {
			t.Errorf("%s was opened for writing twice: %v: %s", path, err, out)
		}
		must(t, stdin.Close())
		must(t, holder.Wait())
		execute(t, "qemu-io", "-f", f.driver, "-c", "write -P 0x51 0 4k", path)
	})
	s.proved(t, "locks")
}

// A file that takes the place of a disk is not that disk: this is told, and
// recovery points go on showing the disk that was protected. Protected anew, the
// VM has the new one.
func TestImageReplaced(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	was, err := digestOf(s.disk("disk.raw"))
	must(t, err)
	execute(t, "qemu-img", "create", "-q", "-f", "raw", s.disk("new"), "8M")
	execute(t, "qemu-io", "-f", "raw", "-c", "write -P 0x52 1M 1M", s.disk("new"))
	execute(t, "mv", s.disk("new"), s.disk("disk.raw"))
	eventually(t, "health tells of the replaced disk", func() bool { return s.status(t).says("disk-removed") })
	p := s.cut(t, true)
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	if restored, err := digestOf(filepath.Join(to, "disk.raw")); err != nil || restored != was {
		t.Errorf("the disk was %v, restored it is %v: %v", was, restored, err)
	}
	must(t, os.RemoveAll(to))
	s.ok(t, nil, "unprotect", vm)
	s.protect(t, s.names...)
	s.proved(t, "protecting the replaced disk")
}
