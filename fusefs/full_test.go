package fusefs

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFull: a change that finds the file system below full is tried again when
// room was made, and told to the guest as it is when there is none.
func TestFull(t *testing.T) {
	const size, hog = 4 << 20, 3 << 20
	for _, c := range []struct {
		name   string
		change func(f *os.File) error
	}{
		{"write", func(f *os.File) error {
			for at := int64(0); at < size/2; at += 1 << 19 {
				if n, err := f.WriteAt(make([]byte, 1<<19), at); err != nil {
					return errors.Join(err, f.Truncate(at+int64(n)))
				}
			}
			return nil
		}},
		{"allocate", func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, size/2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var folder string
			var made atomic.Int32
			s := serveFolder(t, func(o *Options, f *filter) {
				if f != nil {
					return
				}
				folder = o.Folder
				must(t, unix.Mount("none", folder, "tmpfs", 0, "size=4m"))
				t.Cleanup(func() { must(t, unix.Unmount(folder, 0)) })
				o.NoPassthrough = true
				o.MakeRoom = func() {
					made.Add(1)
					_ = os.Remove(folder + "/hog") // there the first time
				}
			})
			d := &recorder{t: t}
			must(t, os.WriteFile(s.below("disk"), nil, 0o644))
			must(t, s.fs.Attach(s.identify(t, "disk"), d))
			must(t, os.WriteFile(s.below("hog"), make([]byte, hog), 0o644))
			f, err := os.OpenFile(s.path("disk"), os.O_RDWR, 0)
			must(t, err)
			must(t, c.change(f))
			if n := made.Load(); n != 1 {
				t.Errorf("room was made %d times", n)
			}
			must(t, os.WriteFile(s.below("rest"), make([]byte, size/2), 0o644))
			must(t, f.Truncate(0))
			must(t, os.WriteFile(s.below("more"), make([]byte, size/2-(64<<10)), 0o644))
			if err := c.change(f); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("the guest was told %v", err)
			}
			must(t, f.Close())
			d.idle(t)
		})
	}
}
