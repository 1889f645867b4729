package fusefs

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestManyAtOnce does all kinds of operations to a few names from many
// goroutines, while disks come and go and descriptors are closed all the time.
// Which of them succeed is chance; that none hangs, and that both sides agree in
// the end, is not.
func TestManyAtOnce(t *testing.T) {
	for name, option := range map[string]serveOption{
		"handles":    func(*Options, *filter) {},
		"no handles": withoutHandles,
	} {
		t.Run(name, func(t *testing.T) { manyAtOnce(t, option) })
	}
}

func manyAtOnce(t *testing.T, option serveOption) {
	s := serveFolder(t, option, func(_ *Options, f *filter) {
		if f != nil {
			f.idle.limit = 3
		}
	})
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for range 250 {
				disturb(s, random)
			}
		})
	}
	stop := make(chan struct{})
	var protector sync.WaitGroup
	protector.Go(func() {
		random := rand.New(rand.NewPCG(99, 7))
		for {
			select {
			case <-stop:
				return
			default:
			}
			id, err := s.fs.Identify(somePath(random))
			if err != nil {
				continue
			}
			if err := s.fs.Attach(id, nothing{}); err == nil {
				s.fs.Detach(id)
			}
		}
	})
	workers.Wait()
	close(stop)
	protector.Wait()
	if above, below := tree(t, s.point), tree(t, s.folder); above != below {
		t.Errorf("the mount has\n%s\nthe folder has\n%s", above, below)
	}
}

func somePath(random *rand.Rand) string {
	name := fmt.Sprintf("f%d", random.IntN(5))
	if d := random.IntN(3); d > 0 {
		return filepath.Join(fmt.Sprintf("d%d", d), name)
	}
	return name
}

// disturb does one thing; what it meets may have changed, so it may fail.
func disturb(s *served, random *rand.Rand) {
	path, other := s.path(somePath(random)), s.path(somePath(random))
	switch random.IntN(12) {
	case 0:
		_ = os.Mkdir(filepath.Dir(path), 0o755)
	case 1:
		_ = os.WriteFile(path, []byte(path), 0o644)
	case 2:
		_ = os.Rename(path, other)
	case 3:
		_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
	case 4:
		_ = os.Link(path, other)
	case 5:
		_ = os.Remove(path)
	case 6:
		_, _ = os.ReadFile(path)
	case 7:
		_ = os.Truncate(path, random.Int64N(100))
	case 8:
		_, _ = os.ReadDir(filepath.Dir(path))
	case 9:
		_ = copyRange(path, other, 0, 10, 20)
	case 10:
		_ = opened(os.O_RDWR|os.O_CREATE, func(f *os.File) error {
			_ = os.Remove(path)
			_, err := f.WriteAt([]byte("nameless"), 3)
			return err
		})(path)
	case 11:
		_ = os.RemoveAll(filepath.Dir(path) + "x")
		_ = os.Symlink("f1", path)
	}
}

// tree writes down all names, kinds, sizes and inodes of a directory.
func tree(t *testing.T, root string) string {
	t.Helper()
	var text string
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		st := lstat(t, path)
		name, err := filepath.Rel(root, path)
		text += fmt.Sprintf("%s %o %d %d %d\n", name, st.Mode, st.Size, st.Ino, st.Nlink)
		return err
	}))
	return text
}
