package changelog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
)

// VMs calls visit for every VM's record.
func (l *Log) VMs(visit func(vm ID, record []byte) error) error {
	return l.scan([]byte{'v'}, func(suffix, value []byte) error {
		if len(suffix) != len(ID{}) {
			return damagedKey("VM", suffix)
		}
		return visit(ID(suffix), value)
	})
}

// Epochs calls visit for every sealed epoch of a VM, oldest first.
func (l *Log) Epochs(vm ID, visit func(epoch uint64, record []byte) error) error {
	return l.scan(key('e', vm), func(suffix, value []byte) error {
		if len(suffix) != 8 {
			return damagedKey("epoch", suffix)
		}
		return visit(binary.BigEndian.Uint64(suffix), value)
	})
}

// Regions calls visit for every logged region of a disk's epoch, in order.
// exact is false for a region in doubt, which has all blocks set.
func (l *Log) Regions(disk ID, epoch uint64, visit func(region uint64, blocks Bits, exact bool)) error {
	return l.bitmaps(key('r', disk, epoch), visit)
}

// Images calls visit for every region of which before-images were saved.
func (l *Log) Images(disk ID, epoch uint64, visit func(region uint64, blocks Bits)) error {
	return l.bitmaps(key('b', disk, epoch), func(region uint64, blocks Bits, _ bool) { visit(region, blocks) })
}

// ImageEpochs calls visit for every region of a disk in whatever epoch
// before-images were saved of it.
func (l *Log) ImageEpochs(disk ID, visit func(epoch, region uint64, blocks Bits)) error {
	return l.scan(key('b', disk), func(suffix, value []byte) error {
		if len(suffix) != 16 {
			return damagedKey("before-image", suffix)
		}
		blocks, _, err := decodeBits(value)
		if err != nil {
			return err
		}
		visit(binary.BigEndian.Uint64(suffix), binary.BigEndian.Uint64(suffix[8:]), blocks)
		return nil
	})
}

// Lost returns the number that was stored for a VM by Writes.Lost, else 0.
func (l *Log) Lost(vm ID) (uint64, error) {
	through := uint64(0)
	err := l.scan(key('l', vm), func(_, value []byte) error {
		if len(value) != 8 {
			return fmt.Errorf("change log is damaged: a number has %d bytes", len(value))
		}
		through = binary.BigEndian.Uint64(value)
		return nil
	})
	return through, err
}

// Doubt returns what was stored for a VM by Writes.Doubt, else nothing.
func (l *Log) Doubt(vm ID) (reason string, err error) {
	err = l.scan(key('d', vm), func(_, value []byte) error {
		reason = string(value)
		return nil
	})
	return reason, err
}

// HotZones calls visit for every hot zone of a disk.
func (l *Log) HotZones(disk ID, visit func(zone uint64)) error {
	return l.scan(key('z', disk), func(suffix, _ []byte) error {
		if len(suffix) != 8 {
			return damagedKey("zone", suffix)
		}
		visit(binary.BigEndian.Uint64(suffix))
		return nil
	})
}

// Cut returns what Writes.Cut stored for a disk, nil if there is nothing.
func (l *Log) Cut(disk ID) ([]byte, error) { return l.get(key('t', disk)) }

// AllRegions calls visit for every logged region of a disk in whatever epoch.
func (l *Log) AllRegions(disk ID, visit func(region uint64, blocks Bits)) error {
	return l.scan(key('r', disk), func(suffix, value []byte) error {
		if len(suffix) != 16 {
			return damagedKey("region", suffix)
		}
		blocks, _, err := decodeBits(value)
		if err != nil {
			return err
		}
		visit(binary.BigEndian.Uint64(suffix[8:]), blocks)
		return nil
	})
}

// AllFloors calls visit for every floor record of a disk in whatever epoch.
func (l *Log) AllFloors(disk ID, visit func(record []byte) error) error {
	return l.scan(key('s', disk), func(_, value []byte) error { return visit(value) })
}

// Floor returns a disk's floor record within an epoch, nil if there is none.
func (l *Log) Floor(disk ID, epoch uint64) ([]byte, error) { return l.get(key('s', disk, epoch)) }

// get returns a record, nil if there is none.
func (l *Log) get(k []byte) ([]byte, error) {
	var record []byte
	err := l.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(k)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		record, err = item.ValueCopy(nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read change log: %w", err)
	}
	return record, nil
}

