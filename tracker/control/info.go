package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

// APIVersion is the version that this package speaks.
const APIVersion = 1

// Info tells who answers at a filter's socket.
type Info struct {
	// API is the version of the control API, Version that of the product.
	API     int    `json:"api"`
	Version string `json:"version"`
	// Folder is the folder below the filter, Mountpoint where it is seen
	// through it; both are absolute, and the same when the mount covers the
	// folder.
	Folder     string    `json:"folder"`
	Mountpoint string    `json:"mountpoint"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
}

// Filter is a running filter that Discover found.
type Filter struct {
	Info
	// Socket is the path of its control socket.
	Socket string
}

const (
	socketPrefix    = "filter-"
	socketSuffix    = ".sock"
	discoverTimeout = 3 * time.Second
)

// SocketPath returns where the filter of a mountpoint, an absolute path, has
// its control socket. The name is a digest, since a socket's path has room for
// some hundred bytes only.
func SocketPath(runtimeDir, mountpoint string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(mountpoint)))
	return filepath.Join(runtimeDir, socketPrefix+hex.EncodeToString(sum[:6])+socketSuffix)
}

// Discover returns the filters whose sockets lie in runtimeDir and answer, in
// the order of their mountpoints. Sockets that dead filters left are passed
// over. Filters that are there but cannot be asked (no permission, another API
// version, no answer within seconds) are told by the error, which comes
// together with those that could.
func Discover(ctx context.Context, runtimeDir string) ([]Filter, error) {
	entries, err := os.ReadDir(runtimeDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for filters: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		found []Filter
		errs  []error
	)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), socketPrefix) || !strings.HasSuffix(e.Name(), socketSuffix) {
			continue
		}
		path := filepath.Join(runtimeDir, e.Name())
		wg.Go(func() {
			client := NewClient(path)
			defer client.Close()
			info, err := client.Filter(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				found = append(found, Filter{Info: info, Socket: path})
			case !nobodyListens(err):
				errs = append(errs, fmt.Errorf("filter at %s: %w", path, err))
			}
		})
	}
	wg.Wait()
	sort.Slice(found, func(i, j int) bool { return found[i].Mountpoint < found[j].Mountpoint })
	return found, errors.Join(errs...)
}
