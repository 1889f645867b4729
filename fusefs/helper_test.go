package fusefs

import (
	"encoding/json"
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
	"serve":        helpServe,
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

// helpServe mounts a folder over itself, tells so, and serves until it is
// killed.
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
	fmt.Println("serving")
	return m.Wait()
}

// startServing runs helpServe; kill ends it as a crash would.
func startServing(t *testing.T, folder string) (kill func()) {
	t.Helper()
	c := helper("serve")
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	must(t, json.NewEncoder(in).Encode(folder))
	ready := make([]byte, len("serving\n"))
	if _, err := io.ReadFull(out, ready); err != nil {
		t.Fatalf("the helper did not come up: %v", err)
	}
	return func() {
		must(t, c.Process.Signal(syscall.SIGKILL))
		_ = c.Wait() // says that it was killed
	}
}
