// Package disk holds what is known of a VM's disk file without opening it
// through a hypervisor: its division into blocks, and its format.
package disk

// BlockSize is the size of a block in bytes: the unit of tracking, of
// checksums and of shipping. It is the page size of the hosts and the smallest
// unit that their file systems copy, so a smaller one would save nothing.
const BlockSize = 4096

// Block numbers a block of a disk file; block n begins at byte n*BlockSize.
//
// The last block of a file may be short (a fixed VHD ends with a footer of 512
// bytes). Its content is then the bytes that exist, followed by zeros: a disk
// is an endless row of bytes that are zero from its size on.
type Block uint64

// Offset returns the position of the block's first byte.
func (b Block) Offset() int64 { return int64(b) * BlockSize }

// BlockAt returns the block that holds the byte at offset.
func BlockAt(offset int64) Block { return Block(offset / BlockSize) }

// BlockCount returns the number of blocks of a disk of size bytes; the last one
// may be short.
func BlockCount(size int64) uint64 {
	return uint64((size + BlockSize - 1) / BlockSize)
}

// Extent is a run of blocks.
type Extent struct {
	Start Block  `json:"start"`
	Count uint64 `json:"count"`
}

// End returns the block after the last one.
func (e Extent) End() Block { return e.Start + Block(e.Count) }

// ExtentOf returns the blocks that the byte range touches; it is empty for a
// range of no bytes.
func ExtentOf(offset, length int64) Extent {
	if length <= 0 {
		return Extent{Start: BlockAt(offset)}
	}
	first := BlockAt(offset)
	return Extent{Start: first, Count: uint64(BlockAt(offset+length-1)-first) + 1}
}
