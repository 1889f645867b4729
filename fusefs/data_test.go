package fusefs

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// nothing is a Disk that does nothing.
type nothing struct{}

func (nothing) BeginChange(int64, int64) uint64 { return 0 }
func (nothing) BeginClear(int64, int64) uint64  { return 0 }
func (nothing) EndChange(uint64)                {}
func (nothing) BeginResize(int64)               {}
func (nothing) EndResize()                      {}
func (nothing) NameRemoved()                    {}

// ioRequest puts a READ or WRITE of size bytes at offset into a request buffer.
func ioRequest(b *buffers, op uint32, id uint64, offset uint64, size int) []byte {
	request := b.request[:writeInSize]
	if op == opWrite {
		request = b.request[:writeInSize+size]
	}
	in := (*fuse.WriteIn)(unsafe.Pointer(unsafe.SliceData(request)))
	*in = fuse.WriteIn{Offset: offset, Size: uint32(size)} // READ has these in the same places
	in.Opcode, in.NodeId, in.Unique, in.Length = op, id, 2, uint32(len(request))
	return request
}

// TestNoAllocation: READ and WRITE of a protected file allocate nothing.
func TestNoAllocation(t *testing.T) {
	s := serveFolder(t, protectingAll(func(FileID) Disk { return nothing{} }))
	must(t, os.WriteFile(s.path("disk"), make([]byte, 1<<20), 0o644))
	n := nodeOf(t, s, "disk")
	c := newConnection(-1, s.fs.filter)
	b, err := newBuffers(s.fs.filter.log)
	must(t, err)
	defer b.free()
	for name, request := range map[string]func() []byte{
		"read":  func() []byte { return ioRequest(b, opRead, n.id, 8192, 4096) },
		"write": func() []byte { return ioRequest(b, opWrite, n.id, 8192, 4096) },
	} {
		allocations := testing.AllocsPerRun(100, func() {
			if size := c.answer(request(), b.reply); size <= outHeaderSize {
				t.Fatalf("%s: answered by %d bytes", name, size)
			}
		})
		if allocations != 0 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	folder := b.TempDir()
	fs, err := Open(Options{Folder: folder})
	if err != nil {
		b.Fatal(err)
	}
	defer fs.Close() //nolint:errcheck // only measured
	if err := os.WriteFile(fs.Folder()+"/disk", make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	f := fs.filter
	var out fuse.EntryOut
	if st := f.Lookup(nil, &fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}, "disk", &out); !st.Ok() {
		b.Fatal(st)
	}
	buffers, err := newBuffers(f.log)
	if err != nil {
		b.Fatal(err)
	}
	defer buffers.free()
	c := newConnection(-1, f)
	for name, op := range map[string]uint32{"read": opRead, "write": opWrite} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(4096)
			for b.Loop() {
				c.answer(ioRequest(buffers, op, out.NodeId, 8192, 4096), buffers.reply)
			}
		})
	}
}

// TestDirectIO reads and writes with O_DIRECT, in the largest requests.
func TestDirectIO(t *testing.T) {
	s := serveFolder(t, withoutPassthrough)
	random := rand.New(rand.NewPCG(3, 4))
	want := pattern(random, 4<<20)
	must(t, os.WriteFile(s.below("disk"), want, 0o644))
	buffer, err := unix.Mmap(-1, 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	must(t, err)
	defer func() { must(t, unix.Munmap(buffer)) }()
	must(t, opened(os.O_RDWR|unix.O_DIRECT, func(f *os.File) error {
		before := s.count("READ")
		if _, err := f.ReadAt(buffer, 0); err != nil {
			return err
		}
		if !bytes.Equal(buffer, want) {
			t.Error("what is read differs")
		}
		if n := s.count("READ") - before; n > 5 {
			t.Errorf("4 MiB take %d READs: they are not of 1 MiB", n)
		}
		copy(buffer, pattern(random, 3<<20))
		before = s.count("WRITE")
		_, err := f.WriteAt(buffer, 0)
		if n := s.count("WRITE") - before; n > 5 {
			t.Errorf("4 MiB take %d WRITEs: they are not of 1 MiB", n)
		}
		return err
	})(s.path("disk")))
	if !bytes.Equal(read(t, s.below("disk")), buffer) {
		t.Error("what was written differs")
	}
}

// TestCacheKept reads a file again after it was closed: from the kernel's cache
// if nobody changed it, and anew if somebody did, behind the mount's back.
func TestCacheKept(t *testing.T) {
	s := serveFolder(t, withoutPassthrough)
	must(t, os.WriteFile(s.below("disk"), []byte("first"), 0o644))
	readBack := func(want string, fromCache bool) {
		t.Helper()
		before := s.count("READ")
		if got := string(read(t, s.path("disk"))); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
		waitReleased(t, s, "disk")
		if cached := s.count("READ") == before; cached != fromCache {
			t.Errorf("read from the kernel's cache: %v, want %v", cached, fromCache)
		}
	}
	readBack("first", false)
	readBack("first", true)
	must(t, os.WriteFile(s.below("disk"), []byte("other"), 0o644))
	readBack("other", false)
	readBack("other", true)
}

// TestFsyncReachesTheFile: a flush on the mount is a flush below, and does not
// hold up other requests.
func TestFsyncReachesTheFile(t *testing.T) {
	s := serveFolder(t, func(o *Options, _ *filter) { o.NoPassthrough, o.Readers = true, 1 })
	f, err := os.Create(s.path("disk"))
	must(t, err)
	_, err = f.WriteString("data")
	must(t, err)
	must(t, f.Sync())
	must(t, unix.Fdatasync(int(f.Fd())))
	if n := s.count("FSYNC"); n != 2 {
		t.Errorf("%d FSYNC requests", n)
	}
	must(t, f.Close())
	dir, err := os.Open(s.point)
	must(t, err)
	must(t, dir.Sync())
	must(t, dir.Close())
	if n := s.count("FSYNCDIR"); n != 1 {
		t.Errorf("%d FSYNCDIR requests", n)
	}
}

func TestSeekDataAndHoles(t *testing.T) {
	s := serveFolder(t, withoutPassthrough)
	must(t, opened(os.O_CREATE|os.O_RDWR, func(f *os.File) error {
		_, err := f.WriteAt([]byte("x"), 1<<20)
		return err
	})(s.below("disk")))
	must(t, opened(os.O_RDONLY, func(f *os.File) error {
		if at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != nil || at != 1<<20 {
			t.Errorf("data begins at %d, %v", at, err)
		}
		if at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE); err != nil || at != 0 {
			t.Errorf("a hole begins at %d, %v", at, err)
		}
		if _, err := unix.Seek(int(f.Fd()), 2<<20, unix.SEEK_DATA); err != unix.ENXIO {
			t.Errorf("beyond the end: %v", err)
		}
		return nil
	})(s.path("disk")))
}
