package fusefs

import (
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Witness hears of who opens a disk file other than through the mount: by
// another path to it, where its changes are not seen. Both methods may be called
// at any time, one after the other, and must not wait for who calls Look.
type Witness interface {
	// OpenedBelow is called when somebody has the file open for writing, and
	// again when that is somebody else; by says who.
	OpenedBelow(by string)
	// ClosedBelow is called when nobody has it open so any more. It may come
	// alone, when whoever had opened it was done before one could look.
	ClosedBelow(by string)
}

// watchMask is what the kernel tells of. It does not tell of each write
// (FAN_MODIFY), since it would tell of the filter's own, too, in their time.
const watchMask = unix.FAN_OPEN | unix.FAN_CLOSE_WRITE | unix.FAN_CLOSE_NOWRITE

// The kernel tells of an opening before the descriptor is there, and of a closing
// after it is gone. Who has a file open and shows no descriptor for that long is
// hidden. When openings and closings were told in one, there may be another
// descriptor to come, but hardly.
const (
	hiddenAfter = 2 * time.Second
	mergedAfter = 50 * time.Millisecond
)

// watch has the kernel tell (fanotify) of whoever opens a watched file below the
// mount. It tells when the opening is over and before the first write. What is
// read from it lags behind, so whoever wants to be sure that nobody had the file
// open until now calls look.
type watch struct {
	log     *slog.Logger
	mu      sync.Mutex
	fd      int      // -1 if there is no watching
	queue   *os.File // the same
	ended   chan struct{}
	files   map[FileID]*watched
	heard   map[FileID]*heard // and not judged yet
	buffer  [64 * eventSize]byte
	ignored int // the pid whose events mean nothing: the filter's own
}

// watched is a file with who wants to know of it.
type watched struct {
	file    *os.File
	witness Witness
	held    string // who has it open for writing, as it was told last
}

// newWatch starts to watch, or says in the log why it cannot.
func newWatch(log *slog.Logger) *watch {
	w := &watch{
		log: log, fd: -1, ended: make(chan struct{}), files: map[FileID]*watched{}, heard: map[FileID]*heard{},
		ignored: os.Getpid(),
	}
	const flags = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_MARKS
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		log.Warn("who changes a protected disk other than through the mount is not seen while it is mounted: that takes CAP_SYS_ADMIN", "error", err)
		close(w.ended)
		return w
	}
	w.fd, w.queue = fd, os.NewFile(uintptr(fd), "fanotify")
	go w.listen()
	return w
}

// listen looks whenever there is something to be read.
func (w *watch) listen() {
	defer close(w.ended)
	conn, err := w.queue.SyscallConn()
	if err == nil {
		err = conn.Read(func(uintptr) bool {
			w.look()
			return false // so it is waited for more
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		w.log.Error("who changes a protected disk other than through the mount is noticed at rollovers only", "error", err)
	}
}

// close ends it; no witness is called any more.
func (w *watch) close() error {
	w.mu.Lock()
	w.fd = -1
	w.mu.Unlock()
	if w.queue == nil {
		return nil
	}
	err := w.queue.Close()
	<-w.ended
	return err
}

// Watch has the witness told of everybody who opens the file for writing other
// than through the mount from now on, as far as the kernel tells. The file stays
// open until Detach.
func (fs *FS) Watch(file *os.File, witness Witness) {
	w := fs.filter.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return
	}
	var s syscall.Stat_t
	err := syscall.Fstat(int(file.Fd()), &s)
	if err == nil {
		err = unix.FanotifyMark(w.fd, unix.FAN_MARK_ADD, watchMask, unix.AT_FDCWD, descriptorPath(int(file.Fd())))
	}
	if err != nil { // not every file system can; the disk is protected all the same
		w.log.Warn("who changes a disk other than through the mount is not seen", "disk", file.Name(), "error", err)
		return
	}
	id := FileID{Device: s.Dev, Inode: s.Ino}
	if x := w.files[id]; x == nil || x.witness != witness {
		w.files[id] = &watched{file: file, witness: witness}
	}
}

// Look returns when the witnesses have been told of everybody who had opened
// their files when it was called. It must not be called where a request to the
// mount waits for the caller.
func (fs *FS) Look() { fs.filter.watch.look() }

// forget ends what Watch began.
func (w *watch) forget(id FileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.files[id]
	if x == nil || w.fd < 0 {
		return
	}
	delete(w.files, id)
	delete(w.heard, id)
	if err := unix.FanotifyMark(w.fd, unix.FAN_MARK_REMOVE, watchMask, unix.AT_FDCWD, descriptorPath(int(x.file.Fd()))); err != nil {
		w.log.Warn("a disk is watched for longer than it is protected", "disk", x.file.Name(), "error", err)
	}
}

// look hears what the kernel has to tell and judges it.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read()
	for len(w.heard) > 0 {
		for id, h := range w.heard {
			if x := w.files[id]; x != nil {
				w.judge(id, x, h)
			}
			delete(w.heard, id)
		}
	}
}

// judge finds out who has a file open and tells the witness. mu is held.
func (w *watch) judge(id FileID, x *watched, h *heard) {
	writers := w.settle(id, h)
	switch {
	case len(writers) > 0:
		if by := holderNames(writers); by != x.held {
			x.held = by
			x.witness.OpenedBelow(by)
		}
	case h.wrote || x.held != "":
		by := x.held
		if by == "" {
			by = h.writer
		}
		x.held = ""
		x.witness.ClosedBelow(by)
	}
}

// settle finds who has the file open for writing. mu is held.
//
// Who opened it and is not seen to have it open is waited for. If that does not
// help, he has passed it on to somebody who is seen, or has closed it; or it is
// held where /proc does not show it: by the kernel, in a namespace beside ours,
// as a descriptor on its way from one process to another.
func (w *watch) settle(id FileID, h *heard) []Holder {
	began, pause := time.Now(), time.Millisecond
	for {
		writers, readers, err := holdersBelow(id)
		if err != nil {
			w.log.Error("who has a disk open below the mount is not known", "error", err)
			return []Holder{hiddenHolder}
		}
		waited := time.Since(began)
		switch {
		case len(writers) > 0 || h.explained(readers):
			return writers
		case waited > hiddenAfter && h.open && len(readers) == 0:
			return []Holder{hiddenHolder}
		case waited > hiddenAfter, waited > mergedAfter && !h.open:
			return nil
		}
		w.await(pause)
		pause = min(2*pause, hiddenAfter/10)
	}
}

// await waits for more from the kernel, but not for long, and reads it. mu is
// held.
func (w *watch) await(atMost time.Duration) {
	// What it says is found out by reading.
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(atMost.Milliseconds()))
	w.read()
}
