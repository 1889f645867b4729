package resync

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

	"lifeboat/disk"
	"lifeboat/replica/segment"
)

const (
	headerMagic   = "lbchksum"
	headerVersion = 1
	headerSize    = 172
	slotSize      = 4096
	entriesStart  = 2 * slotSize
)

// Identity tells whose table it is.
type Identity struct {
	// VM and Disk are 32 hexadecimal digits each.
	VM, Disk string
}

// State is what a table is true for: the disk at the recovery point of Epoch,
// and over it what the walk of number Walk shipped of the blocks before
// Position. Epoch 0 is a disk of zeros; Walk 0 means no walk.
type State struct {
	Epoch    uint64
	Walk     uint64
	Position disk.Block
}

// header is a slot's content.
type header struct {
	sequence uint64
	dirty    bool
	state    State
	target   State // where it was on the way to, if dirty
	sum      segment.DiskSum
}

// encode returns the slot. keyCheck ties it to the key of the checksums.
func (h header) encode(id Identity, keyCheck segment.Checksum) ([]byte, error) {
	le := binary.LittleEndian
	vm, err := hex.DecodeString(id.VM)
	if err != nil || len(vm) != 16 {
		return nil, fmt.Errorf("VM id %q is not 32 hexadecimal digits", id.VM)
	}
	diskID, err := hex.DecodeString(id.Disk)
	if err != nil || len(diskID) != 16 {
		return nil, fmt.Errorf("disk id %q is not 32 hexadecimal digits", id.Disk)
	}
	b := make([]byte, 0, slotSize)
	b = append(b, headerMagic...)
	b = le.AppendUint32(b, headerVersion)
	dirty := uint32(0)
	if h.dirty {
		dirty = 1
	}
	b = le.AppendUint32(b, dirty)
	b = le.AppendUint64(b, h.sequence)
	b = append(b, vm...)
	b = append(b, diskID...)
	b = append(b, keyCheck[:]...)
	for _, s := range []State{h.state, h.target} {
		b = le.AppendUint64(b, s.Epoch)
		b = le.AppendUint64(b, s.Walk)
		b = le.AppendUint64(b, uint64(s.Position))
	}
	sum := h.sum.Bytes()
	b = append(b, sum[:]...)
	b = append(b, make([]byte, headerSize-4-len(b))...)
	b = le.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b[:slotSize], nil
}

var errForeign = errors.New("it is the table of another disk, or was made under another key")

// decodeHeader reads a slot.
func decodeHeader(b []byte, id Identity, keyCheck segment.Checksum) (header, error) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:8]) != headerMagic {
		return header{}, errors.New("it has no header")
	}
	if le.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], crc32.MakeTable(crc32.Castagnoli)) {
		return header{}, errors.New("its header has a wrong checksum")
	}
	if v := le.Uint32(b[8:]); v != headerVersion {
		return header{}, fmt.Errorf("its version %d is unknown", v)
	}
	if hex.EncodeToString(b[24:40]) != id.VM || hex.EncodeToString(b[40:56]) != id.Disk ||
		segment.Checksum(b[56:72]) != keyCheck {
		return header{}, errForeign
	}
	state := func(b []byte) State {
		return State{Epoch: le.Uint64(b), Walk: le.Uint64(b[8:]), Position: disk.Block(le.Uint64(b[16:]))}
	}
	return header{
		sequence: le.Uint64(b[16:]),
		dirty:    le.Uint32(b[12:]) != 0,
		state:    state(b[72:]),
		target:   state(b[96:]),
		sum:      segment.DiskSumFrom([16]byte(b[120:136])),
	}, nil
}
