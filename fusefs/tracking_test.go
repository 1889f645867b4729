package fusefs

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// trackedSteps is how many random operations TestTracking does.
var trackedSteps = flag.Int("tracked-steps", 250, "random operations of TestTracking")

const trackedSize = 256 << 10 // the file is about as large as that

// TestTracking does the same random operations to a protected file on the mount
// and to a plain file, and holds the content of both, as the folder below has
// it, against each other after every step: every byte that differs from before
// must lie in a range that the disk was told of, and the two must be equal.
func TestTracking(t *testing.T) {
	seed := uint64(os.Getpid())
	random := rand.New(rand.NewPCG(seed, 1))
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("disk"), pattern(random, trackedSize), 0o644))
	d := &recorder{t: t}
	must(t, s.fs.Attach(s.identify(t, "disk"), d))
	twin := s.below("twin")
	must(t, os.WriteFile(twin, read(t, s.below("disk")), 0o644))
	must(t, os.WriteFile(s.path("source"), pattern(random, trackedSize), 0o644))

	before := read(t, s.below("disk"))
	done := make(map[string]int)
	for step := range *trackedSteps {
		name, operation := randomOperation(random)
		errDisk, errTwin := operation(s.path("disk")), operation(twin)
		if (errDisk == nil) != (errTwin == nil) {
			t.Fatalf("seed %d, step %d: %s: %v on the mount, %v on a plain file", seed, step, name, errDisk, errTwin)
		}
		after := read(t, s.below("disk"))
		if !bytes.Equal(after, read(t, twin)) {
			t.Fatalf("seed %d, step %d: %s: the mount did not do what a plain folder does", seed, step, name)
		}
		if at := untold(before, after, d.take()); at >= 0 {
			t.Fatalf("seed %d, step %d: %s changed byte %d, of which the disk was not told", seed, step, name, at)
		}
		before = after
		done[name]++
	}
	d.idle(t)
	t.Logf("seed %d: %v", seed, done)
	if opens := s.fs.Stats().PassthroughOpens; opens == 0 {
		t.Log("the source was not opened with passthrough: this kernel has none")
	}
}

// untold returns the first byte that differs and is in no range, or -1. Beyond
// its end a file is an endless row of zeros.
func untold(before, after []byte, told []span) int64 {
	const page = 4096
	size := max(len(before), len(after)) + page // no page is short
	before = append(before[:len(before):len(before)], make([]byte, size-len(before))...)
	after = append(after[:len(after):len(after)], make([]byte, size-len(after))...)
	for at := 0; at+page <= size; at += page {
		if bytes.Equal(before[at:at+page], after[at:at+page]) {
			continue
		}
		for i := at; i < at+page; i++ {
			covers := func(r span) bool { return r.from <= int64(i) && int64(i) < r.to }
			if before[i] != after[i] && !slices.ContainsFunc(told, covers) {
				return int64(i)
			}
		}
	}
	return -1
}

