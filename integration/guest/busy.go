package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// keepBusy has the disk written to and read without a break, past the guest's
// page cache, and returns if what is read is not what was written.
func keepBusy(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, "busy"), unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT, 0o644)
	if err != nil {
		return fmt.Errorf("open a file: %w", err)
	}
	const size, places = 16 << 10, 32
	memory, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	written, read := memory[:size], memory[size:]
	for n := uint64(0); ; n++ {
		noise(written, 4, n)
		at := int64(n%places) * size
		if _, err := unix.Pwrite(fd, written, at); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if _, err := unix.Pread(fd, read, at); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if !bytes.Equal(read, written) {
			return fmt.Errorf("what is read at %d is not what was written", at)
		}
	}
}
