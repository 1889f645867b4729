package replica

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"lifeboat/replica/segment"
)

// sealed puts a body into an envelope, so that fuzzing gets beyond its checksum.
func sealed(body []byte) []byte {
	return []byte(documentHead + string(body) + documentMid + hashOf(body).String() + documentTail)
}

// body takes it out again.
func body(t testing.TB, document []byte) []byte {
	t.Helper()
	end := len(document) - len(documentMid) - 64 - len(documentTail)
	inner := document[len(documentHead):end]
	if !bytes.Equal(sealed(inner), document) {
		t.Fatal("the envelope is not what it is said to be")
	}
	return inner
}

func FuzzManifest(f *testing.F) {
	id := strings.Repeat("0a", 16)
	m := &Manifest{
		Format: format, VM: id, Generation: 1, Epoch: 4, Walk: 2, Predecessor: Link{Epoch: 3, SHA256: segment.Hash{1}},
		Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Consistency: ApplicationConsistent, Writer: id,
		Disks: []PointDisk{{
			ID: id, Path: "a/b", Size: 9000, Floor: 9000,
			Segments: []segment.Ref{{Name: SegmentName(4, 0), Kind: segment.Walk, Size: 500, IndexOffset: 16, Footer: segment.Hash{2}}},
		}},
	}
	data, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body(f, data))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(sealed(data))
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := DecodeManifest(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for _, d := range m.Disks {
			if strings.HasPrefix(d.Path, "/") || strings.Contains("/"+d.Path+"/", "/../") || d.Floor > d.Size || d.Floor < 0 {
				t.Fatalf("%+v was taken", d)
			}
		}
	})
}

func FuzzVM(f *testing.F) {
	id := strings.Repeat("0a", 16)
	data, err := encodeDocument(VM{
		Format: format, ID: id, Name: "web", Generation: 1, Key: segment.Key{1},
		Created: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Disks: []VMDisk{{ID: id, Path: "a"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body(f, data))
	f.Fuzz(func(t *testing.T, data []byte) {
		vm, err := decodeVM(sealed(data))
		if err == nil && (vm.Validate() != nil || len(vm.Disks) == 0) {
			t.Fatalf("%+v was taken", vm)
		}
	})
}

func FuzzAbout(f *testing.F) {
	data, err := encodeDocument(about{Format: format, ID: NewID()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body(f, data))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a about
		if err := a.decode(sealed(data)); err == nil && !ValidID(a.ID) {
			t.Fatalf("%+v was taken", a)
		}
	})
}

// FuzzDocument takes whole documents: nothing but what was written is read.
func FuzzDocument(f *testing.F) {
	data, err := encodeDocument(about{Format: format, ID: NewID()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var a about
		if decodeDocument(data, &a) == nil && !bytes.Equal(sealed(body(t, data)), data) {
			t.Fatal("a document was taken that can be written in two ways")
		}
	})
}

func FuzzSegmentName(f *testing.F) {
	f.Add(SegmentName(1, 2))
	f.Fuzz(func(t *testing.T, name string) {
		if epoch, part, ok := ParseSegmentName(name); ok && SegmentName(epoch, part) != name {
			t.Fatalf("%q was read as %d, %d", name, epoch, part)
		}
	})
}
