package integration

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A restore never believes damaged blobs: it names the blob, and no file of a
// disk appears; or the damage is where no restore looks, and the disks are
// equal. What does not rest on the blob can still be had.
func TestDamagedStore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newQuietVM(t, s)
	rng := randomness(t)
	for range 2 {
		newChange(rng, 4<<20, 20).write(t, s.disk("a.img"))
		s.cut(t, true)
	}
	s.sidecar.stop(t)
	points := s.points(t)
	newest := points[len(points)-1]

	root := strings.TrimPrefix(s.store, "file://")
	damaged := 0
	for _, blob := range s.blobs(t) {
		if !strings.HasSuffix(blob, ".seg") && !strings.Contains(blob, "/points/") {
			continue
		}
		damaged++
		path := filepath.Join(root, blob)
		whole, err := os.ReadFile(path)
		must(t, err)
		for how, content := range damages(rng, whole) {
			must(t, os.WriteFile(path, content, 0o600))
			s.refuseDamaged(t, newest, blob, how)
		}
		must(t, os.Remove(path))
		if how := "missing"; strings.HasSuffix(blob, ".seg") || !isManifestOf(blob, newest) {
			s.refuseDamaged(t, newest, blob, how)
		}
		must(t, os.WriteFile(path, whole, 0o600))
	}
	if damaged < 6 {
		t.Errorf("there were only %d blobs to damage", damaged)
	}
	to, r := s.restore(t, newest.Epoch)
	if r.code != 0 {
		t.Fatalf("mended, but: %v", r)
	}
	s.sameDisks(t, to)
}

// damages returns wrong contents for a blob: cut off, longer, bits turned at
// both ends and anywhere.
func damages(rng *rand.Rand, whole []byte) map[string][]byte {
	turn := func(bit int) []byte {
		p := slices.Clone(whole)
		p[bit/8] ^= 1 << (bit % 8)
		return p
	}
	return map[string][]byte{
		"cut off":    whole[:rng.IntN(len(whole))],
		"empty":      {},
		"longer":     append(slices.Clone(whole), 'x'),
		"first bit":  turn(0),
		"last bit":   turn(8*len(whole) - 1),
		"some bit":   turn(rng.IntN(8 * len(whole))),
		"other bit":  turn(rng.IntN(8 * len(whole))),
		"all zeros":  make([]byte, len(whole)),
		"other size": whole[1:],
	}
}

// refuseDamaged fails the test unless a restore of the point says that the blob
// is damaged, with the exit code for that, and makes no file.
func (s *site) refuseDamaged(t *testing.T, p point, blob, how string) {
	t.Helper()
	to, r := s.restore(t, p.Epoch)
	if r.code == 0 && strings.HasSuffix(blob, ".seg") && (how == "first bit" || how == "longer" || how == "some bit" || how == "other bit") {
		s.sameDisks(t, to)
		must(t, os.RemoveAll(to))
		return
	}
	if r.code != 7 || !strings.Contains(r.stderr, blob) {
		t.Errorf("%s, %s: %v", blob, how, r)
	} else {
		t.Logf("%s: %v", how, r)
	}
	entries, err := os.ReadDir(to)
	if err != nil && !os.IsNotExist(err) || len(entries) != 0 {
		t.Errorf("%s, %s: the restore left %v (%v)", blob, how, entries, err)
	}
	must(t, os.RemoveAll(to))
}

func isManifestOf(blob string, p point) bool {
	return strings.HasSuffix(blob, "/points/"+manifestName(p.Epoch))
}

// blobs lists what lies in the directory that is the store.
func (s *site) blobs(t *testing.T) []string {
	t.Helper()
	root := strings.TrimPrefix(s.store, "file://")
	var blobs []string
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			blobs = append(blobs, strings.TrimPrefix(path, root+"/"))
		}
		return err
	}))
	return blobs
}
