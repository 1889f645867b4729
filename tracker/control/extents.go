package control

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"lifeboat/disk"
	"lifeboat/tracker"
)

const (
	extentsMagic = "LBX\x01"
	// maxExtents bounds what a decoder keeps. A disk of half a TiB of which
	// every other block changed has as many.
	maxExtents = 1 << 26
	// maxBlock keeps byte offsets within int64.
	maxBlock = disk.Block(1<<63/disk.BlockSize - 1)
)

var errExtents = errors.New("malformed list of extents")

// writeExtents encodes extents to w.
func writeExtents(w io.Writer, extents tracker.Extents) error {
	buf := bufio.NewWriterSize(w, 64<<10)
	if _, err := buf.WriteString(extentsMagic); err != nil {
		return err
	}
	var scratch [2 * binary.MaxVarintLen64]byte
	var end disk.Block
	for _, x := range extents {
		n := binary.PutUvarint(scratch[:], uint64(x.Start-end))
		n += binary.PutUvarint(scratch[n:], x.Count)
		if _, err := buf.Write(scratch[:n]); err != nil {
			return err
		}
		end = x.End()
	}
	n := copy(scratch[:], []byte{0, 0})
	n += binary.PutUvarint(scratch[n:], uint64(len(extents)))
	if _, err := buf.Write(scratch[:n]); err != nil {
		return err
	}
	return buf.Flush()
}

// readExtents decodes what writeExtents wrote, up to the end of r, and refuses
// anything else: extents that touch, overlap or leave the range of an int64
// byte offset, more than limit of them, and anything behind the end. What it
// allocates is proportional to what it has read.
func readExtents(r io.Reader, limit int) (tracker.Extents, error) {
	buf := bufio.NewReaderSize(r, 64<<10)
	var magic [len(extentsMagic)]byte
	if _, err := io.ReadFull(buf, magic[:]); err != nil {
		return nil, cut(err)
	}
	if string(magic[:]) != extentsMagic {
		return nil, fmt.Errorf("%w: it begins with %q", errExtents, magic)
	}
	var extents tracker.Extents
	var end disk.Block
	for {
		gap, err := binary.ReadUvarint(buf)
		if err != nil {
			return nil, cut(err)
		}
		count, err := binary.ReadUvarint(buf)
		if err != nil {
			return nil, cut(err)
		}
		if gap == 0 && count == 0 {
			break
		}
		switch {
		case count == 0, gap == 0 && len(extents) > 0:
			return nil, fmt.Errorf("%w: extent %d is empty or touches the one before", errExtents, len(extents))
		case gap > uint64(maxBlock-end), count > uint64(maxBlock-end)-gap:
			return nil, fmt.Errorf("%w: extent %d lies beyond any disk", errExtents, len(extents))
		case len(extents) == limit:
			return nil, fmt.Errorf("%w: there are more than %d extents", errExtents, limit)
		}
		x := disk.Extent{Start: end + disk.Block(gap), Count: count}
		extents, end = append(extents, x), x.End()
	}
	n, err := binary.ReadUvarint(buf)
	if err != nil {
		return nil, cut(err)
	}
	if n != uint64(len(extents)) {
		return nil, fmt.Errorf("%w: it holds %d extents and claims %d", errExtents, len(extents), n)
	}
	if _, err := buf.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its end", errExtents)
	}
	return extents, nil
}

// cut tells a list that ended too early from a failure to read it.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", errExtents)
	}
	return fmt.Errorf("read list of extents: %w", err)
}
