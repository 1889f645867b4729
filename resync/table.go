package resync

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat/replica/segment"
)

// Sentinel errors of opening a table. In either case Rebuild makes it anew.
var (
	// ErrMissing: there is no table.
	ErrMissing = errors.New("there is no checksum table")
	// ErrDamaged: the file is no table of this disk.
	ErrDamaged = errors.New("checksum table cannot be used")
)

// DirtyError tells that a change of the table was interrupted. Either its
// segments are laid over it again (OpenDirty), or it is made anew (Rebuild).
type DirtyError struct {
	// From is what the table was true for, Target what it was to be true for.
	From, Target State
}

// Error tells which change was interrupted.
func (e *DirtyError) Error() string {
	return fmt.Sprintf("checksum table was interrupted on its way from epoch %d, walk %d at block %d to epoch %d, walk %d at block %d",
		e.From.Epoch, e.From.Walk, e.From.Position, e.Target.Epoch, e.Target.Walk, e.Target.Position)
}

// Table is an open checksum table. What only reads (Get, Compare, NonZero and a
// Preview's methods) may run concurrently with itself; what changes it (Begin,
// Set, Zero, Truncate, Apply, Commit, Close) runs alone.
type Table struct {
	file     *os.File
	id       Identity
	hasher   *segment.Hasher
	keyCheck segment.Checksum
	header   header
	scratch  []byte
	// changing is set between Begin and Commit. recount tells that entries may
	// already be those of the target, so that the sum cannot be carried along.
	changing, recount bool
	// failed keeps the first error of a change: after it the table is used no
	// more, and is dirty on disk.
	failed error
}

// Create makes a table of a disk of zeros, true for epoch 0, in place of
// whatever lies at path.
func Create(path string, id Identity, hasher *segment.Hasher) (*Table, error) {
	t := newTable(id, hasher)
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		t.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("creating checksum table: %w", err)
	}
	err = t.writeHeader(header{})
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("creating checksum table %s: %w", path, errors.Join(err, t.file.Close()))
	}
	return t, nil
}

// Open opens a table that is clean. The error matches ErrMissing, ErrDamaged or
// is a DirtyError, unless the file system failed.
func Open(path string, id Identity, hasher *segment.Hasher) (*Table, error) {
	t, err := open(path, id, hasher)
	if err != nil {
		return nil, err
	}
	if t.header.dirty {
		dirty := &DirtyError{From: t.header.state, Target: t.header.target}
		return nil, errors.Join(dirty, t.file.Close())
	}
	return t, nil
}

// OpenDirty opens a table whose change was interrupted. Nothing can be read from
// it until the same change is made again in full: Begin with the same target,
// Set and so on, Commit. A clean table is opened as it is.
func OpenDirty(path string, id Identity, hasher *segment.Hasher) (*Table, error) {
	return open(path, id, hasher)
}

func open(path string, id Identity, hasher *segment.Hasher) (*Table, error) {
	t := newTable(id, hasher)
	var err error
	t.file, err = os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening checksum table: %w", err)
	}
	if err = t.readHeader(); err != nil {
		return nil, fmt.Errorf("opening checksum table %s: %w", path, errors.Join(err, t.file.Close()))
	}
	return t, nil
}

func newTable(id Identity, hasher *segment.Hasher) *Table {
	return &Table{
		id: id, hasher: hasher, keyCheck: hasher.Sum([]byte("key of the checksum table")),
		scratch: make([]byte, scratchSize),
	}
}

// readHeader takes the newer of the slots that are right.
func (t *Table) readHeader() error {
	var problems []error
	found := false
	for slot := range int64(2) {
		b := make([]byte, headerSize)
		if _, err := t.file.ReadAt(b, slot*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		h, err := decodeHeader(b, t.id, t.keyCheck)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if !found || h.sequence > t.header.sequence {
			t.header, found = h, true
		}
	}
	if !found {
		return fmt.Errorf("%w: %w", ErrDamaged, errors.Join(problems...))
	}
	return nil
}

// writeHeader puts the header into the slot of the one before the last, and
// returns when it is durable.
func (t *Table) writeHeader(h header) error {
	h.sequence = t.header.sequence + 1
	b, err := h.encode(t.id, t.keyCheck)
	if err != nil {
		return err
	}
	if _, err = t.file.WriteAt(b, int64(h.sequence%2)*slotSize); err != nil {
		return err
	}
	if err = t.sync(); err != nil {
		return err
	}
	t.header = h
	return nil
}

func (t *Table) sync() error {
	if err := unix.Fdatasync(int(t.file.Fd())); err != nil {
		return fmt.Errorf("syncing %s: %w", t.file.Name(), err)
	}
	return nil
}

// State returns what the table is true for.
func (t *Table) State() State { return t.header.state }

// Sum returns the disk checksum of what the table is true for; between Begin and
// Commit, that of what it was changed to so far, unless the table was opened
// dirty: then it is known after Commit.
func (t *Table) Sum() segment.DiskSum { return t.header.sum }

// Hasher returns the hasher of the table's checksums.
func (t *Table) Hasher() *segment.Hasher { return t.hasher }

// Close closes the file. A table that is being changed stays dirty.
func (t *Table) Close() error { return t.file.Close() }

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
