package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/tracker/control"
)

// server is a process that serves a folder through a mount.
type server struct {
	name    string
	mount   string
	socket  string // the control socket, if it is the filter
	others  bool   // not ours: what it exits with says nothing
	process *exec.Cmd
	said    bytes.Buffer
}

// startLoopback serves a folder by go-fuse's loopback file system, in another
// process of this program.
func startLoopback(ctx context.Context, below, mount string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{name: "loopback", mount: mount}
	return s, s.start(ctx, exec.Command(self, "loopback", mount, below))
}

// startForeign serves a folder by a program that takes the folder and a mount
// point, serves in the foreground, and says nothing when it is ready.
func startForeign(ctx context.Context, program, below, mount string) (*server, error) {
	s := &server{name: filepath.Base(program), mount: mount, others: true}
	cmd := exec.Command(program, "--foreground", below, mount)
	cmd.Stdout = &s.said
	s.adopt(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	s.process = cmd
	before, err := device(below)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	for range 500 {
		if now, err := device(mount); err == nil && now != before {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, errors.Join(fmt.Errorf("%s did not mount: %s", s.name, s.said.String()), s.stop())
}

func device(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Dev, nil
}

// startFilter mounts the filter over a folder.
func startFilter(ctx context.Context, binary, dir, sockets string, flags ...string) (*server, error) {
	s := &server{name: "filter", mount: dir, socket: control.SocketPath(sockets, dir)}
	cmd := exec.Command(binary, append(append([]string{"mount", "--ready-fd", "3"}, flags...), dir)...)
	cmd.Env = append(os.Environ(), "LIFEBOAT_RUNTIME_DIR="+sockets)
	return s, s.start(ctx, cmd)
}

func (s *server) adopt(cmd *exec.Cmd) {
	cmd.Stderr = &s.said
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // Ctrl-C is for us
}

// start runs a process that writes to descriptor 3 when it serves.
func (s *server) start(ctx context.Context, cmd *exec.Cmd) error {
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close() //nolint:errcheck // only read
	s.adopt(cmd)
	cmd.ExtraFiles = []*os.File{write}
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.process = cmd
	stop := context.AfterFunc(ctx, func() { ready.Close() }) //nolint:errcheck // ends the read below
	defer stop()
	if word, err := io.ReadAll(ready); err != nil || len(word) == 0 {
		return errors.Join(fmt.Errorf("%s did not start", s.name), s.stop())
	}
	return nil
}

// stop ends the process, which unmounts.
func (s *server) stop() error {
	if s == nil || s.process == nil {
		return nil
	}
	err := s.process.Process.Signal(unix.SIGTERM)
	ended := s.process.Wait()
	if s.others {
		ended = nil
	}
	if err = errors.Join(err, ended); err != nil {
		err = fmt.Errorf("stop %s: %w: %s", s.name, err, s.said.String())
	}
	s.process = nil
	return err
}
