// Package changelog keeps the change logs of protected disks in Badger. It is
// the only importer of Badger, and knows nothing of disk files or of time.
//
// Records, by the first byte of their key; numbers are big-endian, so that
// keys sort by number, and identities are 16 raw bytes:
//
//	v vm                       the VM, opaque to this package
//	e vm epoch(8)              a sealed epoch, opaque
//	r disk epoch(8) region(8)  a region of the epoch's log: the bitmap of its
//	                           256 blocks (32 bytes, little-endian words), or
//	                           nothing when the region is in doubt
//	b disk epoch(8) region(8)  the bitmap of the before-images saved in the epoch
//	s disk epoch(8)            the disk's floor within the epoch, opaque
//	z disk zone(8)             the zone is hot
//	t disk                     the size to which the disk was cut while hot, opaque
//	l vm                       the number of the last sealed epoch that lacks
//	                           a before-image; it and those before are lost
//	d vm                       why a disk may have changed unseen
//	n sequence(8)              an event, opaque
//
// # Durability
//
// A commit survives the death of the process, since Badger's write-ahead log
// is a shared mapping; it does not survive the death of the host until Sync
// or Close. Within one Commit all records appear or none.
package changelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// RegionBlocks is the number of blocks in a region, the unit of logging.
const RegionBlocks = 256

// Bits is the bitmap of a region's blocks; bit i of word w stands for block
// 64*w+i of the region.
type Bits [RegionBlocks / 64]uint64

// Full has all blocks of a region set.
var fullBits = Bits{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}

// AllBits returns the bitmap with every block set.
func AllBits() Bits { return fullBits }

// Count returns how many blocks are set.
func (b *Bits) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty reports whether no block is set.
func (b *Bits) Empty() bool { return *b == Bits{} }

// ID is the identity of a VM or of a disk.
type ID [16]byte

// Log is an open set of change logs. All methods may be called concurrently.
type Log struct {
	db *badger.DB
}

// ErrInUse is returned by Open when another process has the logs open.
var ErrInUse = errors.New("change logs are in use by another process")

// memtableSize bounds the memory of the write path: two tables of it, and as
// much again while one is written out.
const memtableSize = 16 << 20

