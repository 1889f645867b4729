package main

import (
	"bytes"
	"encoding/binary"
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
	const size, places = 128 << 10, 16
	memory, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	written, read := memory[:size], memory[size:]
	noise(written, 4, 0)
	for n := uint64(0); ; n++ {
		for at := 0; at < size; at += blockSize { // noise would keep the processor busy
			binary.LittleEndian.PutUint64(written[at:], n)
		}
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
