package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrServed says that a living filter serves the folder already.
var ErrServed = errors.New("it is served by a running lifeboat mount: unmount that first")

// uncover returns the absolute path of a directory without symbolic links.
// Dead lifeboat mounts that cover it are taken away: a filter that crashed
// leaves one behind, and every access to it fails.
func uncover(path string, log *slog.Logger) (string, error) {
	path, err := resolve(path)
	if err != nil {
		return "", fmt.Errorf("fusefs: find %s: %w", path, err)
	}
	for {
		top, ok, err := topMount(path)
		if err != nil {
			return "", fmt.Errorf("fusefs: look at %s: %w", path, err)
		}
		if !ok || top.fsType != mountType {
			return path, nil
		}
		// Opening goes to the filter, where a look at the attributes might be
		// answered by the kernel out of its memory.
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			closeFD(fd)
			return "", fmt.Errorf("fusefs: %s: %w", path, ErrServed)
		}
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			return "", fmt.Errorf("fusefs: look at the lifeboat mount on %s: %w", path, err)
		}
		if err := detach(path); err != nil {
			return "", fmt.Errorf("fusefs: take the dead mount off %s: %w", path, err)
		}
		log.Warn("took a dead mount away", "path", path)
	}
}

// resolve makes a path absolute and free of symbolic links even if a dead mount
// lies on it.
func resolve(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return path, err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err == nil {
		return resolved, nil
	}
	if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		return path, err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(absolute))
	if err != nil {
		return path, err
	}
	return filepath.Join(parent, filepath.Base(absolute)), nil
}

// detach takes the topmost mount off a directory, in use or not.
func detach(path string) error {
	if os.Geteuid() != 0 {
		return fusermount("-u", "-z", "--", path)
	}
	return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}