// Open opens the logs in a directory, and creates them there if need be.
func Open(dir string, logger *slog.Logger) (*Log, error) {
	opts := badger.DefaultOptions(dir).
		WithLogger(badgerLogger{logger}).
		WithMemTableSize(memtableSize).
		WithNumMemtables(2).
		WithNumLevelZeroTables(4).
		WithNumLevelZeroTablesStall(8).
		WithNumCompactors(2).
		WithBaseTableSize(4 << 20).
		WithBaseLevelSize(16 << 20).
		WithValueLogFileSize(16 << 20).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithCompression(options.None).
		WithDetectConflicts(false).
		WithMetricsEnabled(false)
	db, err := badger.Open(opts)
	if err != nil {
		if isLocked(err) {
			return nil, fmt.Errorf("open change logs in %s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("open change logs in %s: %w", dir, err)
	}
	return &Log{db: db}, nil
}

// Close makes all commits durable and closes the logs.
func (l *Log) Close() error { return l.db.Close() }

// Sync makes all commits durable.
func (l *Log) Sync() error { return l.db.Sync() }

// Writes collects the records of one Commit or Bulk.
type Writes struct {
	set    func(k, v []byte) error
	remove func(k []byte) error
	err    error
}

// Commit writes what fill asks for, in one transaction: all or nothing. It is
// for few records; a large number is for Bulk.
func (l *Log) Commit(fill func(*Writes)) error {
	txn := l.db.NewTransaction(true)
	defer txn.Discard()
	w := Writes{set: txn.Set, remove: txn.Delete}
	fill(&w)
	if w.err == nil {
		w.err = txn.Commit()
	}
	if w.err != nil {
		return fmt.Errorf("write to change log: %w", w.err)
	}
	return nil
}

// Bulk writes any number of records, not as one transaction: after a failure
// or a crash a part of them may be there.
func (l *Log) Bulk(fill func(*Writes)) error {
	batch := l.db.NewWriteBatch()
	defer batch.Cancel()
	w := Writes{set: batch.Set, remove: batch.Delete}
	fill(&w)
	if w.err == nil {
		w.err = batch.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("write to change log: %w", w.err)
	}
	return nil
}

func (w *Writes) put(k, v []byte) {
	if w.err == nil {
		w.err = w.set(k, v)
	}
}

func (w *Writes) delete(k []byte) {
	if w.err == nil {
		w.err = w.remove(k)
	}
}

// VM stores a VM's record; nil deletes it.
func (w *Writes) VM(vm ID, record []byte) { w.record(key('v', vm), record) }

// Epoch stores a sealed epoch's record; nil deletes it.
func (w *Writes) Epoch(vm ID, epoch uint64, record []byte) { w.record(key('e', vm, epoch), record) }

// Floor stores a disk's floor within an epoch.
func (w *Writes) Floor(disk ID, epoch uint64, record []byte) { w.record(key('s', disk, epoch), record) }

// Hot stores that a zone of a disk is hot, or not.
func (w *Writes) Hot(disk ID, zone uint64, hot bool) {
	if hot {
		w.put(key('z', disk, zone), nil)
		return
	}
	w.delete(key('z', disk, zone))
}

// Cut stores a disk's lowest size since all of it was cold; nil deletes it.
func (w *Writes) Cut(disk ID, record []byte) { w.record(key('t', disk), record) }

// Lost stores that the sealed epochs up to through cannot be read any more.
func (w *Writes) Lost(vm ID, through uint64) {
	w.put(key('l', vm), binary.BigEndian.AppendUint64(nil, through))
}

// Forget deletes what Lost stored.
func (w *Writes) Forget(vm ID) { w.delete(key('l', vm)) }

// Doubt stores why a disk of a VM may have changed unseen; empty deletes it.
func (w *Writes) Doubt(vm ID, reason string) {
	if reason == "" {
		w.delete(key('d', vm))
		return
	}
	w.put(key('d', vm), []byte(reason))
}

// Event stores an event; nil deletes it.
func (w *Writes) Event(sequence uint64, record []byte) {
	w.record(binary.BigEndian.AppendUint64([]byte{'n'}, sequence), record)
}

func (w *Writes) record(k, record []byte) {
	if record == nil {
		w.delete(k)
		return
	}
	w.put(k, record)
}

// Region stores which blocks of a region the epoch changed; none deletes what
// is stored.
func (w *Writes) Region(disk ID, epoch, region uint64, blocks Bits) {
	if blocks.Empty() {
		w.delete(key('r', disk, epoch, region))
		return
	}
	w.put(key('r', disk, epoch, region), encodeBits(blocks))
}

// RegionInDoubt stores that some blocks of a region change in the epoch.
func (w *Writes) RegionInDoubt(disk ID, epoch, region uint64) {
	w.put(key('r', disk, epoch, region), nil)
}

// Images stores of which blocks of a region before-images were saved.
func (w *Writes) Images(disk ID, epoch, region uint64, blocks Bits) {
	w.put(key('b', disk, epoch, region), encodeBits(blocks))
}

func key(kind byte, id ID, numbers ...uint64) []byte {
	k := make([]byte, 0, 1+len(id)+8*len(numbers))
	k = append(k, kind)
	k = append(k, id[:]...)
	for _, n := range numbers {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return k
}

func encodeBits(b Bits) []byte {
	v := make([]byte, 0, 8*len(b))
	for _, w := range b {
		v = binary.LittleEndian.AppendUint64(v, w)
	}
	return v
}

// decodeBits reads a region's value; a region in doubt has every block set.
func decodeBits(v []byte) (b Bits, exact bool, err error) {
	switch len(v) {
	case 0:
		return fullBits, false, nil
	case 8 * len(b):
		for i := range b {
			b[i] = binary.LittleEndian.Uint64(v[8*i:])
		}
		return b, true, nil
	}
	return b, false, fmt.Errorf("change log is damaged: a region's bitmap has %d bytes, want %d", len(v), 8*len(b))
}
