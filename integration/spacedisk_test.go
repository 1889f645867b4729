package integration

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// hugeSize is that of a sparse disk that nobody could read in full here.
const hugeSize = 4 << 40

// sameSparse fails the test unless two sparse files are equal and the second
// takes no more space than the first, but for a little.
func sameSparse(t *testing.T, path, other string) {
	t.Helper()
	a, err := os.Open(path)
	must(t, err)
	defer a.Close() //nolint:errcheck // only read
	b, err := os.Open(other)
	must(t, err)
	defer b.Close() //nolint:errcheck // likewise
	if size := fileSize(t, a); size != fileSize(t, b) {
		t.Errorf("%s has %d bytes, %s %d", path, size, other, fileSize(t, b))
	}
	// What is a hole in both is equal.
	for _, x := range append(dataOf(t, a), dataOf(t, b)...) {
		if !bytes.Equal(readAt(t, a, x), readAt(t, b, x)) {
			t.Errorf("%s and %s differ between %d and %d", path, other, x.from, x.to)
		}
	}
	const slack = 64 << 10
	if source, copied := allocatedBytes(t, a), allocatedBytes(t, b); copied > source+slack {
		t.Errorf("%s takes %d bytes, %s %d", path, source, other, copied)
	}
}

// data is a run of bytes that is no hole, cut into pieces of at most largestIO.
type data struct{ from, to int64 }

func dataOf(t *testing.T, f *os.File) (all []data) {
	t.Helper()
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return all
		}
		must(t, err)
		to, err := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		must(t, err)
		at = min(to, from+largestIO)
		all = append(all, data{from, at})
	}
}

func readAt(t *testing.T, f *os.File, x data) []byte {
	t.Helper()
	p := make([]byte, x.to-x.from)
	_, err := f.ReadAt(p, x.from)
	must(t, err)
	return p
}

func fileSize(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	must(t, err)
	return info.Size()
}

func allocatedBytes(t *testing.T, f *os.File) int64 {
	t.Helper()
	must(t, f.Sync()) // delayed allocation counts too much
	var s unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &s))
	return s.Blocks * 512
}

// spaceBelow is what all files in a directory take.
func spaceBelow(t *testing.T, dir string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // a file that the tracker removed meanwhile
		}
		var s unix.Stat_t
		if err == nil && unix.Lstat(path, &s) == nil {
			n += s.Blocks * 512
		}
		return err
	}))
	return n
}
