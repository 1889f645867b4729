package replica_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/replica/segment"
)

var (
	vmID   = strings.Repeat("0a", 16)
	diskID = strings.Repeat("0b", 16)
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
)

func describe(id, name string, generation uint64) replica.VM {
	return replica.VM{
		ID: id, Name: name, Generation: generation, Key: segment.Key{1}, Created: noon,
		Disks: []replica.VMDisk{{ID: diskID, Path: "vm/disk.vhd", Format: "vhd"}},
	}
}

func manifest(epoch uint64, predecessor replica.Link) *replica.Manifest {
	return &replica.Manifest{
		VM: vmID, Generation: 1, Epoch: epoch, Predecessor: predecessor, Time: noon,
		Consistency: replica.CrashConsistent, Writer: vmID,
		Disks: []replica.PointDisk{{ID: diskID, Path: "vm/disk.vhd", Size: 8192, Floor: 4096}},
	}
}

func newRepository(t *testing.T) (*replica.Repository, *memory) {
	t.Helper()
	store := newMemory()
	r, err := replica.Create(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return r, store
}

func TestOpenKnowsWhatIsARepository(t *testing.T) {
	store := newMemory()
	if _, err := replica.Open(t.Context(), store); !errors.Is(err, replica.ErrNoRepository) {
		t.Errorf("empty store: %v", err)
	}
	r, err := replica.OpenOrCreate(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	again, err := replica.OpenOrCreate(t.Context(), store)
	if err != nil || again.ID() != r.ID() || !replica.ValidID(r.ID()) {
		t.Errorf("opened as %q, created as %q: %v", again.ID(), r.ID(), err)
	}
	if _, err := replica.Create(t.Context(), store); !errors.Is(err, blobstore.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	whole := store.blobs["lifeboat.json"]
	for i := range whole {
		store.blobs["lifeboat.json"] = flip(whole, i)
		if _, err := replica.Open(t.Context(), store); !errors.Is(err, blobstore.ErrCorrupt) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
}

func flip(data []byte, at int) []byte {
	out := append([]byte(nil), data...)
	out[at] ^= 1 << (at % 8)
	return out
}

func TestVMsAreFoundByNameAndID(t *testing.T) {
	r, _ := newRepository(t)
	if _, err := r.FindVM(t.Context(), "web"); !errors.Is(err, replica.ErrUnknownVM) {
		t.Errorf("empty repository: %v", err)
	}
	other := strings.Repeat("0c", 16)
	third := strings.Repeat("0d", 16)
	for _, vm := range []replica.VM{describe(vmID, "web", 1), describe(vmID, "web server", 2), describe(other, "db", 1), describe(third, "db", 1)} {
		for range 2 { // putting the same again is nothing
			if err := r.PutVM(t.Context(), vm); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{vmID, "web server"} {
		vm, err := r.FindVM(t.Context(), name)
		if err != nil || vm.ID != vmID || vm.Generation != 2 {
			t.Errorf("%s: %+v, %v", name, vm, err)
		}
	}
	_, err := r.FindVM(t.Context(), "web")
	if !errors.Is(err, replica.ErrUnknownVM) || !strings.Contains(err.Error(), `"web server"`) {
		t.Errorf("old name: %v", err)
	}
	_, err = r.FindVM(t.Context(), "db")
	if err == nil || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), third) {
		t.Errorf("ambiguous name: %v", err)
	}
	if _, err := r.FindVM(t.Context(), strings.Repeat("0e", 16)); !errors.Is(err, replica.ErrUnknownVM) {
		t.Errorf("unknown id: %v", err)
	}
	changed := describe(vmID, "web server", 2)
	changed.Disks[0].Path = "elsewhere"
	var divergence *replica.DivergenceError
	if err := r.PutVM(t.Context(), changed); !errors.As(err, &divergence) {
		t.Errorf("another generation 2: %v", err)
	}
	changed.Generation, changed.Key = 3, segment.Key{2}
	if err := r.PutVM(t.Context(), changed); err == nil {
		t.Error("a generation with another key was taken")
	}
}

func TestNameOfADisabledVMIsFree(t *testing.T) {
	r, _ := newRepository(t)
	old, successor := describe(vmID, "web", 1), describe(strings.Repeat("0c", 16), "web", 1)
	disabled := describe(vmID, "web", 2)
	disabled.Disabled = disabled.Created.Add(time.Hour)
	for _, vm := range []replica.VM{old, disabled} {
		if err := r.PutVM(t.Context(), vm); err != nil {
			t.Fatal(err)
		}
	}
	found, err := r.FindVM(t.Context(), "web")
	if err != nil || found.ID != vmID || !found.Disabled.Equal(disabled.Disabled) {
		t.Errorf("the only one of the name, disabled: %+v, %v", found, err)
	}
	if err := r.PutVM(t.Context(), successor); err != nil {
		t.Fatal(err)
	}
	if found, err = r.FindVM(t.Context(), "web"); err != nil || found.ID != successor.ID {
		t.Errorf("beside a disabled one: %+v, %v", found, err)
	}
}

func TestVMsThatAreRefused(t *testing.T) {
	r, _ := newRepository(t)
	for name, spoil := range map[string]func(*replica.VM){
		"id":             func(v *replica.VM) { v.ID = "../" + v.ID },
		"upper case id":  func(v *replica.VM) { v.ID = strings.ToUpper(v.ID) },
		"generation":     func(v *replica.VM) { v.Generation = 0 },
		"key":            func(v *replica.VM) { v.Key = segment.Key{} },
		"no disk":        func(v *replica.VM) { v.Disks = nil },
		"disk id":        func(v *replica.VM) { v.Disks[0].ID = "x" },
		"disk twice":     func(v *replica.VM) { v.Disks = append(v.Disks, v.Disks[0]) },
		"path up":        func(v *replica.VM) { v.Disks[0].Path = "../x" },
		"absolute path":  func(v *replica.VM) { v.Disks[0].Path = "/x" },
		"unclean path":   func(v *replica.VM) { v.Disks[0].Path = "a//b" },
		"folder":         func(v *replica.VM) { v.Disks[0].Path = "." },
		"no UTF-8":       func(v *replica.VM) { v.Disks[0].Path = "a\xff" },
		"no name":        func(v *replica.VM) { v.Name = "" },
		"name as id":     func(v *replica.VM) { v.Name = v.ID },
		"name with bell": func(v *replica.VM) { v.Name = "a\a" },
	} {
		vm := describe(vmID, "web", 1)
		spoil(&vm)
		if err := r.PutVM(t.Context(), vm); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestCommitNeverOverwrites(t *testing.T) {
	r, store := newRepository(t)
	first, err := r.Commit(t.Context(), manifest(1, replica.Link{}))
	if err != nil {
		t.Fatal(err)
	}
	before := len(store.blobs)
	again, err := r.Commit(t.Context(), manifest(1, replica.Link{}))
	if err != nil || again.Link() != first.Link() {
		t.Errorf("the same again: %v", err)
	}
	other := manifest(1, replica.Link{})
	other.Writer = diskID
	var divergence *replica.DivergenceError
	if _, err := r.Commit(t.Context(), other); !errors.As(err, &divergence) {
		t.Errorf("another manifest of the epoch: %v", err)
	}
	if p, err := r.Point(t.Context(), vmID, 1); err != nil || p.Writer != vmID || len(store.blobs) != before {
		t.Errorf("the point is now %+v, %v", p, err)
	}
	if _, err := r.Point(t.Context(), vmID, 2); !errors.Is(err, replica.ErrNoPoint) {
		t.Errorf("no point: %v", err)
	}
}

func TestChainHasNoGap(t *testing.T) {
	r, store := newRepository(t)
	var link replica.Link
	for _, epoch := range []uint64{1, 2, 5, 6, 300} {
		p, err := r.Commit(t.Context(), manifest(epoch, link))
		if err != nil {
			t.Fatal(err)
		}
		link = p.Link()
	}
	// A point of somebody else that nothing rests on does not matter.
	if _, err := r.Commit(t.Context(), manifest(4, replica.Link{})); err != nil {
		t.Fatal(err)
	}
	chain, err := r.Chain(t.Context(), vmID, 300)
	if err != nil || len(chain) != 5 || chain[0].Epoch != 300 || chain[4].Epoch != 1 {
		t.Fatalf("chain of %d: %v", len(chain), err)
	}
	if newest, err := r.Newest(t.Context(), vmID); err != nil || newest.Epoch != 300 {
		t.Errorf("newest %d: %v", newest.Epoch, err)
	}
	blob := replica.PointBlob(vmID, 2)
	whole := store.blobs[blob]
	check := func(what string) {
		t.Helper()
		var damage *segment.DamageError
		if _, err := r.Chain(t.Context(), vmID, 300); !errors.As(err, &damage) || damage.Blob != blob {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := r.Chain(t.Context(), vmID, 1); err != nil {
			t.Errorf("%s: the point before it: %v", what, err)
		}
	}
	for i := range whole {
		store.blobs[blob] = flip(whole, i)
		check("flipped")
	}
	delete(store.blobs, blob)
	check("missing")
	store.blobs[blob] = store.blobs[replica.PointBlob(vmID, 1)]
	check("replaced by an older one")
	other := manifest(2, chain[4].Link())
	other.Time = noon.Add(time.Second)
	delete(store.blobs, blob)
	if _, err := r.Commit(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	check("replaced by one of its own epoch")
}

func TestManifestsThatAreRefused(t *testing.T) {
	ref := segment.Ref{Name: replica.SegmentName(1, 0), Kind: segment.Delta, Size: 1000, IndexOffset: 16, Footer: segment.Hash{1}}
	walk := ref
	walk.Name, walk.Kind = replica.SegmentName(1, 1), segment.Walk
	spoilt := map[string]func(m *replica.Manifest, d *replica.PointDisk){
		"format":           func(m *replica.Manifest, _ *replica.PointDisk) { m.Format = 2 },
		"epoch":            func(m *replica.Manifest, _ *replica.PointDisk) { m.Epoch = 0 },
		"own predecessor":  func(m *replica.Manifest, _ *replica.PointDisk) { m.Predecessor.Epoch = m.Epoch },
		"unproved link":    func(m *replica.Manifest, _ *replica.PointDisk) { m.Predecessor = replica.Link{Epoch: 1} },
		"local time":       func(m *replica.Manifest, _ *replica.PointDisk) { m.Time = m.Time.In(time.FixedZone("x", 3600)) },
		"kind":             func(m *replica.Manifest, _ *replica.PointDisk) { m.Consistency = "good" },
		"writer":           func(m *replica.Manifest, _ *replica.PointDisk) { m.Writer = "" },
		"no disk":          func(m *replica.Manifest, _ *replica.PointDisk) { m.Disks = nil },
		"path":             func(_ *replica.Manifest, d *replica.PointDisk) { d.Path = "../../etc/passwd" },
		"negative size":    func(_ *replica.Manifest, d *replica.PointDisk) { d.Size = -1 },
		"floor above size": func(_ *replica.Manifest, d *replica.PointDisk) { d.Floor = d.Size + 1 },
		"negative floor":   func(_ *replica.Manifest, d *replica.PointDisk) { d.Floor = -1 },
		"segment twice":    func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments = append(d.Segments, ref) },
		"walk without one": func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments = append(d.Segments, walk) },
		"floor of a walk":  func(m *replica.Manifest, _ *replica.PointDisk) { m.Walk = 1 },
		"walk after delta": func(m *replica.Manifest, d *replica.PointDisk) {
			m.Walk, d.Floor, d.Segments = 1, d.Size, append(d.Segments, walk)
		},
		"later segment": func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments[0].Name = replica.SegmentName(9, 0) },
		"segment name":  func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments[0].Name = "../../x" },
		"segment size":  func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments[0].Size = 1 << 40 },
		"index":         func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments[0].IndexOffset = 999 },
		"no proof":      func(_ *replica.Manifest, d *replica.PointDisk) { d.Segments[0].Footer = segment.Hash{} },
		"blocks":        func(_ *replica.Manifest, d *replica.PointDisk) { d.Blocks = 1 << 40 },
	}
	for name, spoil := range spoilt {
		m := manifest(3, replica.Link{Epoch: 2, SHA256: segment.Hash{1}})
		m.Format = 1
		m.Disks[0].Segments = []segment.Ref{ref}
		if _, err := m.Encode(); err != nil {
			t.Fatal(err)
		}
		spoil(m, &m.Disks[0])
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestSegmentsAreListedAndFound(t *testing.T) {
	r, store := newRepository(t)
	w, err := segment.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	seal := func(epoch uint64, name string) segment.Sealed {
		t.Helper()
		if err := w.Reset(segment.Header{Kind: segment.Walk, Disk: diskID, Epoch: epoch, Walk: 4}); err != nil {
			t.Fatal(err)
		}
		if err := w.Cover(disk.Extent{Start: 9, Count: epoch}); err != nil {
			t.Fatal(err)
		}
		sealed, err := w.Finish(name)
		if err != nil {
			t.Fatal(err)
		}
		sealed.Content = slices.Clone(sealed.Content) // the writer is used again
		return sealed
	}
	for _, epoch := range []uint64{7, 7, 8} {
		part, err := r.NextPart(t.Context(), vmID, diskID, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.PutSegment(t.Context(), vmID, diskID, seal(epoch, replica.SegmentName(epoch, part))); err != nil {
			t.Fatal(err)
		}
	}
	store.blobs[replica.SegmentBlob(vmID, diskID, "stray.seg")] = nil
	all, err := r.Segments(t.Context(), vmID, diskID, 0)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	seven, err := r.Segments(t.Context(), vmID, diskID, 7)
	if err != nil || len(seven) != 2 || seven[1].Part != 1 || seven[1].Name != replica.SegmentName(7, 1) {
		t.Fatalf("%v, %v", seven, err)
	}
	sealed := seal(7, replica.SegmentName(7, 1))
	x, ref, err := r.FindIndex(t.Context(), vmID, diskID, seven[1])
	if err != nil || ref != sealed.Ref || x.Walk != 4 || x.Covered != (disk.Extent{Start: 9, Count: 7}) {
		t.Errorf("%+v %+v %v", x, ref, err)
	}
	if err := r.PutSegment(t.Context(), vmID, diskID, sealed); !errors.Is(err, blobstore.ErrExists) {
		t.Errorf("a segment was overwritten: %v", err)
	}
	if err := r.PutSegment(t.Context(), vmID, vmID, seal(9, replica.SegmentName(9, 0))); err == nil {
		t.Error("a segment was put with another disk's")
	}
	// A segment under another's name is found out, in either way of reading it.
	store.blobs[replica.SegmentBlob(vmID, diskID, replica.SegmentName(9, 0))] = sealed.Content
	if _, _, err := r.FindIndex(t.Context(), vmID, diskID, replica.SegmentInfo{Name: replica.SegmentName(9, 0), Epoch: 9, Size: int64(len(sealed.Content))}); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("misplaced: %v", err)
	}
	if _, err := r.ReadIndex(t.Context(), vmID, vmID, sealed.Ref); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("missing: %v", err)
	}
}

func TestEventsAreAppended(t *testing.T) {
	r, store := newRepository(t)
	e := replica.Event{Time: noon, VM: vmID, Code: "protected", Text: "protection of web began"}
	for range 2 {
		if err := r.AppendEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	names := store.names("vms/" + vmID + "/events/20260301T120000.000000005Z-")
	if len(names) != 2 {
		t.Errorf("events: %v", store.names(""))
	}
	for _, name := range append(names, "lifeboat.json") {
		if err := blobstore.ValidName(name); err != nil {
			t.Error(err)
		}
	}
	if err := r.AppendEvent(t.Context(), replica.Event{VM: vmID, Time: noon}); err == nil {
		t.Error("an event without a code was taken")
	}
}