// randomOperation chooses something that changes a file, with its arguments.
func randomOperation(random *rand.Rand) (string, func(path string) error) {
	offset := random.Int64N(trackedSize)
	if random.IntN(3) == 0 {
		offset &^= 4095
	}
	length := 1 + random.Int64N(1<<uint(random.IntN(17)))
	data := pattern(random, int(length))
	fallocate := func(mode uint32) func(string) error {
		return opened(os.O_RDWR, func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), mode, offset, length)
		})
	}
	write := func(flags int) func(string) error {
		return opened(flags, func(f *os.File) error {
			_, err := f.WriteAt(data, offset)
			return err
		})
	}
	operations := []struct {
		name string
		do   func(path string) error
	}{
		{"write", write(os.O_RDWR)},
		{"write with O_SYNC", write(os.O_RDWR | unix.O_SYNC)},
		{"write with O_DSYNC", write(os.O_WRONLY | unix.O_DSYNC)},
		{"append", opened(os.O_WRONLY|os.O_APPEND, func(f *os.File) error {
			_, err := f.Write(data[:min(len(data), 4096)])
			return err
		})},
		{"mapped write", func(path string) error { return writeMapped(path, offset, data) }},
		{"truncate", func(path string) error { return os.Truncate(path, offset) }},
		{"ftruncate", opened(os.O_RDWR, func(f *os.File) error { return f.Truncate(offset) })},
		{"grow", func(path string) error { return os.Truncate(path, trackedSize+offset/8) }},
		{"open with O_TRUNC", func(path string) error {
			return opened(os.O_RDWR|os.O_TRUNC, func(f *os.File) error {
				_, err := f.WriteAt(data, trackedSize-length)
				return err
			})(path)
		}},
		{"create of an existing file", opened(os.O_RDWR|os.O_CREATE|os.O_TRUNC, func(f *os.File) error {
			_, err := f.Write(data)
			return err
		})},
		{"allocate", fallocate(0)},
		{"allocate and keep the size", fallocate(unix.FALLOC_FL_KEEP_SIZE)},
		{"punch", fallocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)},
		{"zero", fallocate(unix.FALLOC_FL_ZERO_RANGE)},
		{"zero and keep the size", fallocate(unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE)},
		{"copy_file_range", func(path string) error {
			return copyRange(filepath.Join(filepath.Dir(path), "source"), path, length%trackedSize, offset, length)
		}},
		{"copy_file_range inside", func(path string) error { return copyRange(path, path, 0, offset+length, min(length, offset)) }},
	}
	o := operations[random.IntN(len(operations))]
	return o.name, o.do
}

// opened does something with a file that is open for just that.
func opened(flags int, do func(f *os.File) error) func(path string) error {
	return func(path string) error {
		f, err := os.OpenFile(path, flags, 0o644)
		if err != nil {
			return err
		}
		if do == nil {
			return f.Close()
		}
		if err := do(f); err != nil {
			_ = f.Close()
			return err
		}
		return f.Close()
	}
}

func copyRange(source, dest string, from, to, length int64) error {
	return opened(os.O_RDWR, func(in *os.File) error {
		return opened(os.O_RDWR, func(out *os.File) error {
			for length > 0 {
				k, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(length), 0)
				if err != nil {
					return err
				}
				if k == 0 {
					return nil
				}
				length -= int64(k)
			}
			return nil
		})(dest)
	})(source)
}

// pattern is data without long runs of equal bytes.
func pattern(random *rand.Rand, length int) []byte {
	p := make([]byte, 0, length+8)
	for len(p) < length {
		p = binary.LittleEndian.AppendUint64(p, random.Uint64())
	}
	return p[:length]
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMovedData has the modes of fallocate that move data, which no kernel
// passes to FUSE yet, told as changes of size.
func TestMovedData(t *testing.T) {
	for name, mode := range map[string]uint32{
		"collapse": unix.FALLOC_FL_COLLAPSE_RANGE,
		"insert":   unix.FALLOC_FL_INSERT_RANGE,
	} {
		t.Run(name, func(t *testing.T) {
			s := serveFolder(t)
			random := rand.New(rand.NewPCG(1, 2))
			for _, file := range []string{"disk", "twin"} {
				must(t, os.WriteFile(s.below(file), pattern(rand.New(rand.NewPCG(1, 1)), 64<<10), 0o644))
			}
			d := &recorder{t: t}
			must(t, s.fs.Attach(s.identify(t, "disk"), d))
			before := read(t, s.below("disk"))
			offset, length := int64(4096*(1+random.IntN(4))), int64(8192)
			in := fallocateRequest(t, s, "disk", mode, offset, length)
			if st := s.fs.filter.Fallocate(nil, in); !st.Ok() {
				t.Fatal(st)
			}
			must(t, opened(os.O_RDWR, func(f *os.File) error {
				return unix.Fallocate(int(f.Fd()), mode, offset, length)
			})(s.below("twin")))
			after := read(t, s.below("disk"))
			if !bytes.Equal(after, read(t, s.below("twin"))) {
				t.Error("the file differs from one on which the system call was made")
			}
			told := d.take()
			if len(told) != 1 || told[0] != (span{offset, math.MaxInt64}) {
				t.Errorf("told %v, want everything from %d on", told, offset)
			}
			if at := untold(before, after, told); at >= 0 {
				t.Errorf("byte %d changed", at)
			}
		})
	}
}