// Events calls visit for every kept event, oldest first.
func (l *Log) Events(visit func(sequence uint64, record []byte) error) error {
	return l.scan([]byte{'n'}, func(suffix, value []byte) error {
		if len(suffix) != 8 {
			return damagedKey("event", suffix)
		}
		return visit(binary.BigEndian.Uint64(suffix), value)
	})
}

// Drop deletes a disk's log of an epoch: regions and floor. It is not atomic
// and may be repeated.
func (l *Log) Drop(disk ID, epoch uint64) error {
	return l.dropPrefixes(key('r', disk, epoch), key('s', disk, epoch))
}

// DropImages deletes the record of the before-images of a disk's epoch.
func (l *Log) DropImages(disk ID, epoch uint64) error {
	return l.dropPrefixes(key('b', disk, epoch))
}

// DropAllImages deletes the record of all before-images of a disk.
func (l *Log) DropAllImages(disk ID) error { return l.dropPrefixes(key('b', disk)) }

// DropDisk deletes everything that is kept of a disk.
func (l *Log) DropDisk(disk ID) error {
	return l.dropPrefixes(key('r', disk), key('s', disk), key('b', disk), key('z', disk), key('t', disk))
}

// StaleEpochs returns the epochs of a disk that have regions or a floor and
// for which keep is false: what a crash left of epochs that were dropped.
func (l *Log) StaleEpochs(disk ID, keep func(epoch uint64) bool) ([]uint64, error) {
	found := map[uint64]bool{}
	for _, kind := range []byte{'r', 's'} {
		prefix := key(kind, disk)
		err := l.db.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
			defer it.Close()
			for it.Rewind(); it.Valid(); {
				suffix := it.Item().Key()[len(prefix):]
				if len(suffix) < 8 {
					return damagedKey("region", suffix)
				}
				epoch := binary.BigEndian.Uint64(suffix)
				if !keep(epoch) {
					found[epoch] = true
				}
				if epoch == ^uint64(0) {
					return nil
				}
				it.Seek(key(kind, disk, epoch+1)) // one look per epoch, not per region
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read change log: %w", err)
		}
	}
	epochs := make([]uint64, 0, len(found))
	for epoch := range found {
		epochs = append(epochs, epoch)
	}
	return epochs, nil
}

func (l *Log) bitmaps(prefix []byte, visit func(region uint64, blocks Bits, exact bool)) error {
	return l.scan(prefix, func(suffix, value []byte) error {
		if len(suffix) != 8 {
			return damagedKey("region", suffix)
		}
		blocks, exact, err := decodeBits(value)
		if err != nil {
			return err
		}
		visit(binary.BigEndian.Uint64(suffix), blocks, exact)
		return nil
	})
}

// scan visits all records of a prefix in order; suffix and value are valid
// only during the call.
func (l *Log) scan(prefix []byte, visit func(suffix, value []byte) error) error {
	err := l.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = prefix
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			err := item.Value(func(value []byte) error { return visit(item.Key()[len(prefix):], value) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read change log: %w", err)
	}
	return nil
}

func (l *Log) dropPrefixes(prefixes ...[]byte) error {
	for _, prefix := range prefixes {
		batch := l.db.NewWriteBatch()
		err := l.db.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				if err := batch.Delete(it.Item().KeyCopy(nil)); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = batch.Flush()
		}
		batch.Cancel()
		if err != nil {
			return fmt.Errorf("delete from change log: %w", err)
		}
	}
	return nil
}

func damagedKey(kind string, suffix []byte) error {
	return fmt.Errorf("change log is damaged: the key of a record of kind %s ends in %d bytes", kind, len(suffix))
}

// isLocked recognises Badger's refusal of a directory that another process
// holds; it wraps the cause in text only.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EWOULDBLOCK) || strings.Contains(err.Error(), "Cannot acquire directory lock")
}

// badgerLogger passes on what Badger says; its chatter is of debugging level.
type badgerLogger struct{ log *slog.Logger }

func (b badgerLogger) Errorf(format string, args ...any)   { b.say(slog.LevelError, format, args) }
func (b badgerLogger) Warningf(format string, args ...any) { b.say(slog.LevelWarn, format, args) }
func (b badgerLogger) Infof(format string, args ...any)    { b.say(slog.LevelDebug, format, args) }
func (b badgerLogger) Debugf(format string, args ...any)   { b.say(slog.LevelDebug, format, args) }

func (b badgerLogger) say(level slog.Level, format string, args []any) {
	b.log.Log(context.Background(), level, "change log store", "said", strings.TrimSpace(fmt.Sprintf(format, args...)))
}
