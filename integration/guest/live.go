package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// live makes a Linux of the bare kernel, and works until the machine ends.
func live() error {
	for _, fs := range []struct{ kind, at string }{{"proc", "/proc"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(fs.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(fs.kind, fs.at, fs.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", fs.at, err)
		}
	}
	modules, err := filepath.Glob("/modules/*.ko") // in the order of their numbers
	if err != nil {
		return err
	}
	for _, path := range modules {
		if err := load(path); err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	const device, dir = "/dev/vda", "/disk"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for range 100 { // the device appears a moment after its driver
		if err = unix.Mount(device, dir, "ext4", 0, "discard"); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENXIO) {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	if os.Getenv("BUSY") != "" { // on the kernel's command line
		go func() {
			_ = say("failed %v", keepBusy(dir))
			powerOff()
		}()
	}
	return work(dir)
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// say prints a line, and returns when it has left the machine.
func say(format string, args ...any) error {
	if _, err := fmt.Printf(format+"\n", args...); err != nil {
		return err
	}
	return unix.IoctlSetInt(1, unix.TCSBRK, 1) // tcdrain
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
