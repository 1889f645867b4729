package uploader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/uploader/api"
)

const (
	// DefaultParallel is how many uploads run at once.
	DefaultParallel = 4
	// lookAround is how often the filters are asked for their VMs.
	lookAround = time.Second
	// answerSoon is how long a filter may take for that, so that one that
	// hangs does not keep the others from being looked at.
	answerSoon = 5 * time.Second
)

// ErrInUse is returned by New when another sidecar uses the state directory.
var ErrInUse = errors.New("another sidecar uses it: stop that one, or give each its own")

// Config is what a Service needs. Store, Filters, StateDir and Logger have to be
// given.
type Config struct {
	// Store is where the replicas are to lie.
	Store blobstore.Store
	// Filters finds the filters.
	Filters Filters
	// StateDir is the sidecar's own directory; it is made if it is missing.
	StateDir string
	// Parallel bounds the uploads that run at once for all VMs together, and
	// by that the memory: some 40 MiB for each. 0 means DefaultParallel.
	Parallel int
	// Frequency is the copy frequency of VMs that have none of their own. 0
	// means DefaultFrequency.
	Frequency time.Duration
	// Version is the product's, for people.
	Version string
	Logger  *slog.Logger
}

// Service is the sidecar: it implements api.Backend, and Run does the work.
type Service struct {
	config   Config
	writer   string
	started  time.Time
	jobs     *jobList
	transfer *transfer
	lock     *os.File

	repositoryMu sync.Mutex
	repository   *replica.Repository

	mu       sync.Mutex
	filters  []Filter // those seen last, in the order of their mountpoints
	present  map[string]bool
	workers  map[string]*running
	first    chan struct{} // closed after the first look at the filters
	followed broadcast     // workers were started or ended
	poke     chan struct{}
}

// running is a worker that runs.
type running struct {
	*worker
	stop context.CancelFunc
	done chan struct{}
}

var _ api.Backend = (*Service)(nil)

// New opens the state directory; it fails if another sidecar uses it. Nothing
// runs before Run. Close lets go of the directory.
func New(config Config) (*Service, error) {
	if config.Parallel == 0 {
		config.Parallel = DefaultParallel
	}
	if config.Frequency == 0 {
		config.Frequency = DefaultFrequency
	}
	if err := CheckFrequency(config.Frequency); err != nil {
		return nil, err
	}
	if config.Parallel < 1 || config.Parallel > 64 {
		return nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("%d uploads at once are not possible", config.Parallel), Hint: "choose from 1 to 64"}
	}
	if err := os.MkdirAll(filepath.Join(config.StateDir, "vms"), 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(config.StateDir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock state directory %s: %w", config.StateDir, err)
	}
	return &Service{
		config: config, writer: replica.NewID(), started: time.Now().UTC(), lock: lock,
		jobs:     openJobs(filepath.Join(config.StateDir, "jobs.json"), config.Logger),
		transfer: newTransfer(config.Parallel),
		present:  map[string]bool{}, workers: map[string]*running{}, poke: make(chan struct{}, 1), first: make(chan struct{}),
	}, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close lets go of the state directory. Run must have returned.
func (s *Service) Close() error { return s.lock.Close() }

// CheckStore opens the repository, or makes one, for whoever wants to know at
// the start; Run does without.
func (s *Service) CheckStore(ctx context.Context) error {
	_, err := s.open(ctx)
	return err
}

// Run replicates until ctx ends; then it returns nil. It is called once. Calls
// of the API wait until it has looked for VMs.
func (s *Service) Run(ctx context.Context) error {
	pause := s.look(ctx)
	close(s.first)
	for sleep(ctx, pause, s.poke, nil) {
		pause = s.look(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.workers {
		<-r.done
	}
	return nil
}

// open returns the repository; it is opened, or created, when it is first
// needed, so that a sidecar can start while the store is away.
func (s *Service) open(ctx context.Context) (*replica.Repository, error) {
	s.repositoryMu.Lock()
	defer s.repositoryMu.Unlock()
	if s.repository != nil {
		return s.repository, nil
	}
	r, err := replica.OpenOrCreate(ctx, s.config.Store)
	if err == nil {
		s.repository = r
	}
	return r, err
}

// find returns the worker of a VM, by its ID or name.
func (s *Service) find(ctx context.Context, idOrName string) (*running, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.workers[idOrName]; r != nil {
		return r, nil
	}
	var names []string
	for _, r := range s.workers {
		name := r.name()
		if name == idOrName {
			return r, nil
		}
		names = append(names, name)
	}
	e := &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no VM %q is protected", idOrName)}
	slices.Sort(names)
	switch {
	case len(names) > 0:
		e.Hint = "these are: " + strings.Join(names, ", ")
	case !slices.ContainsFunc(s.filters, func(f Filter) bool { return s.present[f.Mountpoint] }):
		e.Hint = "no filter runs: start one with: lifeboat mount"
	default:
		e.Hint = "no VM is protected yet: lifeboat protect"
	}
	return nil, e
}

// await returns when the VM has a worker, or soon anyway.
func (s *Service) await(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 2*lookAround)
	defer cancel()
	for ctx.Err() == nil {
		followed := s.followed.next()
		s.mu.Lock()
		there := s.workers[id] != nil
		s.mu.Unlock()
		if there {
			return
		}
		nudge(s.poke)
		sleep(ctx, forever, followed, nil)
	}
}

// ready waits until the VMs of the filters are known: right after its start, a
// sidecar must not say that there are none.
func (s *Service) ready(ctx context.Context) error {
	select {
	case <-s.first:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the sidecar to find its VMs: %w", ctx.Err())
	}
}

// filterOf returns the filter that a path, absolute and without symbolic links,
// is seen through.
func (s *Service) filterOf(ctx context.Context, path string) (Filter, bool) {
	filters, _ := s.config.Filters.List(ctx) // those that answer are all that helps
	var best Filter
	found := false
	for _, f := range filters {
		if _, ok := f.relative(path); ok && (!found || len(f.Mountpoint) > len(best.Mountpoint)) {
			best, found = f, true
		}
	}
	return best, found
}
