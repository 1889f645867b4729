package fusefs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helperVariable makes the test binary do one of the helpers' work instead of
// running tests: some things need a process apart from the one that serves.
const helperVariable = "LIFEBOAT_TEST_HELPER"

var helpers = map[string]func(arguments json.RawMessage) error{
	"write-mapped": helpWriteMapped,
	"map":          helpMap,
	"hold":         helpHold,
	"serve":        helpServe,
	"keep":         helpKeep,
	"succeed":      helpSucceed,
	"play":         helpPlay,
	"fsx":          helpFSX,
}

func TestMain(m *testing.M) {
	help, ok := helpers[os.Getenv(helperVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	var arguments json.RawMessage
	err := json.NewDecoder(os.Stdin).Decode(&arguments)
	if err == nil {
		err = help(arguments)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// helper returns a command that runs a helper, and starts by reading its
// arguments from standard input.
func helper(name string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), helperVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	c.Stderr = os.Stderr
	return c
}

// mappedWrite is the work of the helper that writes through a mapping. In the
// process that serves the file, a page fault would wait for the scheduler, and
// the scheduler for the page fault.
type mappedWrite struct {
	Path   string
	Offset int64
	Data   []byte
}

func writeMapped(path string, offset int64, data []byte) error {
	c := helper("write-mapped")
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	if err := json.NewEncoder(in).Encode(mappedWrite{path, offset, data}); err != nil {
		return err
	}
	return c.Wait()
}

func helpWriteMapped(arguments json.RawMessage) error {
	var w mappedWrite
	if err := json.Unmarshal(arguments, &w); err != nil {
		return err
	}
	return opened(os.O_RDWR, func(f *os.File) error {
		info, err := f.Stat()
		if err != nil || w.Offset >= info.Size() {
			return err
		}
		p, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("mmap: %w", err)
		}
		copy(p[w.Offset:], w.Data)
		return unix.Munmap(p)
	})(w.Path)
}

// helpMap keeps a file mapped for writing, its descriptor closed.
func helpMap(arguments json.RawMessage) error {
	var path string
	if err := json.Unmarshal(arguments, &path); err != nil {
		return err
	}
	hold := opened(os.O_RDWR, func(f *os.File) error {
		_, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		fmt.Println(ready)
		_, err = io.Copy(io.Discard, os.Stdin) // until it is closed
		return err
	})
	if err := hold(path); !errors.Is(err, os.ErrClosed) {
		return err // the file is closed already, which is as it should be
	}
	return nil
}

// held is the work of the helper that keeps a file open: for writing or not, or
// where nobody sees it, in a message that is on its way.
type held struct {
	Path   string
	Flags  int
	Hidden bool
}

func helpHold(arguments json.RawMessage) error {
	var h held
	if err := json.Unmarshal(arguments, &h); err != nil {
		return err
	}
	return opened(h.Flags, func(f *os.File) error {
		if h.Hidden {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
				return err
			}
			if err := unix.Dup3(pair[0], int(f.Fd()), 0); err != nil { // closes it
				return err
			}
		}
		fmt.Println(ready)
		_, err := io.Copy(io.Discard, os.Stdin) // until it is closed
		return err
	})(h.Path)
}

// helpServe mounts a folder over itself and serves until its standard input is
// closed.
func helpServe(arguments json.RawMessage) error {
	var folder string
	if err := json.Unmarshal(arguments, &folder); err != nil {
		return err
	}
	fs, err := Open(Options{Folder: folder})
	if err != nil {
		return err
	}
	m, err := fs.Mount("")
	if err != nil {
		return err
	}
	fmt.Println(ready)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return errors.Join(m.Unmount(context.Background()), fs.Close())
}

// ready is what a helper says that goes on until its standard input is closed.
const ready = "ready"

// lasting is such a helper at work.
type lasting struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     io.Reader
}

// startHelper starts a helper that lasts, and waits until it is ready.
func startHelper(t *testing.T, c *exec.Cmd, arguments any) *lasting {
	t.Helper()
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	must(t, json.NewEncoder(in).Encode(arguments))
	said := make([]byte, len(ready))
	if _, err := io.ReadFull(out, said); err != nil {
		t.Fatalf("the helper did not come up: %v", err)
	}
	return &lasting{c, in, out}
}

// end lets it end by itself.
func (l *lasting) end() error {
	return errors.Join(l.in.Close(), l.command.Wait())
}

// kill ends it as a crash would.
func (l *lasting) kill(t *testing.T) {
	t.Helper()
	must(t, l.command.Process.Signal(syscall.SIGKILL))
	if err := l.command.Wait(); err == nil {
		t.Error("the helper was not killed")
	}
}
