package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sector    = 512
	blockSize = 4096
	largestIO = 1 << 20
)

// operations changes a disk in all the ways in which a file can be changed.
// Each step is one operation, chosen by rng.
type operations struct {
	path, other string // other is a disk to copy from
	largest     int64  // size in bytes
	rng         *rand.Rand

	file, direct, appending, source *os.File
	buffer                          []byte // aligned, of largestIO bytes
	said                            map[string]int
}

// open opens the disk as guests and their tools do: buffered, with O_DIRECT, and
// for appending.
func (o *operations) open() error {
	if o.buffer == nil {
		raw := make([]byte, largestIO+blockSize)
		at := -uintptr(unsafe.Pointer(&raw[0])) & (blockSize - 1)
		o.buffer = raw[at : at+largestIO]
		o.said = map[string]int{}
	}
	for _, f := range []struct {
		file **os.File
		path string
		flag int
	}{
		{&o.file, o.path, os.O_RDWR},
		{&o.direct, o.path, os.O_RDWR | unix.O_DIRECT},
		{&o.appending, o.path, os.O_WRONLY | os.O_APPEND},
		{&o.source, o.other, os.O_RDONLY},
	} {
		file, err := os.OpenFile(f.path, f.flag, 0)
		if err != nil {
			o.close()
			return err
		}
		*f.file = file
	}
	return nil
}

// close lets go of the disk; the descriptors of a dead mount may say anything.
func (o *operations) close() {
	for _, f := range []**os.File{&o.file, &o.direct, &o.appending, &o.source} {
		if *f != nil {
			_ = (*f).Close()
			*f = nil
		}
	}
}

// step does one operation.
func (o *operations) step() error {
	info, err := o.file.Stat()
	if err != nil {
		return fmt.Errorf("stat of %s: %w", o.path, err)
	}
	size := info.Size()
	all := []struct {
		name   string
		weight int
		do     func(size int64) error
	}{
		{"write", 52, o.write},
		{"direct write", 15, o.writeDirect},
		{"mapped write", 6, o.writeMapped},
		{"punch", 6, o.fallocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)},
		{"zero range", 4, o.fallocate(unix.FALLOC_FL_ZERO_RANGE)},
		{"zero range, keeping the size", 3, o.fallocate(unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE)},
		{"allocate", 2, o.fallocate(0)},
		{"truncate", 5, o.truncate},
		{"append", 4, o.append},
		{"copy range", 3, o.copyRange},
	}
	sum := 0
	for _, a := range all {
		sum += a.weight
	}
	n := o.rng.IntN(sum)
	for _, a := range all {
		if n -= a.weight; n < 0 {
			if err := a.do(size); err != nil {
				return fmt.Errorf("%s of %s: %w", a.name, o.path, err)
			}
			o.said[a.name]++
			return nil
		}
	}
	return errors.New("no operation was chosen")
}

// length is from 512 B to 1 MiB, mostly small.
func (o *operations) length() int {
	exponent := 9 + o.rng.IntN(7)
	if o.rng.IntN(8) == 0 {
		exponent = 16 + o.rng.IntN(4)
	}
	return 1<<exponent + o.rng.IntN(1<<exponent+1)
}

// place chooses an extent below end: of blocks, of sectors, or of any bytes.
func (o *operations) place(end int64, align int64) (at int64, n int) {
	n = o.length()
	if int64(n) > end {
		n = int(end)
	}
	at = o.rng.Int64N(end - int64(n) + 1)
	at -= at % align
	if align > 1 {
		n = max(n-n%int(align), int(align))
	}
	return at, n
}

func (o *operations) alignment() int64 { return []int64{1, sector, blockSize}[o.rng.IntN(3)] }

// content fills the buffer: random mostly, sometimes zeros, sometimes what may
// well be there already.
func (o *operations) content(n int) []byte {
	p := o.buffer[:n]
	switch o.rng.IntN(10) {
	case 0:
		clear(p)
	case 1:
		for i := range p {
			p[i] = byte(i / 100)
		}
	default:
		var key [32]byte
		for i := range key {
			key[i] = byte(o.rng.Uint32())
		}
		_, _ = rand.NewChaCha8(key).Read(p) // it never fails
	}
	return p
}

func (o *operations) write(int64) error {
	at, n := o.place(o.largest, o.alignment())
	_, err := o.file.WriteAt(o.content(n), at)
	return err
}

func (o *operations) writeDirect(int64) error {
	at, n := o.place(o.largest, []int64{sector, blockSize}[o.rng.IntN(2)])
	_, err := o.direct.WriteAt(o.content(n), at)
	return err
}

// writeMapped changes what is mapped, and has it written before it returns.
func (o *operations) writeMapped(size int64) (err error) {
	if size == 0 {
		return nil
	}
	at, n := o.place(size, o.alignment())
	n = int(min(int64(n), size-at)) // the last sector may be short
	content := o.content(n)
	start := at - at%blockSize
	p, err := unix.Mmap(int(o.file.Fd()), start, n+int(at-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(p)) }()
	// A page of a dead mount faults.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("page fault: %v", fault)
		}
	}()
	copy(p[at-start:], content)
	return unix.Msync(p, unix.MS_SYNC)
}

func (o *operations) fallocate(mode uint32) func(int64) error {
	return func(int64) error {
		at, n := o.place(o.largest, o.alignment())
		return unix.Fallocate(int(o.file.Fd()), mode, at, int64(n))
	}
}

// truncate shrinks or grows the disk, sometimes to nothing.
func (o *operations) truncate(int64) error {
	to := o.largest/2 + o.rng.Int64N(o.largest/2+1)
	switch o.rng.IntN(10) {
	case 0:
		to = 0
	case 1, 2, 3:
		to -= to % blockSize
	}
	return o.file.Truncate(to)
}

func (o *operations) append(size int64) error {
	if size+largestIO > o.largest {
		if err := o.file.Truncate(size / 2); err != nil {
			return err
		}
	}
	_, err := o.appending.Write(o.content(min(o.length(), largestIO)))
	return err
}

// copyRange copies from the other disk, which may be shorter just then.
func (o *operations) copyRange(int64) error {
	to, n := o.place(o.largest, o.alignment())
	from := o.rng.Int64N(o.largest - int64(n) + 1)
	_, err := unix.CopyFileRange(int(o.source.Fd()), &from, int(o.file.Fd()), &to, n, 0)
	return err
}
