package segment

import (
	"encoding/binary"
	"math/bits"

	"github.com/minio/highwayhash"

	"lifeboat/disk"
)

// DiskSum is the disk checksum: the sum, modulo 2^128, over all blocks that are
// not zero, of HighwayHash-128(key, block number || block checksum). It follows
// a disk from change to change without looking at the rest, and two disks of
// the same size with the same DiskSum under the same key are equal.
//
// Sizes are not in it: zeros at the end do not change it. The zero DiskSum is
// that of a disk of zeros.
type DiskSum struct{ hi, lo uint64 }

// Replace tells that the block's checksum was old and is now new.
func (s *DiskSum) Replace(h *Hasher, block disk.Block, old, new Checksum) {
	if old == new {
		return
	}
	if !old.IsZero() {
		hi, lo := h.term(block, old)
		var borrow uint64
		s.lo, borrow = bits.Sub64(s.lo, lo, 0)
		s.hi, _ = bits.Sub64(s.hi, hi, borrow)
	}
	if !new.IsZero() {
		hi, lo := h.term(block, new)
		var carry uint64
		s.lo, carry = bits.Add64(s.lo, lo, 0)
		s.hi, _ = bits.Add64(s.hi, hi, carry)
	}
}

// Add adds another sum, of other blocks of the same disk.
func (s *DiskSum) Add(other DiskSum) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, other.lo, 0)
	s.hi, _ = bits.Add64(s.hi, other.hi, carry)
}

// term is what one block adds to the sum.
func (h *Hasher) term(block disk.Block, sum Checksum) (hi, lo uint64) {
	var message [8 + len(sum)]byte
	binary.LittleEndian.PutUint64(message[:], uint64(block))
	copy(message[8:], sum[:])
	digest := highwayhash.Sum128(message[:], h.key[:])
	return binary.LittleEndian.Uint64(digest[8:]), binary.LittleEndian.Uint64(digest[:8])
}

// Bytes returns the sum as 16 bytes, most significant first.
func (s DiskSum) Bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], s.hi)
	binary.BigEndian.PutUint64(b[8:], s.lo)
	return b
}

// DiskSumFrom returns the sum whose Bytes are b.
func DiskSumFrom(b [16]byte) DiskSum {
	return DiskSum{hi: binary.BigEndian.Uint64(b[:]), lo: binary.BigEndian.Uint64(b[8:])}
}

// String returns the sum in hexadecimal.
func (s DiskSum) String() string {
	b := s.Bytes()
	return string(hexText(b[:]))
}

// MarshalText writes the sum in hexadecimal.
func (s DiskSum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *DiskSum) UnmarshalText(text []byte) error {
	var b [16]byte
	if err := unhexText("disk checksum", b[:], text); err != nil {
		return err
	}
	*s = DiskSumFrom(b)
	return nil
}
