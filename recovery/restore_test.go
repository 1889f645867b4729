package recovery

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/blobstore"
)

// threePoints returns a VM of two disks with three recovery points.
func threePoints(t *testing.T) *source {
	t.Helper()
	s := newSource(t, t.TempDir(), 50*disk.BlockSize+512, 30*disk.BlockSize)
	t.Cleanup(s.close)
	for i, d := range s.disks {
		for at := i; at < len(d.content); at += 97 + i {
			d.content[at] = byte(at >> 3)
		}
		clear(d.content[5*disk.BlockSize : 9*disk.BlockSize])
	}
	s.cut()
	s.disks[0].write(3000, bytes.Repeat([]byte("second"), 3000))
	s.cut()
	s.disks[1].write(9000, bytes.Repeat([]byte("third"), 3000))
	s.disks[0].resize(20*disk.BlockSize+100, false)
	s.disks[0].resize(60*disk.BlockSize, false)
	s.cut()
	return s
}

// files lists all files below a folder.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkRestored compares a folder with what the disks were, and with the files
// that ought to be there.
func checkRestored(t *testing.T, s *source, epoch uint64, folder string) {
	t.Helper()
	for i, d := range s.disks {
		got, err := os.ReadFile(filepath.Join(folder, d.path))
		if err != nil || !bytes.Equal(got, s.points[epoch][i]) {
			t.Errorf("disk %d of epoch %d is not what it was: %v", i, epoch, err)
		}
	}
	if left := files(t, folder); len(left) != len(s.disks) {
		t.Errorf("files left: %v", left)
	}
}

func TestRestoreRefusesToOverwrite(t *testing.T) {
	s := threePoints(t)
	folder := filepath.Join(t.TempDir(), "new", "folder")
	if _, err := Restore(t.Context(), s.repository, testVM, 1, folder, Options{}); err != nil {
		t.Fatal(err)
	}
	checkRestored(t, s, 1, folder)
	_, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{})
	if !errors.Is(err, ErrTargetExists) || !strings.Contains(err.Error(), s.disks[0].path) || !strings.Contains(err.Error(), s.disks[1].path) {
		t.Errorf("files in the way: %v", err)
	}
	checkRestored(t, s, 1, folder)
	var last Progress
	report, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{Force: true, Parallel: 1, Progress: func(p Progress) { last = max2(last, p) }})
	if err != nil {
		t.Fatal(err)
	}
	checkRestored(t, s, 3, folder)
	if last.Fetched != last.ToFetch || last.Verified != last.ToVerify || last.ToFetch != report.Disks[0].Data+report.Disks[1].Data {
		t.Errorf("in the end the progress was %+v", last)
	}
	// A folder in the place of a disk is not replaced in any case.
	path := filepath.Join(folder, s.disks[1].path)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{Force: true}); !errors.Is(err, ErrTargetExists) {
		t.Errorf("a folder in the way: %v", err)
	}
}

// A file that appears while the restore is under way is not replaced either.
func TestRestoreDoesNotReplaceWhatAppeared(t *testing.T) {
	s := threePoints(t)
	folder := t.TempDir()
	path := filepath.Join(folder, s.disks[0].path)
	_, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{Progress: func(Progress) {
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Error(err)
		}
	}})
	if !errors.Is(err, ErrTargetExists) {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file is now %q, %v", b, err)
	}
	if found := files(t, folder); len(found) != 1 {
		t.Errorf("left behind: %v", found)
	}
}

func max2(a, b Progress) Progress {
	return Progress{
		Fetched: max(a.Fetched, b.Fetched), ToFetch: max(a.ToFetch, b.ToFetch),
		Verified: max(a.Verified, b.Verified), ToVerify: max(a.ToVerify, b.ToVerify),
	}
}

func TestRestoreStaysInItsFolder(t *testing.T) {
	s := threePoints(t)
	outside := t.TempDir()
	folder := t.TempDir()
	// The disk's folder leads elsewhere.
	if err := os.Symlink(outside, filepath.Join(folder, "folder0")); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{Force: true}); err == nil {
		t.Error("a symbolic link out of the folder was followed")
	}
	if found := files(t, outside); len(found) != 0 {
		t.Errorf("outside there is %v", found)
	}
	// A link in the place of the disk is replaced itself, not what it leads to.
	folder = t.TempDir()
	victim := filepath.Join(outside, "victim")
	err := errors.Join(
		os.WriteFile(victim, []byte("mine"), 0o600),
		os.Mkdir(filepath.Join(folder, "folder0"), 0o755),
		os.Symlink(victim, filepath.Join(folder, s.disks[0].path)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{}); !errors.Is(err, ErrTargetExists) {
		t.Errorf("a link in the way: %v", err)
	}
	if _, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{Force: true}); err != nil {
		t.Error(err)
	}
	checkRestored(t, s, 3, folder)
	if b, err := os.ReadFile(victim); err != nil || string(b) != "mine" {
		t.Errorf("the file that a link led to is now %q, %v", b, err)
	}
}

