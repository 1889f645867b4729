package fusefs

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// TestNegotiatesOtherwise has a build make another answer to INIT than the
// kernel was given: it does not even begin.
func TestNegotiatesOtherwise(t *testing.T) {
	folder := t.TempDir()
	for why, prepare := range map[string]func(*handover.State) error{
		"negotiates otherwise": func(s *handover.State) error { return s.SetReply([]byte("what an older build said")) },
		"is not INIT":          func(s *handover.State) error { clear(s.Init()); return nil },
		"":                     func(*handover.State) error { return nil }, // the first filter
	} {
		fd, err := handover.Create(folder, folder, initRequest())
		must(t, err)
		state, err := handover.Map(fd)
		must(t, err)
		must(t, prepare(state))
		root, err := unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		fs, err := Open(Options{Estate: &handover.Estate{Folder: root, State: state}, Logger: testLogger(t), Readers: 1})
		if why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%v, want %q", err, why)
		}
		if why == "" {
			must(t, err)
			freeAll(fs.filter.prepared.buffers)
			must(t, fs.Close())
		}
		closeFD(fd)
		state.Unmap()
	}
}
