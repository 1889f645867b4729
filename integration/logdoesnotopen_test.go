package integration

import (
	"bytes"
	"os"
	"testing"
)

// With a keeper, a change log that the next filter cannot open ends neither the
// mount nor a write; when it can be opened, the disks are compared.
func TestLogDoesNotOpen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.kept = true
	s.besideFolder(t)
	newQuietVM(t, s)
	first := s.points(t)[0].Epoch
	log, aside := s.below(".lifeboat/log"), s.below(".lifeboat/aside")
	must(t, os.Rename(log, aside))
	must(t, os.WriteFile(log, nil, 0o600))
	killProcess(t, s.filter.serving(t), func() {})
	s.writeAt(t, "a.img", "untracked")
	must(t, os.WriteFile(s.disk("b.img"), bytes.Repeat([]byte("untracked"), 1<<19), 0o600)) // cut, and grown
	must(t, os.Remove(log))
	must(t, os.Rename(aside, log))
	first = s.resynchronized(t, first)
	s.writeAt(t, "b.img", "tracked")
	s.cut(t, true)
	s.proves(t, s.points(t)[len(s.points(t))-1].Epoch)
	if newest := s.points(t)[len(s.points(t))-1].Epoch; newest <= first {
		t.Errorf("epoch %d follows epoch %d", newest, first)
	}
}
