package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// A disk that was changed while the filter was not mounted is found at the next
// mount, compared with the replica, and the next recovery point is equal to it.
func TestChangedBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newQuietVM(t, s)
	first := s.points(t)[0]
	s.filter.stop(t)
	f, err := os.OpenFile(s.below("a.img"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("patched behind the filter's back"), 1<<20)
	must(t, err)
	must(t, f.Close())
	s.mount(t)
	eventually(t, "the disks have been compared", func() bool {
		points := s.points(t)
		return points[len(points)-1].Epoch > first.Epoch && s.status(t).State == "replicating"
	})
	points := s.points(t)
	to, r := s.restore(t, points[len(points)-1].Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	s.sameDisks(t, to)
	// What was there before still is.
	old, r := s.restore(t, first.Epoch)
	if r.code != 0 {
		t.Fatalf("the point from before: %v", r)
	}
	a, err := digestOf(filepath.Join(old, "a.img"))
	must(t, err)
	now, err := digestOf(s.disk("a.img"))
	must(t, err)
	if a == now {
		t.Error("the point from before has what came later")
	}
}
