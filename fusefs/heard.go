package fusefs

import (
	"encoding/binary"
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// heard is what the kernel told of a file since it was judged last.
type heard struct {
	opened map[int]bool // the pids of those who opened it and did not, for all that is known, close it
	open   bool         // an opening was the last that came
	wrote  bool         // somebody closed it who had it open for writing
	writer string
}

// explained tells whether everybody who opened the file is seen to have it open,
// or has closed it, or is gone and somebody else is seen to have it.
func (h *heard) explained(readers []Holder) bool {
	for pid := range h.opened {
		switch {
		case slices.ContainsFunc(readers, func(r Holder) bool { return r.PID == pid }):
		case pid == 0 || processOf(pid).alive() || h.open && len(readers) == 0:
			return false
		}
	}
	return true
}

// eventSize is that of an event: struct fanotify_event_metadata.
const eventSize = 24

// read reads all that the kernel has to tell. mu is held.
func (w *watch) read() {
	for w.fd >= 0 {
		n, err := unix.Read(w.fd, w.buffer[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			// What it was about is lost.
			w.log.Warn("the kernel's word on who opened a disk could not be read", "error", err)
			w.doubtAll()
			return
		}
		for at := 0; at+eventSize <= n; {
			e := w.buffer[at:n]
			length, mask := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint64(e[8:])
			fd, pid := int32(binary.NativeEndian.Uint32(e[16:])), int32(binary.NativeEndian.Uint32(e[20:]))
			if length < eventSize {
				break
			}
			w.hear(mask, int(fd), int(pid))
			at += int(length)
		}
	}
}

// hear notes an event, and closes its descriptor of the file. mu is held.
func (w *watch) hear(mask uint64, fd, pid int) {
	defer closeFD(fd)
	if mask&unix.FAN_Q_OVERFLOW != 0 {
		w.log.Warn("disks are opened below the mount faster than it can be noticed")
		w.doubtAll()
		return
	}
	var s syscall.Stat_t
	if fd < 0 || pid == w.ignored || syscall.Fstat(fd, &s) != nil {
		return
	}
	h := w.about(FileID{Device: s.Dev, Inode: s.Ino})
	closed := mask&(unix.FAN_CLOSE_WRITE|unix.FAN_CLOSE_NOWRITE) != 0
	switch h.open = !closed; {
	case mask&unix.FAN_OPEN != 0:
		h.opened[pid] = true
	case closed:
		delete(h.opened, pid)
	}
	if mask&unix.FAN_CLOSE_WRITE != 0 {
		h.wrote, h.writer = true, holderOf(pid).String()
	}
}

func (w *watch) about(id FileID) *heard {
	h := w.heard[id]
	if h == nil {
		h = &heard{opened: map[int]bool{}}
		w.heard[id] = h
	}
	return h
}

// doubtAll notes that anybody may have written to any file. mu is held.
func (w *watch) doubtAll() {
	for id := range w.files {
		h := w.about(id)
		h.wrote, h.writer = true, "somebody among too many to tell"
	}
}
