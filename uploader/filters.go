package uploader

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"lifeboat/tracker/control"
)

// Filter is a running filter.
type Filter struct {
	// Folder is the folder below the filter, Mountpoint where it is mounted;
	// both are absolute.
	Folder, Mountpoint string
	control.Backend
}

// relative returns the path of a file below the mountpoint, relative to it.
func (f Filter) relative(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(f.Mountpoint, "/")+"/")
	return rest, ok && filepath.IsLocal(rest)
}

// Filters finds the filters whose VMs the sidecar replicates.
type Filters interface {
	// List returns those that run now. An error may come with a list: it
	// tells of those that could not be asked.
	List(ctx context.Context) ([]Filter, error)
}

// Discovery finds filters by their sockets in the runtime directory. It may be
// used concurrently.
type Discovery struct {
	runtimeDir string
	folders    []string
	mu         sync.Mutex
	clients    map[string]*control.Client
}

// NewDiscovery finds the filters with sockets in runtimeDir: all, or those whose
// folder or mountpoint is one of folders.
func NewDiscovery(runtimeDir string, folders []string) *Discovery {
	d := &Discovery{runtimeDir: runtimeDir, clients: map[string]*control.Client{}}
	for _, folder := range folders {
		d.folders = append(d.folders, filepath.Clean(folder))
	}
	return d
}

// List implements Filters.
func (d *Discovery) List(ctx context.Context) ([]Filter, error) {
	found, err := control.Discover(ctx, d.runtimeDir)
	d.mu.Lock()
	defer d.mu.Unlock()
	var filters []Filter
	for _, f := range found {
		if len(d.folders) > 0 && !slices.Contains(d.folders, f.Folder) && !slices.Contains(d.folders, f.Mountpoint) {
			continue
		}
		client := d.clients[f.Socket]
		if client == nil {
			client = control.NewClient(f.Socket)
			d.clients[f.Socket] = client
		}
		filters = append(filters, Filter{Folder: f.Folder, Mountpoint: f.Mountpoint, Backend: client})
	}
	return filters, err
}
