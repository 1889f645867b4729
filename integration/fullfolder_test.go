package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// When the file system of the disks, and so of the change logs, is full, the
// guest goes on writing to what is allocated; no recovery point is made, and
// health says why. When there is space again, replication goes on and nothing
// is missing.
func TestFullFolder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	image := filepath.Join(s.dir, "image")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 400<<20))
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, s.folder}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		for _, p := range []*process{s.sidecar, s.filter} {
			if p != nil && p.running() {
				p.stop(t)
			}
		}
		must(t, unix.Unmount(s.folder, 0))
	})
	newQuietVM(t, s)
	s.cut(t, true)

	fillUp(t, s.disk("fill"))
	rng := randomness(t)
	newChange(rng, 4<<20, 200).write(t, s.disk("a.img"))
	s.refused(t, []refusal{{[]string{"cut", vm}, 1, []string{"free some space"}}})
	eventually(t, "health tells of the log", func() bool { return s.status(t).says("log-failed") })

	must(t, os.Remove(s.disk("fill")))
	eventually(t, "health is normal again", func() bool { return s.status(t).Health == "Normal" })
	p := s.cut(t, true)
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	s.sameDisks(t, to)
}
