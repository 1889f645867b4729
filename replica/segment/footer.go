package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	headerMagic = "lifeboat"
	footerMagic = "taobefil"
)

// ErrVersion tells that a segment was written by a version that this one does
// not know.
var ErrVersion = errors.New("segment format is not known to this version; use a newer one")

func appendHeader(dst []byte) []byte {
	dst = append(dst, headerMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, version)
	return append(dst, 0, 0, 0, 0, 0, 0)
}

// footer is the last thing in a segment.
type footer struct {
	indexOffset int64
	indexLength int64
	index       Hash
}

func appendFooter(dst []byte, f footer) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = le.AppendUint64(dst, uint64(f.indexOffset))
	dst = le.AppendUint32(dst, uint32(f.indexLength))
	dst = le.AppendUint16(dst, version)
	dst = le.AppendUint16(dst, 0) // flags
	dst = append(dst, f.index[:]...)
	dst = le.AppendUint32(dst, 0) // reserved
	dst = le.AppendUint32(dst, crcOf(dst[start:]))
	return append(dst, footerMagic...)
}

// decodeFooter reads the footer of a blob of size bytes.
func decodeFooter(data []byte, size int64) (footer, error) {
	le := binary.LittleEndian
	if len(data) != FooterSize || string(data[56:]) != footerMagic {
		return footer{}, errors.New("it does not end with the footer of a segment")
	}
	if crcOf(data[:52]) != le.Uint32(data[52:]) {
		return footer{}, errors.New("its footer has a wrong checksum")
	}
	if v, flags := le.Uint16(data[12:]), le.Uint16(data[14:]); v != version || flags != 0 || le.Uint32(data[48:]) != 0 {
		return footer{}, fmt.Errorf("%w (version %d, flags %#x)", ErrVersion, v, flags)
	}
	f := footer{indexLength: int64(le.Uint32(data[8:]))}
	offset := le.Uint64(data)
	if size > MaxSize || offset < headerSize || offset > MaxSize ||
		int64(offset)+f.indexLength+FooterSize != size || f.indexLength < indexFixed {
		return footer{}, fmt.Errorf("an index of %d bytes at %d does not fit a blob of %d bytes", f.indexLength, offset, size)
	}
	f.indexOffset = int64(offset)
	copy(f.index[:], data[16:48])
	return f, nil
}

// decodeTail reads index and footer, the last bytes of a blob of size bytes.
// want, if set, is the SHA-256 that the footer must have.
func decodeTail(tail []byte, size int64, want Hash) (*Index, Ref, error) {
	if len(tail) < FooterSize {
		return nil, Ref{}, fmt.Errorf("%d bytes are no segment", len(tail))
	}
	last := tail[len(tail)-FooterSize:]
	proof := Hash(sha256.Sum256(last))
	if !want.IsZero() && proof != want {
		return nil, Ref{}, errors.New("its footer is not the one that the manifest names")
	}
	f, err := decodeFooter(last, size)
	if err != nil {
		return nil, Ref{}, err
	}
	start := f.indexOffset - (size - int64(len(tail)))
	if start < 0 || start+f.indexLength+FooterSize != int64(len(tail)) {
		return nil, Ref{}, fmt.Errorf("its index is not at %d", size-int64(len(tail)))
	}
	encoded := tail[start : start+f.indexLength]
	if sha256.Sum256(encoded) != f.index {
		return nil, Ref{}, errors.New("its index has a wrong checksum")
	}
	x, err := decodeIndex(encoded, f.indexOffset)
	if err != nil {
		return nil, Ref{}, err
	}
	return x, Ref{Kind: x.Kind, Size: size, IndexOffset: f.indexOffset, Footer: proof}, nil
}

// crcOf is the CRC-32C that guards frames and footers against accidents. What
// must be proved has a SHA-256 or a keyed checksum besides.
func crcOf(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
}
