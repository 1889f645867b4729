package fusefs

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// read answers READ into p, as far as the file goes.
func (f *filter) read(in *fuse.ReadIn, p []byte) (int, error) {
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return 0, err
	}
	fd, err := f.reader(n)
	if err != nil {
		n.gate.RUnlock()
		return 0, err
	}
	var k int
	if d := f.direct(n, in.Flags); d >= 0 {
		k, err = pread(d, p, int64(in.Offset))
		if refusesDirect(err) {
			k, err = pread(fd, p, int64(in.Offset))
		}
	} else {
		k, err = pread(fd, p, int64(in.Offset))
	}
	n.gate.RUnlock()
	if err != nil {
		return 0, err
	}
	f.counters.bytesRead.Add(uint64(k))
	return k, nil
}

// write answers WRITE with how much of p was written. What the guest wants to
// be durable is so when write returns; everything else waits for Fsync.
func (f *filter) write(in *fuse.WriteIn, p []byte) (int, error) {
	k, err := f.writeOnce(in, p)
	if err == nil && k < len(p) || err == unix.ENOSPC { //nolint:errorlint // system calls return it bare
		rest := *in
		rest.Offset += uint64(k)
		f.options.MakeRoom()
		if more, err := f.writeOnce(&rest, p[k:]); k == 0 || err == nil {
			return k + more, err
		}
	}
	return k, err
}

func (f *filter) writeOnce(in *fuse.WriteIn, p []byte) (int, error) {
	n, err := f.acquire(in.NodeId)
	if err != nil {
		return 0, err
	}
	fd, err := f.writer(n)
	if err != nil {
		n.gate.RUnlock()
		return 0, err
	}
	offset := int64(in.Offset)
	var k int
	if d := n.disk; d != nil {
		change := d.BeginChange(offset, int64(len(p)))
		k, err = f.writeTo(n, fd, p, offset, in.Flags)
		d.EndChange(change)
	} else {
		k, err = f.writeTo(n, fd, p, offset, in.Flags)
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 && err == nil {
		n.clearSetid(fd)
	}
	n.gate.RUnlock()
	if err != nil {
		return 0, err
	}
	f.counters.bytesWritten.Add(uint64(k))
	return k, nil
}

// writeTo writes p to the node's file, of which fd is a descriptor.
func (f *filter) writeTo(n *node, fd int, p []byte, offset int64, flags uint32) (int, error) {
	if d := f.direct(n, flags); d >= 0 {
		k, err := pwrite(d, p, offset, flags)
		if !refusesDirect(err) {
			return k, err
		}
	}
	return f.writeCached(fd, p, offset, flags)
}

func pread(fd int, p []byte, offset int64) (int, error) {
	for {
		k, err := unix.Pread(fd, p, offset)
		if err != unix.EINTR {
			return k, err
		}
	}
}

// pwrite writes p, durably if flags are those of a file that was opened so.
// The kernel itself follows such writes by a flush, but not those of
// asynchronous direct I/O.
func pwrite(fd int, p []byte, offset int64, flags uint32) (int, error) {
	for {
		var k int
		var err error
		switch {
		case flags&unix.O_SYNC == unix.O_SYNC:
			k, err = pwrite2(fd, p, offset, unix.RWF_SYNC)
		case flags&unix.O_DSYNC != 0:
			k, err = pwrite2(fd, p, offset, unix.RWF_DSYNC)
		default:
			k, err = unix.Pwrite(fd, p, offset)
		}
		if err != unix.EINTR { //nolint:errorlint // system calls return it bare
			return k, err
		}
	}
}

func pwrite2(fd int, p []byte, offset int64, flags int) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	v := unix.Iovec{Base: unsafe.SliceData(p)}
	v.SetLen(len(p))
	// The kernel takes the offset in two words; on 64 bits the first has it all.
	k, _, errno := unix.Syscall6(unix.SYS_PWRITEV2, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, uintptr(offset), 0, uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(k), nil
}
