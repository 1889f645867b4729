package segment

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/minio/highwayhash"

	"lifeboat/disk"
)

// Checksum is the block checksum: HighwayHash-128 of the block's 4096 bytes, or
// all zero for a block of zeros, which is never computed. Without the VM's key
// nobody can make two blocks of the same checksum.
type Checksum [16]byte

// IsZero tells that the checksum stands for a block of zeros.
func (c Checksum) IsZero() bool { return c == Checksum{} }

// Key keys the block checksums of a VM.
type Key [32]byte

// NewKey returns a random key.
func NewKey() Key {
	var k Key
	rand.Read(k[:]) // never fails
	return k
}

// MarshalText writes the key in hexadecimal.
func (k Key) MarshalText() ([]byte, error) { return hexText(k[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *Key) UnmarshalText(text []byte) error { return unhexText("key", k[:], text) }

// Hasher computes checksums under one key. It may be used concurrently and
// allocates nothing.
type Hasher struct{ key Key }

// NewHasher returns a Hasher for the key.
func NewHasher(key Key) *Hasher { return &Hasher{key: key} }

// Sum returns the checksum of a block. A block shorter than disk.BlockSize, the
// last one of a disk, counts as if zeros followed; a longer one is a mistake of
// the caller and panics.
func (h *Hasher) Sum(block []byte) Checksum {
	if IsZero(block) {
		return Checksum{}
	}
	if len(block) == disk.BlockSize {
		return highwayhash.Sum128(block, h.key[:])
	}
	if len(block) > disk.BlockSize {
		panic(fmt.Sprintf("segment: checksum of %d bytes, which is more than a block", len(block)))
	}
	var padded [disk.BlockSize]byte
	copy(padded[:], block)
	return highwayhash.Sum128(padded[:], h.key[:])
}

// Sums appends the checksum of each block of data to dst. Only the last block
// may be short.
func (h *Hasher) Sums(dst []Checksum, data []byte) []Checksum {
	for len(data) > 0 {
		n := min(len(data), disk.BlockSize)
		dst = append(dst, h.Sum(data[:n]))
		data = data[n:]
	}
	return dst
}

// IsZero tells whether data is nothing but zeros. It compares data with itself
// one byte further on, which the runtime does at the speed of memory.
func IsZero(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	return data[0] == 0 && bytes.Equal(data[1:], data[:len(data)-1])
}

func hexText(b []byte) []byte {
	return hex.AppendEncode(make([]byte, 0, hex.EncodedLen(len(b))), b)
}

// unhexText fills dst from exactly as many lower-case hexadecimal digits as it
// takes: what is written in one way only can be compared as bytes.
func unhexText(what string, dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s is %d characters long, not %d", what, len(text), hex.EncodedLen(len(dst)))
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%s has the character %q, which is no lower-case hexadecimal digit", what, c)
		}
	}
	_, err := hex.Decode(dst, text)
	return err
}
