package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoKeeper says that no keeper of the folder answers.
var ErrNoKeeper = errors.New("no keeper of it answers")

// greetWithin bounds how long a keeper may take to say which one it is.
const greetWithin = 5 * time.Second

// Replace has the keeper of a folder or mount point replace the filter by one of
// this process's own program. Errors match ErrNoKeeper, or ErrNotReplaced, or
// are the context's.
func Replace(ctx context.Context, runtimeDir, path string) (Replaced, error) {
	c, in, err := connect(ctx, runtimeDir, path)
	if err != nil {
		return Replaced{}, fmt.Errorf("replace the filter of %s: %w", path, err)
	}
	defer c.Close() //nolint:errcheck // all was read
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	program, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return Replaced{}, fmt.Errorf("open the own program: %w", err)
	}
	defer unix.Close(program) //nolint:errcheck // nothing was written
	text, err := json.Marshal(order{Replace: true})
	if err != nil {
		return Replaced{}, err
	}
	if _, _, err := c.WriteMsgUnix(text, unix.UnixRights(program), nil); err != nil {
		return Replaced{}, fmt.Errorf("send the program to the keeper: %w", err)
	}
	var a answer
	if err := readLine(in, &a); err != nil {
		return Replaced{}, errors.Join(fmt.Errorf("read the keeper's answer: %w: its log tells what happened", err), ctx.Err())
	}
	if a.Error != "" {
		return Replaced{}, told{a.Error}
	}
	return Replaced{a.PID, time.Duration(a.PauseSeconds * float64(time.Second))}, nil
}

// told is an error that the keeper told.
type told struct{ text string }

func (e told) Error() string   { return e.text }
func (told) Is(err error) bool { return err == ErrNotReplaced }

// connect finds the keeper of a folder or mount point among all.
func connect(ctx context.Context, runtimeDir, path string) (*net.UnixConn, *bufio.Reader, error) {
	want, err := names(path)
	if err != nil {
		return nil, nil, err
	}
	sockets, err := filepath.Glob(filepath.Join(runtimeDir, socketPrefix+"*"+socketSuffix))
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, name := range sockets {
		c, in, hello, err := greet(ctx, name)
		switch {
		case errors.Is(err, unix.ECONNREFUSED): // its keeper is gone
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		case !want[hello.Mountpoint] && !want[hello.Folder]:
			_ = c.Close()
		case hello.Orders != orders:
			_ = c.Close()
			return nil, nil, fmt.Errorf("%w: its keeper, process %d, takes orders of version %d, and this build gives version %d", ErrNotReplaced, hello.PID, hello.Orders, orders)
		default:
			return c, in, nil
		}
	}
	return nil, nil, errors.Join(append([]error{ErrNoKeeper}, errs...)...)
}

func greet(ctx context.Context, socket string) (*net.UnixConn, *bufio.Reader, greeting, error) {
	dialer := net.Dialer{Timeout: greetWithin}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, greeting{}, err
	}
	c := conn.(*net.UnixConn)
	in := bufio.NewReader(c)
	var hello greeting
	err = c.SetReadDeadline(time.Now().Add(greetWithin))
	if err == nil {
		err = readLine(in, &hello)
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, greeting{}, err
	}
	return c, in, hello, nil
}

func readLine(in *bufio.Reader, to any) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, to)
}

// names are the paths by which a keeper may know a folder: without symbolic
// links, or at least without those above it, for which nothing on the mount is
// asked.
func names(path string) (map[string]bool, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{absolute: true}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(absolute)); err == nil {
		all[filepath.Join(parent, filepath.Base(absolute))] = true
	}
	if target, err := os.Readlink(absolute); err == nil {
		if resolved, err := filepath.EvalSymlinks(absolute); err == nil && target != "" {
			all[resolved] = true
		}
	}
	return all, nil
}