func TestRestoreIsSparse(t *testing.T) {
	s := newSource(t, t.TempDir(), 1<<20)
	defer s.close()
	s.cut()
	s.disks[0].resize(24<<20, false)
	s.disks[0].write(20<<20, []byte("far out"))
	s.cut()
	folder := t.TempDir()
	report, err := Restore(t.Context(), s.repository, testVM, 2, folder, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := allocated(t, filepath.Join(folder, s.disks[0].path)); n > 64<<10 || report.Disks[0].Data != disk.BlockSize {
		t.Errorf("a block of data takes %d bytes; report %+v", n, report.Disks[0])
	}
}

func TestRestoreOfNothingKnown(t *testing.T) {
	s := threePoints(t)
	folder := filepath.Join(t.TempDir(), "none")
	if _, err := Restore(t.Context(), s.repository, testVM, 9, folder, Options{}); !errors.Is(err, replica.ErrNoPoint) {
		t.Errorf("epoch 9: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Restore(ctx, replicaOf(t, cancelling{s.store, cancel}), testVM, 3, folder, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if found := files(t, filepath.Dir(folder)); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

// Whatever is missing, cut or flipped in the container: either the bytes are
// right, or the restore fails, says which blob it was, leaves nothing, and the
// older point that it names can be restored.
func TestDamageIsNamedAndNeverRestored(t *testing.T) {
	s := threePoints(t)
	whole := maps.Clone(s.store.blobs)
	for name, content := range whole {
		if strings.Contains(name, "/events/") {
			continue
		}
		damages := map[string][]byte{"missing": nil, "empty": {}, "cut": content[:len(content)-1], "halved": content[:len(content)/2]}
		for at := 0; at < len(content); at += 1 + len(content)/20 {
			damages["flipped "+strings.Repeat("i", at)] = flip(content, at)
		}
		for what, damaged := range damages {
			if damaged == nil {
				delete(s.store.blobs, name)
			} else {
				s.store.blobs[name] = damaged
			}
			checkDamage(t, s, name, what)
			s.store.blobs[name] = content
		}
	}
}

func flip(data []byte, at int) []byte {
	out := slices.Clone(data)
	out[at] ^= 1 << (at % 8)
	return out
}

func checkDamage(t *testing.T, s *source, blob, what string) {
	t.Helper()
	if len(what) > 20 {
		what = what[:20]
	}
	if blob == "lifeboat.json" {
		if _, err := replica.Open(t.Context(), s.store); err == nil {
			t.Errorf("%s %s was opened", what, blob)
		}
		return
	}
	folder := memoryFolder(t)
	_, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{})
	if err == nil {
		checkRestored(t, s, 3, folder)
		return
	}
	if found := files(t, folder); len(found) != 0 {
		t.Errorf("%s %s: left behind: %v", what, blob, found)
	}
	if errors.Is(err, replica.ErrNoPoint) && blob == replica.PointBlob(testVM, 3) {
		return // there is no such point now, which is the truth
	}
	var damaged *DamagedPointError
	if !errors.As(err, &damaged) || damaged.Damage.Blob != blob || !errors.Is(err, blobstore.ErrCorrupt) || !strings.Contains(err.Error(), blob) {
		t.Errorf("%s %s: %v", what, blob, err)
		return
	}
	if damaged.Older == 0 {
		return
	}
	if _, err := Restore(t.Context(), s.repository, testVM, damaged.Older, folder, Options{}); err != nil {
		t.Errorf("%s %s: the point of epoch %d was said to do without it: %v", what, blob, damaged.Older, err)
	}
	checkRestored(t, s, damaged.Older, folder)
}

// A manifest that is right in itself, but whose disk checksum is not that of the
// segments, must not pass for a restored disk.
func TestRestoreComparesWithTheManifest(t *testing.T) {
	s := threePoints(t)
	p, err := s.repository.Point(t.Context(), testVM, 3)
	if err != nil {
		t.Fatal(err)
	}
	m := *p.Manifest
	m.Disks = slices.Clone(m.Disks)
	m.Disks[1].Checksum.Add(m.Disks[0].Checksum)
	delete(s.store.blobs, replica.PointBlob(testVM, 3))
	if _, err := s.repository.Commit(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if _, err := Restore(t.Context(), s.repository, testVM, 3, folder, Options{}); !errors.Is(err, ErrNotEqual) {
		t.Errorf("%v", err)
	}
	if found := files(t, folder); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

func replicaOf(t *testing.T, store blobstore.Store) *replica.Repository {
	t.Helper()
	r, err := replica.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
