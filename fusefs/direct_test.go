package fusefs

import (
	"bytes"
	"os"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestDirect: a guest's O_DIRECT reaches the disk file if that is wanted, and
// what the file system below refuses is served all the same.
func TestDirect(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name   string
		policy Direct
		flags  uint32
		offset uint64
		length int
		cached bool // the file below has pages in memory afterwards
	}{
		{"passed on", DirectPass, unix.O_DIRECT, 8192, 64 << 10, false},
		{"passed on and durable", DirectPass, unix.O_DIRECT | unix.O_DSYNC, 8192, 4096, false},
		{"not aligned", DirectPass, unix.O_DIRECT, 8192 + 100, 1000, true},
		{"not asked for", DirectPass, 0, 8192, 4096, true},
		{"buffered", DirectBuffered, unix.O_DIRECT, 8192, 4096, true},
		{"longer than the file", DirectPass, unix.O_DIRECT, size, 4096, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serveFolder(t, protectingAll(func(FileID) Disk { return nothing{} }), func(o *Options, _ *filter) { o.Direct = c.policy })
			must(t, os.WriteFile(s.below("disk"), bytes.Repeat([]byte{1}, size), 0o644))
			n := nodeOf(t, s, "disk")
			f, err := os.Open(s.below("disk"))
			must(t, err)
			defer f.Close() //nolint:errcheck // only read
			must(t, f.Sync())
			must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
			if n := cachedPages(t, f); n != 0 {
				t.Fatalf("%d pages stay in memory: this test needs a folder on a disk", n)
			}

			conn := newConnection(-1, s.fs.filter)
			b, err := newBuffers(s.fs.filter.log)
			must(t, err)
			defer b.free()
			for _, op := range []uint32{opWrite, opRead} {
				request := ioRequest(b, op, n.id, c.offset, c.length)
				(*fuse.WriteIn)(unsafe.Pointer(unsafe.SliceData(request))).Flags = c.flags
				if op == opWrite {
					copy(request[writeInSize:], bytes.Repeat([]byte{2}, c.length))
				}
				k := conn.answer(request, b.reply)
				if status := (*fuse.OutHeader)(unsafe.Pointer(unsafe.SliceData(b.reply))).Status; status != 0 {
					t.Fatalf("operation %d: %v", op, unix.Errno(-status))
				}
				if op == opRead && !bytes.Equal(b.reply[outHeaderSize:k], bytes.Repeat([]byte{2}, c.length)) {
					t.Fatal("what is read is not what was written")
				}
			}
			if got := cachedPages(t, f) > 0; got != c.cached {
				t.Fatalf("pages in memory: %v", got)
			}
		})
	}
}

// cachedPages returns how many pages of a file are in memory.
func cachedPages(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var s unix.Cachestat_t
	must(t, unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &s, 0))
	return s.Cache
}
