package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Background requests (read-ahead, asynchronous direct I/O) that the kernel may
// have under way at once: enough for the queues of many disks.
const maxBackground = 64

// connection answers the requests of one mount.
type connection struct {
	device   int // /dev/fuse
	filter   *filter
	protocol *fuse.ProtocolServer
	slow     sync.WaitGroup // requests that are answered by goroutines of their own
	aside    atomic.Int64   // how many of them there are now
	rest     rest
}

func newConnection(device int, f *filter) *connection {
	return &connection{device: device, filter: f, protocol: fuse.NewProtocolServer(f, protocolOptions(f))}
}

// protocolOptions choose what is asked of the kernel. What go-fuse asks for by
// itself (asynchronous reads, big writes, parallel look-ups, passthrough) stays.
//
// Not asked for: the writeback cache, since a recovery point must hold every
// write that was acknowledged before it; O_TRUNC as part of OPEN, so that it
// comes as a change of size; export over NFS, since ids mean nothing to the
// next mount.
func protocolOptions(f *filter) *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:          "lifeboat",
		MaxWrite:      maxTransfer,
		MaxBackground: maxBackground,
		// Only the mount changes files, so a new mtime alone must not throw the
		// kernel's cache away: our own writes make one each time.
		ExplicitDataCacheControl: true,
		ExtraCapabilities: fuse.CAP_ASYNC_DIO |
			fuse.CAP_READDIRPLUS_AUTO |
			fuse.CAP_HANDLE_KILLPRIV_V2 | // or every WRITE brings a GETXATTR
			fuse.CAP_HAS_RESEND,
		// The kernel takes ENOSYS for OPEN as "never ask again"; no file here
		// can do without.
		DisabledCapabilities: fuse.CAP_NO_OPEN_SUPPORT,
		Logger:               slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		// A panic has left locks behind it: only a new process can go on.
		PanicHandler: func(cause any) fuse.Status { panic(cause) },
	}
}

// handshake answers the kernel's first request.
func (c *connection) handshake() error {
	b, err := newBuffers(c.filter.log)
	if err != nil {
		return err
	}
	defer b.free()
	k, err := c.receive(b.request)
	if err != nil {
		return fmt.Errorf("read the kernel's INIT: %w", err)
	}
	request := b.request[:k]
	if k < inHeaderSize || headerOf(request).Opcode != opInit {
		return errors.New("the kernel's first request is not INIT")
	}
	size, err := c.negotiate(request, b.reply)
	if err != nil {
		return err
	}
	if _, err := unix.Write(c.device, b.reply[:size]); err != nil {
		return fmt.Errorf("answer the kernel's INIT: %w", err)
	}
	return nil
}

// negotiate makes the answer to an INIT and takes note of what it grants. The
// same request gives the same answer in every process of this build.
func (c *connection) negotiate(request, reply []byte) (int, error) {
	size, st := c.protocol.HandleRequest([][]byte{request}, [][]byte{reply})
	if !st.Ok() {
		return 0, fmt.Errorf("negotiate with the kernel: %w", unix.Errno(st))
	}
	if size < outHeaderSize+int(unsafe.Sizeof(fuse.InitOut{})) {
		return 0, errors.New("negotiate with the kernel: its FUSE protocol is too old: Linux 5.10 or later is needed")
	}
	granted := (*fuse.InitOut)(unsafe.Pointer(&reply[outHeaderSize])).Flags64()
	f := c.filter
	f.passthrough.Store(granted&fuse.CAP_PASSTHROUGH != 0 && f.asRoot && !f.options.NoPassthrough)
	f.log.Debug("negotiated with the kernel",
		"flags", fmt.Sprintf("%#x", granted), "passthrough", f.passthrough.Load())
	return size, nil
}

// receive reads a request from the kernel. It returns ENODEV when the mount has
// ended.
func (c *connection) receive(p []byte) (int, error) {
	for {
		k, err := unix.Read(c.device, p)
		switch err {
		case nil:
			return k, nil
		case unix.EINTR, unix.EAGAIN, unix.ENOENT: // a signal; a request that was taken back meanwhile
		default:
			return 0, err
		}
	}
}

