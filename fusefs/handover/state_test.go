package handover

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var initRequest = bytes.Repeat([]byte{7}, 104)

// newState makes a state until the test ends.
func newState(t testing.TB) int {
	t.Helper()
	fd, err := Create("/srv/vms", "/mnt/vms", initRequest)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	return fd
}

func mapped(t testing.TB, fd int) *State {
	t.Helper()
	s, err := Map(fd)
	must(t, err)
	t.Cleanup(s.Unmap)
	return s
}

func nodesOf(t *testing.T, s *State) []Node {
	t.Helper()
	var nodes []Node
	must(t, s.Nodes(func(n Node, _ *Record) error { nodes = append(nodes, n); return nil }))
	return nodes
}

// TestStateOutlives writes as one filter and reads as the next.
func TestStateOutlives(t *testing.T) {
	fd := newState(t)
	s := mapped(t, fd)
	if len(s.Reply()) != 0 {
		t.Error("a fresh state has an answer to INIT")
	}
	must(t, s.SetReply([]byte("reply")))
	a := Node{ID: 1<<SlotBits | 2, Device: 3, Inode: 4, Kind: unix.S_IFREG, Lookups: 5, HandleType: 6, Handle: []byte("handle")}
	b := Node{ID: 2<<SlotBits | 5000, Device: 3, Inode: 8, Kind: unix.S_IFDIR, Lookups: 1, Handle: bytes.Repeat([]byte{1}, MaxHandle)}
	c := Node{ID: 9<<SlotBits | 7, Kind: unix.S_IFLNK, Lookups: 1}
	r := s.Publish(&a)
	s.Publish(&b)
	s.Publish(&c).Clear()
	r.SetLookups(6)
	r.SetOpens(2)
	r.SetBacking(9)
	r.AddNames(1)
	r.AddNames(4)
	a.Lookups, a.Opens, a.Backing, a.Names = 6, 2, 9, 5

	next := mapped(t, fd)
	if got := nodesOf(t, next); !reflect.DeepEqual(got, []Node{a, b}) {
		t.Errorf("the next filter finds %+v, want %+v", got, []Node{a, b})
	}
	if next.Number() != 9 || next.Fresh() != 5001 {
		t.Errorf("number %d, fresh %d: a number may be given twice", next.Number(), next.Fresh())
	}
	if next.Folder() != "/srv/vms" || next.Point() != "/mnt/vms" || !bytes.Equal(next.Init(), initRequest) || string(next.Reply()) != "reply" {
		t.Errorf("%q, %q, INIT %x, answer %q", next.Folder(), next.Point(), next.Init(), next.Reply())
	}
}

// TestStateRefused changes what a reader relies on.
func TestStateRefused(t *testing.T) {
	record := func(change func(*Record)) func(*State) {
		return func(s *State) {
			change(s.Publish(&Node{ID: 1<<SlotBits | 2, Kind: unix.S_IFREG, Lookups: 1}))
		}
	}
	for name, damage := range map[string]func(*State){
		"magic":           func(s *State) { s.header.magic++ },
		"version":         func(s *State) { s.header.version++ },
		"entry size":      func(s *State) { s.header.entry++ },
		"record size":     func(s *State) { s.header.record++ },
		"no INIT":         func(s *State) { s.header.initSize = 0 },
		"INIT too long":   func(s *State) { s.header.initSize = maxInit + 1 },
		"answer too long": func(s *State) { s.header.replySize = maxInit + 1 },
		"too many slots":  func(s *State) { s.header.fresh = Slots + 1 },
		"no root":         func(s *State) { s.header.fresh = 1 },
		"number":          func(s *State) { s.header.number = maxNumber + 1 },
		"folder":          func(s *State) { s.memory[folderAt], s.memory[folderAt+1] = 0xff, 0xff },
		"point":           func(s *State) { s.memory[pointAt], s.memory[pointAt+1] = 0xff, 0xff },
		"id of another":   record(func(r *Record) { r.id++ }),
		"id to come":      record(func(r *Record) { r.id += 1 << SlotBits }),
		"kind":            record(func(r *Record) { r.kind = 1 }),
		"no lookup":       record(func(r *Record) { r.lookups = 0 }),
		"opens":           record(func(r *Record) { r.opens = 1 << 63 }),
		"backing":         record(func(r *Record) { r.backing = -1 }),
		"handle":          record(func(r *Record) { r.handleSize = MaxHandle + 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			fd := newState(t)
			damage(mapped(t, fd))
			s, err := Map(fd)
			if err == nil {
				defer s.Unmap()
				err = s.Nodes(func(Node, *Record) error { return nil })
			}
			if !errors.Is(err, ErrNotUnderstood) {
				t.Errorf("%v, want %v", err, ErrNotUnderstood)
			}
		})
	}
	other, err := unix.MemfdCreate("other", unix.MFD_CLOEXEC)
	must(t, err)
	if _, err := Map(other); !errors.Is(err, ErrNotUnderstood) {
		t.Errorf("an empty file: %v", err)
	}
	must(t, unix.Close(other))
	if err := unix.Ftruncate(newState(t), 4096); !errors.Is(err, unix.EPERM) {
		t.Errorf("the state can be cut off under a mapping: %v", err)
	}
	if _, err := Create("/", "/", nil); err == nil {
		t.Error("a state without INIT is made")
	}
}

// FuzzRecord gives a filter whatever record: what it takes can be.
func FuzzRecord(f *testing.F) {
	valid := Record{id: 1<<SlotBits | 2, kind: unix.S_IFREG, lookups: 1, handleSize: 8}
	f.Add(bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&valid)), recordSize)), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, number uint64) {
		var r Record
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), recordSize), data)
		n, err := r.node(2, number)
		if err != nil {
			return
		}
		if n.ID&(Slots-1) != 2 || n.ID>>SlotBits > number || len(n.Handle) > MaxHandle || n.Lookups == 0 || int64(n.Opens) < 0 || n.Backing < 0 {
			t.Errorf("taken: %+v", n)
		}
	})
}

// FuzzState gives a filter whatever first page.
func FuzzState(f *testing.F) {
	fd := newState(f)
	s := mapped(f, fd)
	valid := bytes.Clone(s.memory[:unsafe.Sizeof(header{})])
	f.Add(valid, uint16(3))
	f.Fuzz(func(t *testing.T, page []byte, path uint16) {
		clear(s.memory[:folderAt])
		copy(s.memory[:folderAt], page)
		s.header.fresh = min(s.header.fresh, 1000) // reading more takes its time
		s.memory[folderAt], s.memory[folderAt+1] = byte(path), byte(path>>8)
		if s.check() != nil {
			return
		}
		if len(s.Init()) == 0 || len(s.Init()) > maxInit || len(s.Reply()) > maxInit || len(s.Folder()) > maxPath {
			t.Errorf("taken: INIT of %d, answer of %d, path of %d bytes", len(s.Init()), len(s.Reply()), len(s.Folder()))
		}
		_ = s.Nodes(func(Node, *Record) error { return nil }) // whatever it says, it comes back
	})
}
