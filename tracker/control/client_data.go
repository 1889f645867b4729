package control

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"lifeboat/disk"
	"lifeboat/tracker"
)

// ReadSealed implements Backend.
func (c *Client) ReadSealed(ctx context.Context, id string, epoch uint64, diskID string, p []byte, offset int64) error {
	path, err := epochURL(id, diskID, epoch)
	if err != nil {
		return err
	}
	return c.readRange(ctx, "read sealed blocks", path+"/data", p, offset)
}

// ReadDisk implements Backend.
func (c *Client) ReadDisk(ctx context.Context, id, diskID string, p []byte, offset int64) error {
	path, err := diskURL(id, diskID)
	if err != nil {
		return err
	}
	return c.readRange(ctx, "read disk", path+"/data", p, offset)
}

// ReadSealedExtents reads extents that a sealed epoch marked, one after the
// other, into p, which has exactly their length. What it does is what
// Backend's ReadSealed does, in one exchange for up to MaxRead bytes where
// backend is a Client.
func ReadSealedExtents(ctx context.Context, backend Backend, id string, epoch uint64, diskID string, extents tracker.Extents, p []byte) error {
	if n := extents.Blocks() * disk.BlockSize; uint64(len(p)) != n {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf("read sealed extents: buffer has %d bytes for %d", len(p), n)}
	}
	c, ok := backend.(*Client)
	if ok && len(extents) > 1 && len(p) <= MaxRead {
		return c.readSealedExtents(ctx, id, epoch, diskID, extents, p)
	}
	for _, x := range extents {
		n := x.Count * disk.BlockSize
		if err := backend.ReadSealed(ctx, id, epoch, diskID, p[:n], x.Start.Offset()); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (c *Client) readSealedExtents(ctx context.Context, id string, epoch uint64, diskID string, extents tracker.Extents, p []byte) error {
	path, err := epochURL(id, diskID, epoch)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := writeExtents(&body, extents); err != nil {
		return fmt.Errorf("encode extents: %w", err)
	}
	return c.read(ctx, "read sealed blocks", http.MethodPost, path+"/read", &body, p)
}

// readRange reads a range of any length, in pieces of MaxRead.
func (c *Client) readRange(ctx context.Context, op, path string, p []byte, offset int64) error {
	for len(p) > 0 {
		n := min(len(p), MaxRead)
		target := path + "?offset=" + strconv.FormatInt(offset, 10) + "&length=" + strconv.Itoa(n)
		if err := c.read(ctx, op, http.MethodGet, target, nil, p[:n]); err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// read fills p with the answer's body, which must have exactly its length. A
// long body goes from the socket straight into p.
func (c *Client) read(ctx context.Context, op, method, path string, body io.Reader, p []byte) error {
	response, err := c.do(ctx, op, method, path, body)
	if err != nil {
		return err
	}
	defer closeBody(response)
	if response.ContentLength != int64(len(p)) {
		return c.broken(ctx, op, fmt.Errorf("answer has %d bytes instead of %d", response.ContentLength, len(p)))
	}
	if _, err := io.ReadFull(response.Body, p); err != nil {
		return c.broken(ctx, op, err)
	}
	return nil
}

// extents gets a list of at most limit extents.
func (c *Client) extents(ctx context.Context, op, path string, limit int) (tracker.Extents, error) {
	response, err := c.do(ctx, op, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer closeBody(response)
	extents, err := readExtents(response.Body, limit)
	if err != nil {
		return nil, c.broken(ctx, op, err)
	}
	return extents, nil
}
