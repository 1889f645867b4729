package control

import (
	"fmt"
	"net/http"
	"strconv"

	"lifeboat/disk"
	"lifeboat/tracker"
)

func (h *handler) readDisk(w http.ResponseWriter, r *http.Request) error {
	vm, diskID := r.PathValue("vm"), r.PathValue("disk")
	return h.readRange(w, r, func(p []byte, offset int64) error {
		return h.backend.ReadDisk(r.Context(), vm, diskID, p, offset)
	})
}

func (h *handler) readSealed(w http.ResponseWriter, r *http.Request) error {
	epoch, err := number(r.PathValue("epoch"), "epoch")
	if err != nil {
		return err
	}
	vm, diskID := r.PathValue("vm"), r.PathValue("disk")
	return h.readRange(w, r, func(p []byte, offset int64) error {
		return h.backend.ReadSealed(r.Context(), vm, epoch, diskID, p, offset)
	})
}

// readRange answers a request for the bytes of one range.
func (h *handler) readRange(w http.ResponseWriter, r *http.Request, read func([]byte, int64) error) error {
	query := r.URL.Query()
	offset, err := number(query.Get("offset"), "offset")
	if err != nil {
		return err
	}
	length, err := number(query.Get("length"), "length")
	if err != nil {
		return err
	}
	if offset > uint64(maxBlock.Offset()) || length > MaxRead {
		return fmt.Errorf("%w: cannot read %d bytes at %d: at most %d at once, within a disk", tracker.ErrInvalid, length, offset, MaxRead)
	}
	return h.answerBytes(w, r, int(length), func(p []byte) error { return read(p, int64(offset)) })
}

// readSealedExtents answers with the content of many extents at once.
func (h *handler) readSealedExtents(w http.ResponseWriter, r *http.Request) error {
	epoch, err := number(r.PathValue("epoch"), "epoch")
	if err != nil {
		return err
	}
	body, done := limitBody(w, r)
	extents, err := readExtents(body, MaxRead/disk.BlockSize)
	done()
	if err != nil {
		return fmt.Errorf("%w: %w", tracker.ErrInvalid, err)
	}
	blocks := extents.Blocks()
	if blocks > MaxRead/disk.BlockSize {
		return fmt.Errorf("%w: cannot read %d blocks: at most %d at once", tracker.ErrInvalid, blocks, MaxRead/disk.BlockSize)
	}
	vm, diskID := r.PathValue("vm"), r.PathValue("disk")
	return h.answerBytes(w, r, int(blocks)*disk.BlockSize, func(p []byte) error {
		for _, x := range extents {
			n := int(x.Count) * disk.BlockSize
			if err := h.backend.ReadSealed(r.Context(), vm, epoch, diskID, p[:n], x.Start.Offset()); err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	})
}

// answerBytes lets read fill n bytes, and sends them if it succeeds.
func (h *handler) answerBytes(w http.ResponseWriter, r *http.Request, n int, read func([]byte) error) error {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	buffer := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buffer)
	p := (*buffer)[:n]
	if err := read(p); err != nil {
		return err
	}
	allowTime(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("%w: %w", errSent, err)
	}
	return nil
}
