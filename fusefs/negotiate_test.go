package fusefs

import (
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// TestNegotiation looks at the bytes of the answer to an INIT that offers
// everything: what the mount relies on must be taken, what would break it not.
func TestNegotiation(t *testing.T) {
	fs, err := Open(Options{Folder: t.TempDir(), Logger: testLogger(t)})
	must(t, err)
	defer func() { must(t, fs.Close()) }()

	request := make([]byte, unsafe.Sizeof(fuse.InitIn{}))
	in := (*fuse.InitIn)(unsafe.Pointer(&request[0]))
	*in = fuse.InitIn{Major: 7, Minor: 45, MaxReadAhead: 128 << 10, Flags: ^uint32(0), Flags2: ^uint32(0)}
	in.Length = uint32(len(request))
	in.Opcode = opInit
	in.Unique = 2
	reply := make([]byte, 256)
	size, err := newConnection(-1, fs.filter).negotiate(request, reply)
	must(t, err)
	if want := outHeaderSize + int(unsafe.Sizeof(fuse.InitOut{})); size != want {
		t.Fatalf("the answer has %d bytes, want %d", size, want)
	}
	out := (*fuse.InitOut)(unsafe.Pointer(&reply[outHeaderSize]))
	if out.MaxWrite != maxTransfer || out.MaxPages != maxTransfer/pageSize || out.MaxBackground != maxBackground {
		t.Errorf("max_write %d, max_pages %d, max_background %d", out.MaxWrite, out.MaxPages, out.MaxBackground)
	}
	flags := out.Flags64()
	for name, flag := range map[string]uint64{
		"asynchronous reads":      fuse.CAP_ASYNC_READ,
		"big writes":              fuse.CAP_BIG_WRITES,
		"asynchronous direct I/O": fuse.CAP_ASYNC_DIO,
		"parallel look-ups":       fuse.CAP_PARALLEL_DIROPS,
		"max_pages":               fuse.CAP_MAX_PAGES,
		"readdirplus":             fuse.CAP_READDIRPLUS,
		"readdirplus when useful": fuse.CAP_READDIRPLUS_AUTO,
		"killpriv version 2":      fuse.CAP_HANDLE_KILLPRIV_V2,
		"explicit invalidation":   fuse.CAP_EXPLICIT_INVAL_DATA,
		"resend":                  fuse.CAP_HAS_RESEND,
		"passthrough":             fuse.CAP_PASSTHROUGH,
	} {
		if flags&flag == 0 {
			t.Errorf("%s is not asked for", name)
		}
	}
	for name, flag := range map[string]uint64{
		"writeback cache":     fuse.CAP_WRITEBACK_CACHE,
		"atomic O_TRUNC":      fuse.CAP_ATOMIC_O_TRUNC,
		"mtime invalidation":  fuse.CAP_AUTO_INVAL_DATA,
		"locks":               fuse.CAP_POSIX_LOCKS | fuse.CAP_FLOCK_LOCKS,
		"no open":             fuse.CAP_NO_OPEN_SUPPORT,
		"no opendir":          fuse.CAP_NO_OPENDIR_SUPPORT,
		"umask in the filter": fuse.CAP_DONT_MASK,
		"export":              fuse.CAP_EXPORT_SUPPORT,
		"io_uring":            fuse.CAP_OVER_IO_URING,
		"id-mapped mounts":    fuse.CAP_ALLOW_IDMAP,
		"larger SETXATTR":     fuse.CAP_SETXATTR_EXT,
		"request extensions":  fuse.CAP_SECURITY_CTX | fuse.CAP_CREATE_SUPP_GROUP,
		"request time limits": fuse.CAP_REQUEST_TIMEOUT,
		"DAX":                 fuse.CAP_HAS_INODE_DAX | fuse.CAP_MAP_ALIGNMENT,
		"submounts":           fuse.CAP_SUBMOUNTS,
		"symlink caching":     fuse.CAP_CACHE_SYMLINKS,
	} {
		if flags&flag != 0 {
			t.Errorf("%s is asked for", name)
		}
	}
	second := make([]byte, 256)
	if _, err := newConnection(-1, fs.filter).negotiate(request, second); err != nil || string(second) != string(reply) {
		t.Errorf("the same INIT gives another answer the second time (%v)", err)
	}
}
