package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"lifeboat/replica"
	"lifeboat/replica/segment"
)

// Options say how to restore.
type Options struct {
	// Force lets the restore replace files that exist.
	Force bool
	// Parallel is how many GETs are under way at once; 0 means 8.
	Parallel int
	// Progress, if set, is told how far the restore is: often, by several
	// goroutines, but one at a time. It must not take long.
	Progress func(Progress)
}

// Progress tells how far a restore is.
type Progress struct {
	// Fetched of ToFetch bytes of blocks have been written to the disks.
	Fetched, ToFetch int64
	// Verified of ToVerify bytes of blocks have been read back.
	Verified, ToVerify int64
}

// Report tells what was restored. Every disk in it was proved equal to the
// source at the point's instant.
type Report struct {
	Point    replica.Point
	Disks    []RestoredDisk
	Duration time.Duration
}

// RestoredDisk is a disk that was restored.
type RestoredDisk struct {
	ID string
	// Path is relative to the target folder.
	Path string
	// Size is the disk's, Data that of its blocks that are not zero, and
	// Fetched what came out of the container for them, all in bytes.
	Size, Data, Fetched int64
	Checksum            segment.DiskSum
}

// restore is one restore under way.
type restore struct {
	repository *replica.Repository
	options    Options
	root       *os.Root
	hasher     *segment.Hasher
	decoder    *segment.Decoder
	chain      []replica.Point
	targets    []*target

	pool sync.Pool // of *buffers

	mu       sync.Mutex // guards progress, and is held while it is told
	progress Progress
}

// Restore makes the VM's disks, as they were at the recovery point of that
// epoch, in the folder, each at its path. The folder is made if it is missing.
// If files are in the way and Force is not set, the error matches
// ErrTargetExists and names them, and nothing was written. An error that the
// container is to blame for is a DamagedPointError.
func Restore(ctx context.Context, repository *replica.Repository, vm string, epoch uint64, folder string, options Options) (*Report, error) {
	begun := time.Now()
	if options.Parallel <= 0 {
		options.Parallel = 8
	}
	r := &restore{repository: repository, options: options}
	if err := r.run(ctx, vm, epoch, folder); err != nil {
		return nil, fmt.Errorf("restoring the recovery point of epoch %d: %w", epoch, advise(ctx, repository, vm, r.chain, err))
	}
	report := &Report{Point: r.chain[0], Duration: time.Since(begun)}
	for _, t := range r.targets {
		report.Disks = append(report.Disks, RestoredDisk{
			ID: t.disk.ID, Path: t.disk.Path, Size: t.disk.Size,
			Data: t.dataSize(), Fetched: t.fetched.Load(), Checksum: t.disk.Checksum,
		})
	}
	return report, nil
}

func (r *restore) run(ctx context.Context, vm string, epoch uint64, folder string) (err error) {
	if r.chain, err = r.repository.Chain(ctx, vm, epoch); err != nil {
		return err
	}
	description, err := r.repository.VM(ctx, vm, r.chain[0].Generation)
	if err != nil {
		return err
	}
	r.hasher = segment.NewHasher(description.Key)
	if r.decoder, err = segment.NewDecoder(r.hasher); err != nil {
		return err
	}
	if err = r.openFolder(folder); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.root.Close()) }()
	if err = r.checkTargets(); err != nil {
		return err
	}
	for i := range r.chain[0].Disks {
		d := &r.chain[0].Disks[i]
		blocks, err := r.repository.BlockMap(ctx, r.chain, d.ID)
		if err != nil {
			return err
		}
		t := &target{disk: d, blocks: blocks}
		r.targets = append(r.targets, t)
		r.progress.ToFetch += t.dataSize()
		r.progress.ToVerify += t.dataSize()
	}
	defer func() { err = errors.Join(err, r.discard()) }()
	for _, t := range r.targets {
		if err := r.write(ctx, t); err != nil {
			return fmt.Errorf("disk %s: %w", t.disk.Path, err)
		}
	}
	for _, t := range r.targets {
		if err := r.verify(ctx, t); err != nil {
			return fmt.Errorf("disk %s: %w", t.disk.Path, err)
		}
	}
	return r.publish()
}

// openFolder opens the target folder, made if need be.
func (r *restore) openFolder(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making the target folder: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("opening the target folder: %w", err)
	}
	r.root = root
	return nil
}

// checkTargets refuses to begin if a disk could not get its name in the end.
func (r *restore) checkTargets() error {
	var inTheWay []error
	for i := range r.chain[0].Disks {
		path := r.chain[0].Disks[i].Path
		info, err := r.root.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("looking at the target: %w", err)
		case info.IsDir():
			return fmt.Errorf("%w: %s is a folder; move it away", ErrTargetExists, path)
		case !r.options.Force:
			inTheWay = append(inTheWay, errors.New(path))
		}
	}
	if len(inTheWay) > 0 {
		return fmt.Errorf("%w: nothing was written; allow it to be replaced, or choose another folder:\n%w",
			ErrTargetExists, errors.Join(inTheWay...))
	}
	return nil
}

// advance adds to the progress, in bytes, and tells it.
func (r *restore) advance(fetched, verified int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Fetched += fetched
	r.progress.Verified += verified
	if r.options.Progress != nil {
		r.options.Progress(r.progress)
	}
}

// processors is how many goroutines compute checksums.
func processors() int { return runtime.GOMAXPROCS(0) }
