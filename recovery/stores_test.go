package recovery

import (
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// cancelling cancels the context when the data of a segment is asked for.
type cancelling struct {
	*memory
	cancel context.CancelFunc
}

func (c cancelling) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if strings.HasSuffix(name, ".seg") && offset < 100 {
		c.cancel()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.memory.Get(ctx, name, offset, length)
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// memoryFolder makes a folder in memory, where there is such a file system, for
// tests that sync hundreds of times.
func memoryFolder(t interface {
	failer
	Cleanup(func())
},
) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "lifeboat-recovery-")
	if err != nil {
		folder, err = os.MkdirTemp("", "lifeboat-recovery-")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}
