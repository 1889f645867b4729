// Package segment encodes and decodes segments: the immutable blobs that carry
// blocks of one disk, with an index that proves and finds each of them.
//
// A segment is, from its first byte to its last (all integers little-endian):
//
//	header   16 bytes   magic "lifeboat", version, flags, reserved
//	frames              each at most 64 blocks, stored raw or as one zstd frame
//	index               what the segment is, its runs, frames and checksums
//	footer   64 bytes   where the index lies, its SHA-256, magic "taobefil"
//
// The runs say which blocks the segment speaks of, in ascending order and
// without overlap: a run of zeros has no data, a run of data takes the next
// blocks out of the frames. So a block's ordinal among the data blocks of the
// segment gives its checksum (Sums), its frame and its place in there; neither
// is written down, and so neither can be wrong. Frames lie back to back from
// the header on, for the same reason.
//
// Who holds a Ref, out of a manifest, has the SHA-256 of the footer; the footer
// has that of the index; the index has the checksum of each stored frame and of
// each block. One ranged GET brings footer and index, another any frame, and
// nothing is believed before its checksum was seen to be right.
//
// docs/FORMAT.md has the byte diagrams.
package segment

// Limits of a segment. A decoder refuses what exceeds them.
const (
	// MaxSize bounds a segment blob, in bytes.
	MaxSize = 64 << 20
	// MaxBlocks bounds the data blocks of a segment. It keeps the index at
	// about a MiB however well the data compresses.
	MaxBlocks = 65536
	// MaxRuns bounds the runs of a segment.
	MaxRuns = 2 * MaxBlocks
	// FrameBlocks bounds the blocks of a frame: what has to be fetched and
	// decompressed to read one block.
	FrameBlocks = 64
	// FooterSize is the size of the footer in bytes.
	FooterSize = 64

	headerSize = 16
	version    = 1
)
