package fusefs

import (
	"os"
	"testing"

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
