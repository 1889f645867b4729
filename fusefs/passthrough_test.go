package fusefs

import (
	"bytes"
	"os"
	"testing"
)

// writesSeen writes to a file on the mount and returns how many WRITEs came to
// the filter for it.
func (s *served) writesSeen(t *testing.T, name string) uint64 {
	t.Helper()
	before := s.count("WRITE")
	must(t, opened(os.O_RDWR|os.O_CREATE, func(f *os.File) error {
		_, err := f.WriteAt([]byte("some data"), 700)
		return err
	})(s.path(name)))
	if got := read(t, s.below(name)); !bytes.Contains(got, []byte("some data")) {
		t.Errorf("%s: the data did not arrive below", name)
	}
	return s.count("WRITE") - before
}

func TestPassthrough(t *testing.T) {
	image := func(size int, at int, magic string) []byte {
		p := make([]byte, size)
		copy(p[at:], magic)
		return p
	}
	excluded := func(o *Options, _ *filter) { o.Excluded = []string{"scratch-*"} }
	s := serveFolder(t, excluded)
	if !s.fs.filter.passthrough.Load() {
		t.Fatal("the kernel offers no passthrough: Linux 6.9 and root are needed")
	}
	for _, c := range []struct {
		name    string
		content []byte // nil: does not exist
		disk    bool
	}{
		{"notes.txt", []byte("text"), false},
		{"new.txt", nil, false},
		{"new.vhd", nil, true},
		{"NEW.VHDX", nil, true},
		{"new.qcow2", nil, true},
		{"install.iso", make([]byte, 4<<20), false},
		{"scratch-1.raw", nil, false},
		{"scratch-2", image(2<<20, 510, "\x55\xaa"), false},
		{"fixed-vhd", image(8192+512, 8192, "conectix"), true},
		{"dynamic-vhd", image(4096, 0, "conectix"), true},
		{"vhdx", image(4096, 0, "vhdxfile"), true},
		{"qcow2", image(4096, 0, "QFI\xfb"), true},
		{"vmdk", image(4096, 0, "KDMV"), true},
		{"vdi", image(4096, 64, "\x7f\x10\xda\xbe"), true},
		{"mbr", image(2<<20, 510, "\x55\xaa"), true},
		{"gpt", image(2<<20, 512, "EFI PART"), true},
		{"ext4", image(2<<20, 1080, "\x53\xef"), true},
		{"xfs", image(2<<20, 0, "XFSB"), true},
		{"small-with-signature", image(4096, 510, "\x55\xaa"), false},
		{"odd-with-signature", image(2<<20+1, 510, "\x55\xaa"), false},
		{"large", make([]byte, 2<<20), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.content != nil {
				must(t, os.WriteFile(s.below(c.name), c.content, 0o644))
			}
			if seen := s.writesSeen(t, c.name) > 0; seen != c.disk {
				t.Errorf("the filter saw the write: %v, want %v", seen, c.disk)
			}
		})
	}
}

// TestPassthroughAgrees opens one file twice: the second open must be served as
// the first, or the kernel fails it, even if the file has become a disk
// meanwhile.
func TestPassthroughAgrees(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("file"), make([]byte, 2<<20), 0o644))
	first, err := os.OpenFile(s.path("file"), os.O_RDWR, 0)
	must(t, err)
	_, err = first.WriteAt([]byte("\x55\xaa"), 510)
	must(t, err)
	if seen := s.writesSeen(t, "file"); seen != 0 {
		t.Errorf("%d WRITEs from the second open", seen)
	}
	must(t, first.Close())
	waitReleased(t, s, "file")
	if seen := s.writesSeen(t, "file"); seen == 0 {
		t.Error("after the last close the file was not judged anew")
	}
	// And the other way round: served first, then without the signature.
	first, err = os.OpenFile(s.path("file"), os.O_RDWR, 0)
	must(t, err)
	_, err = first.WriteAt([]byte("  "), 510)
	must(t, err)
	if seen := s.writesSeen(t, "file"); seen == 0 {
		t.Error("the second open went another way than the first")
	}
	must(t, first.Close())
}

// waitReleased waits until the filter has heard that nobody has the file open.
func waitReleased(t *testing.T, s *served, name string) {
	t.Helper()
	n := nodeOf(t, s, name)
	for range 100000 {
		if n.opens.Load() == 0 {
			return
		}
		_, _ = os.Lstat(s.path("no such file")) // a round trip to the filter
	}
	t.Fatalf("%s is still open", name)
}

func TestNoPassthroughForDisks(t *testing.T) {
	s := serveFolder(t)
	must(t, os.WriteFile(s.below("file"), []byte("text"), 0o644))
	d := &recorder{t: t}
	must(t, s.fs.Attach(s.identify(t, "file"), d))
	if s.writesSeen(t, "file") == 0 || d.count() == 0 {
		t.Error("a write to a protected file was not seen")
	}
}

func TestNoPassthroughAtAll(t *testing.T) {
	s := serveFolder(t, withoutPassthrough)
	if s.writesSeen(t, "file") == 0 {
		t.Error("a write was left to the kernel")
	}
}
