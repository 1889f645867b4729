package directory

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// staleAfter is the age at which a temporary file cannot belong to a Put that
// is still going on: a Put that writes keeps its file young.
const staleAfter = 24 * time.Hour

// syncedDirectories remembers whose entry in its parent is known to be durable,
// so that a Put syncs no more than it must. A directory that another process
// made a moment ago may not be durable, hence each is synced once by us.
type syncedDirectories struct {
	mu    sync.Mutex
	root  fs.FileInfo
	known map[string]struct{}
}

// makeAll makes directory and its parents below root, durably.
func (d *syncedDirectories) makeAll(root *os.Root, directory string) error {
	if directory == "." {
		return nil
	}
	if err := d.forgetOther(root); err != nil {
		return err
	}
	for at := 0; at < len(directory); {
		end := strings.IndexByte(directory[at:], '/')
		if end < 0 {
			end = len(directory) - at
		}
		at += end
		if err := d.makeOne(root, directory[:at]); err != nil {
			return err
		}
		at++
	}
	return nil
}

func (d *syncedDirectories) makeOne(root *os.Root, directory string) error {
	err := root.Mkdir(directory, directoryMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err != nil && d.has(directory) {
		return nil
	}
	if err := syncDirectory(root, parentOf(directory)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[directory] = struct{}{}
	return nil
}

func (d *syncedDirectories) has(directory string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.known[directory]
	return ok
}

// forgetOther forgets everything if root is another directory than before.
func (d *syncedDirectories) forgetOther(root *os.Root) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root == nil || !os.SameFile(d.root, info) {
		d.root, d.known = info, make(map[string]struct{})
	}
	return nil
}

// syncDirectory makes the entries of a directory durable.
func syncDirectory(root *os.Root, directory string) error {
	f, err := root.Open(directory)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeRoot makes the store's root and its parents, durably.
func makeRoot(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeRoot(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, directoryMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (s *Store) sweepDaily(root *os.Root) {
	if time.Now().Unix()-s.swept.Load() > int64(staleAfter/time.Second) {
		s.sweep(root)
	}
}

// sweep removes stale temporary files. They cost room and nothing else, so what
// cannot be removed now is left to the next time.
func (s *Store) sweep(root *os.Root) {
	s.swept.Store(time.Now().Unix())
	dir, err := root.Open(".")
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if !strings.HasPrefix(name, temporaryPrefix) {
				continue
			}
			info, err := root.Lstat(name)
			if err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > staleAfter {
				_ = root.Remove(name)
			}
		}
		if err != nil {
			return
		}
	}
}

// parentOf returns the directory that holds name, "." for the root.
func parentOf(name string) string { return path.Dir(name) }
