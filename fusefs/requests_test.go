package fusefs

import (
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// nodeOf returns the node of a file on the mount, which it makes known first.
func nodeOf(t *testing.T, s *served, name string) *node {
	t.Helper()
	if _, err := os.Lstat(s.path(name)); err != nil {
		t.Fatal(err)
	}
	nodes := s.fs.filter.nodes.of(s.identify(t, name))
	if len(nodes) != 1 {
		t.Fatalf("%s has %d nodes", name, len(nodes))
	}
	return nodes[0]
}

func fallocateRequest(t *testing.T, s *served, name string, mode uint32, offset, length int64) *fuse.FallocateIn {
	t.Helper()
	in := &fuse.FallocateIn{Mode: mode, Offset: uint64(offset), Length: uint64(length)}
	in.NodeId = nodeOf(t, s, name).id
	return in
}

func renameInRoot(s *served, from, to string, flags uint32) fuse.Status {
	in := &fuse.RenameIn{Newdir: fuse.FUSE_ROOT_ID, Flags: flags}
	in.NodeId = fuse.FUSE_ROOT_ID
	return s.fs.filter.Rename(nil, in, from, to)
}

// TestCreateOfExisting has a file appear behind the mount's back between the
// kernel's look-up and its CREATE: the kernel must be sent to look again, where
// rights are checked and truncation is told, and the file stay as it is.
func TestCreateOfExisting(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("file"), []byte("content"), 0o600))
	in := &fuse.CreateIn{Flags: uint32(os.O_CREATE | os.O_TRUNC | os.O_RDWR), Mode: 0o644}
	in.NodeId = fuse.FUSE_ROOT_ID
	if st := s.fs.filter.Create(nil, in, "file", &fuse.CreateOut{}); st != fuse.Status(syscall.ESTALE) {
		t.Errorf("got %v", st)
	}
	in.Flags |= uint32(os.O_EXCL)
	if st := s.fs.filter.Create(nil, in, "file", &fuse.CreateOut{}); st != fuse.Status(syscall.EEXIST) {
		t.Errorf("with O_EXCL: got %v", st)
	}
	if got := string(read(t, s.below("file"))); got != "content" {
		t.Errorf("the file has become %q", got)
	}
}

// TestUnknownNodes asks for ids that were never given or were forgotten.
func TestUnknownNodes(t *testing.T) {
	s := serveFolder(t)
	stale := fuse.Status(syscall.ESTALE)
	for _, id := range []uint64{0, 2, 1 << 24, slotMask, ^uint64(0)} {
		header := &fuse.InHeader{NodeId: id}
		if st := s.fs.filter.Lookup(nil, header, "x", &fuse.EntryOut{}); st != stale {
			t.Errorf("lookup in node %#x: %v", id, st)
		}
		if st := s.fs.filter.GetAttr(nil, &fuse.GetAttrIn{InHeader: *header}, &fuse.AttrOut{}); st != stale {
			t.Errorf("attributes of node %#x: %v", id, st)
		}
		if _, err := s.fs.filter.read(&fuse.ReadIn{InHeader: *header}, nil); status(err) != stale {
			t.Errorf("read of node %#x: %v", id, err)
		}
		if _, err := s.fs.filter.write(&fuse.WriteIn{InHeader: *header}, nil); status(err) != stale {
			t.Errorf("write to node %#x: %v", id, err)
		}
		s.fs.filter.Release(nil, &fuse.ReleaseIn{InHeader: *header})
		s.fs.filter.Forget(id, 1)
	}
}

// TestBrokenRequests sends what no kernel sends; the answer is an error, not a
// crash.
func TestBrokenRequests(t *testing.T) {
	s := serveFolder(t)
	c := newConnection(-1, s.fs.filter)
	b, err := newBuffers(s.fs.filter.log)
	must(t, err)
	defer b.free()
	for _, op := range []uint32{opRead, opWrite} {
		for _, size := range []int{inHeaderSize, readInSize - 1, writeInSize} {
			clear(b.request[:writeInSize])
			header := headerOf(b.request)
			*header = fuse.InHeader{Opcode: op, Unique: 9, NodeId: fuse.FUSE_ROOT_ID, Length: uint32(size)}
			(*fuse.ReadIn)(unsafe.Pointer(header)).Size = 1 << 30
			n := c.answer(b.request[:size], b.reply)
			out := (*fuse.OutHeader)(unsafe.Pointer(unsafe.SliceData(b.reply)))
			if n != outHeaderSize || out.Status != -int32(syscall.EINVAL) || out.Unique != 9 {
				t.Errorf("operation %d of %d bytes: %d bytes, %+v", op, size, n, out)
			}
		}
	}
	if n := c.answer(b.request[:inHeaderSize-1], b.reply); n != 0 {
		t.Errorf("a request without a header is answered by %d bytes", n)
	}
}
