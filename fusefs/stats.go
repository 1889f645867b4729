package fusefs

import (
	"strconv"
	"sync/atomic"
)

// Stats is a snapshot of what was served since Open.
type Stats struct {
	// Operations counts requests by their name in the FUSE protocol. READ and
	// WRITE of files in kernel passthrough are not among them.
	Operations map[string]uint64
	// BytesRead and BytesWritten went through the filter.
	BytesRead, BytesWritten uint64
	// PassthroughOpens counts the opens that were left to the kernel.
	PassthroughOpens uint64
	// Nodes is how many inodes the kernel knows now; IdleNodes of them keep a
	// descriptor though nobody may have them open.
	Nodes, IdleNodes int
}

// counters are updated without a lock.
type counters struct {
	operations              [maxOpcode]atomic.Uint64
	bytesRead, bytesWritten atomic.Uint64
	passthroughOpens        atomic.Uint64
}

// Stats returns a snapshot. It is cheap.
func (fs *FS) Stats() Stats {
	f := fs.filter
	s := Stats{
		Operations:       make(map[string]uint64),
		BytesRead:        f.counters.bytesRead.Load(),
		BytesWritten:     f.counters.bytesWritten.Load(),
		PassthroughOpens: f.counters.passthroughOpens.Load(),
		Nodes:            f.nodes.size(),
		IdleNodes:        f.idle.size(),
	}
	for op := range f.counters.operations {
		if n := f.counters.operations[op].Load(); n > 0 {
			s.Operations[operationName(uint32(op))] = n
		}
	}
	return s
}

func operationName(op uint32) string {
	if name, ok := operationNames[op]; ok {
		return name
	}
	return "OPERATION_" + strconv.FormatUint(uint64(op), 10)
}

func (l *idleList) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.order.Len()
}
