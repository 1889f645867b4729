package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// procField reads a number from a file in /proc of the process that serves, by
// the name that stands before it.
func (p *process) procField(t *testing.T, file, name string) (n int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.serving(t), file))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			_, err := fmt.Sscan(rest, &n)
			must(t, err)
			return n
		}
	}
	t.Fatalf("%s: %s has no %s", p.name, file, name)
	return 0
}

// readBytes is what the process has read so far, from caches or not.
func (p *process) readBytes(t *testing.T) int64 { return p.procField(t, "io", "rchar") }

// resident is the memory that the process uses now, in bytes.
func (p *process) resident(t *testing.T) int64 { return p.procField(t, "status", "VmRSS") << 10 }

// unmountDead takes away the mount that a killed filter left.
func (s *site) unmountDead(t *testing.T) {
	t.Helper()
	must(t, unix.Unmount(s.mountpoint, unix.MNT_DETACH))
}

// descriptors is how many the process has open.
func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.serving(t)))
	must(t, err)
	return len(open)
}