// serve answers requests until the mount ends, as one of several readers.
func (c *connection) serve(r *reader, b *buffers) error {
	r.begin()
	for {
		r.idle()
		k, err := c.receive(b.request)
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fusefs: read from /dev/fuse: %w", err)
		}
		r.work()
		c.admit(r, b.request[:k])
		c.spied(false, b.request[:k])
		size := c.answer(b.request[:k], b.reply)
		c.spied(true, b.request[:k])
		if size > 0 {
			c.send(b.reply[:size])
			c.answered(b.request[:k])
		}
	}
}

func (c *connection) spied(executed bool, request []byte) {
	if spy := c.filter.spy; spy != nil && len(request) >= inHeaderSize {
		spy(executed, headerOf(request))
	}
}

// answered lets go of what was noted of a request that must not be executed
// twice.
func (c *connection) answered(request []byte) {
	if c.filter.journal == nil || len(request) < inHeaderSize {
		return
	}
	switch header := headerOf(request); header.Opcode {
	case opRead, opWrite: // nothing is
	default:
		c.filter.journal.Answered(header.Unique)
	}
}

func (c *connection) send(reply []byte) {
	_, err := unix.Write(c.device, reply)
	if err != nil && err != unix.ENOENT && err != unix.ENODEV {
		// ENOENT: whoever asked is gone.
		c.filter.log.Error("the kernel refuses an answer", "error", err)
	}
}

// answer puts the answer to a request into reply and returns its size, 0 for
// none.
func (c *connection) answer(request, reply []byte) int {
	if len(request) < inHeaderSize {
		return 0
	}
	header := headerOf(request)
	c.filter.counters.operations[min(header.Opcode, maxOpcode-1)].Add(1)
	switch header.Opcode {
	case opRead:
		return c.read(request, reply)
	case opWrite:
		return c.write(request, reply)
	case opInterrupt:
		// Nothing here can be interrupted, as nothing on a local disk can; told
		// once, the kernel does not try again.
		return putReply(reply, header.Unique, fuse.ENOSYS, 0)
	case opFsync, opFsyncDir, opFallocate, opCopyFileRange:
		c.handleAside(request)
		return 0
	default:
		return c.handle(request, reply)
	}
}

// handle lets go-fuse take a request apart and call the filter.
func (c *connection) handle(request, reply []byte) int {
	size, st := c.protocol.HandleRequest([][]byte{request}, [][]byte{reply})
	if !st.Ok() {
		return putReply(reply, headerOf(request).Unique, st, 0)
	}
	return size
}

// handleAside answers a request that may wait long for the disk, so that it
// holds up no reader. Such requests and their answers are small.
func (c *connection) handleAside(request []byte) {
	request = append([]byte(nil), request...)
	c.aside.Add(1)
	c.slow.Go(func() {
		defer c.aside.Add(-1)
		var reply [16]uint64 // aligned as the protocol's structures want it
		p := unsafe.Slice((*byte)(unsafe.Pointer(&reply)), unsafe.Sizeof(reply))
		if size := c.handle(request, p); size > 0 {
			c.send(p[:size])
		}
	})
}

// read answers READ without an allocation: the file's data goes where the
// kernel takes it from.
func (c *connection) read(request, reply []byte) int {
	unique := headerOf(request).Unique
	data := reply[outHeaderSize:]
	in, ok := readOf(request, len(data))
	if !ok {
		return putReply(reply, unique, fuse.EINVAL, 0)
	}
	k, err := c.filter.read(in, data[:in.Size])
	return putReply(reply, unique, status(err), k)
}

// write answers WRITE without an allocation: the data goes to the file from
// where the kernel put it.
func (c *connection) write(request, reply []byte) int {
	unique := headerOf(request).Unique
	in, data, ok := writeOf(request)
	if !ok {
		return putReply(reply, unique, fuse.EINVAL, 0)
	}
	k, err := c.filter.write(in, data)
	putWritten(reply, k)
	return putReply(reply, unique, status(err), writeOutSize)
}
