package fusefs

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	pageSize = 4096
	// maxTransfer is the most data that a READ or WRITE carries.
	maxTransfer = 1 << 20
	// bufferSize has room for that behind a page with the headers.
	bufferSize = pageSize + maxTransfer
)

// buffers are a reader's memory. Both are laid out such that the data of READ
// and WRITE begins at a page, whatever header is before it.
//
// They are outside of Go's heap and locked: if the process is killed while the
// kernel copies a request into a page that is not there, that request fails.
type buffers struct {
	memory  []byte
	request []byte
	reply   []byte
}

func newBuffers(log *slog.Logger) (*buffers, error) {
	memory, err := unix.Mmap(-1, 0, 2*bufferSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for requests: %w", 2*bufferSize, err)
	}
	if err := unix.Mlock(memory); err != nil {
		log.Debug("buffers are not locked in memory: a request may fail if the filter is killed", "error", err)
	}
	return &buffers{
		memory:  memory,
		request: memory[pageSize-writeInSize : bufferSize],
		reply:   memory[bufferSize+pageSize-outHeaderSize:],
	}, nil
}

func (b *buffers) free() {
	_ = unix.Munmap(b.memory) // cannot fail for memory that was mapped so
}

func freeAll(all []*buffers) {
	for _, b := range all {
		b.free()
	}
}
