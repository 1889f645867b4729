package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// describe prints what was measured where.
func (b *bench) describe() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(b.base, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", b.base, err)
	}
	version, err := exec.Command(b.binary, "version").Output()
	if err != nil {
		return fmt.Errorf("run %s: %w", b.binary, err)
	}
	fioVersion, err := exec.Command("fio", "--version").Output()
	if err != nil {
		return fmt.Errorf("run fio: %w; scripts/install-packages.sh installs it", err)
	}
	fmt.Printf("%s. %s, Linux %s, %d × %s, %d GiB of memory, file system of type %#x, %s.\n",
		time.Now().Format(time.DateOnly), strings.TrimSpace(string(version)), unix.ByteSliceToString(name.Release[:]),
		runtime.NumCPU(), processor(), uint64(info.Totalram)*uint64(info.Unit)>>30, fs.Type, strings.TrimSpace(string(fioVersion)))
	return nil
}

// processor returns the name of the processor, as far as the kernel tells.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// memory takes and frees some gigabytes, so that what is measured next does not
// pay for the memory that this machine, if it is a virtual one, has given back
// to its host while it was idle.
func memory() error {
	const size = 4 << 30
	taken, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("take memory: %w", err)
	}
	return unix.Munmap(taken)
}

// forgetPages takes a file of a mount out of the page cache, where it may lie
// beside the file below.
func forgetPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("forget the pages of %s: %w", path, err)
	}
	return nil
}
