package fusefs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	fsxSize  = 512 << 10 // the file never becomes longer
	fsxBlock = 4096
)

// fsx does random operations to a file, in a process of its own since some go
// through mappings, and knows what the file has to hold.
type fsx struct {
	random *rand.Rand
	path   string
	fd     int
	direct int // the same file with O_DIRECT
	source int // another file, to copy from
	buffer []byte
	model  []byte // what the file holds
	from   []byte // what the source holds
	log    []string
}

// fsxWork is what the helper is told first.
type fsxWork struct {
	Path, Source string
	Seed         uint64
}

// fsxOrder asks for operations. If Store is not empty, the file is then made
// durable, and what it has to hold is stored there.
type fsxOrder struct {
	Operations int
	Store      string
}

func helpFSX(arguments json.RawMessage) error {
	var w fsxWork
	if err := json.Unmarshal(arguments, &w); err != nil {
		return err
	}
	x := &fsx{random: rand.New(rand.NewPCG(w.Seed, 1)), path: w.Path}
	var err error
	if x.model, err = os.ReadFile(w.Path); err != nil {
		return err
	}
	if x.from, err = os.ReadFile(w.Source); err != nil {
		return err
	}
	if x.source, err = unix.Open(w.Source, unix.O_RDONLY, 0); err != nil {
		return err
	}
	// A mapping is aligned as O_DIRECT wants it.
	if x.buffer, err = unix.Mmap(-1, 0, fsxSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return err
	}
	if err := x.open(); err != nil {
		return err
	}
	fmt.Println(ready)
	for orders := json.NewDecoder(os.Stdin); ; {
		var order fsxOrder
		if err := orders.Decode(&order); errors.Is(err, io.EOF) {
			return errors.Join(unix.Close(x.fd), unix.Close(x.direct), unix.Close(x.source))
		} else if err != nil {
			return err
		}
		if err := x.obey(order); err != nil {
			return fmt.Errorf("seed %d: %w\nthe last operations:\n%s", w.Seed, err, strings.Join(x.log, "\n"))
		}
		fmt.Println(ready)
	}
}

func (x *fsx) open() (err error) {
	if x.fd, err = unix.Open(x.path, unix.O_RDWR, 0); err != nil {
		return err
	}
	x.direct, err = unix.Open(x.path, unix.O_RDWR|unix.O_DIRECT, 0)
	return err
}

func (x *fsx) obey(order fsxOrder) error {
	for range order.Operations {
		if err := x.step(); err != nil {
			return err
		}
	}
	if order.Store == "" {
		return nil
	}
	if err := x.read(0, len(x.model), x.fd); err != nil {
		return err
	}
	return errors.Join(unix.Fsync(x.fd), os.WriteFile(order.Store, x.model, 0o600))
}

// step does one operation and looks at the size that it leaves.
func (x *fsx) step() error {
	offset, length := x.random.IntN(fsxSize), 1+x.random.IntN(1<<x.random.IntN(17))
	if x.random.IntN(3) == 0 {
		offset &^= fsxBlock - 1
	}
	length = min(length, fsxSize-offset)
	operations := []struct {
		name string
		do   func(offset, length int) error
	}{
		{"write", x.write},
		{"write", x.write},
		{"append", func(_, length int) error {
			return x.write(len(x.model), min(length, fsxSize-len(x.model)))
		}},
		{"write directly", x.writeDirect},
		{"write through a mapping", x.writeMapped},
		{"read", func(offset, length int) error { return x.read(offset, length, x.fd) }},
		{"read directly", func(offset, length int) error {
			return x.read(offset&^(fsxBlock-1), (length+fsxBlock-1)&^(fsxBlock-1), x.direct)
		}},
		{"read through a mapping", x.readMapped},
		{"truncate", func(offset, _ int) error { return x.resize(offset, unix.Ftruncate(x.fd, int64(offset))) }},
		{"truncate by path", func(offset, _ int) error { return x.resize(offset, unix.Truncate(x.path, int64(offset))) }},
		{"grow", func(offset, length int) error {
			size := max(len(x.model), min(offset+length, fsxSize))
			return x.resize(size, unix.Ftruncate(x.fd, int64(size)))
		}},
		{"allocate", x.fallocate(0)},
		{"allocate and keep", x.fallocate(unix.FALLOC_FL_KEEP_SIZE)},
		{"punch", x.fallocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)},
		{"zero", x.fallocate(unix.FALLOC_FL_ZERO_RANGE)},
		{"zero and keep", x.fallocate(unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE)},
		{"collapse", x.fallocate(unix.FALLOC_FL_COLLAPSE_RANGE)},
		{"insert", x.fallocate(unix.FALLOC_FL_INSERT_RANGE)},
		{"copy inside", x.copyInside},
		{"copy from another", x.copyFrom},
		{"look for holes", func(int, int) error { return x.holes() }},
		{"sync", func(offset, _ int) error {
			if offset%2 == 0 {
				return unix.Fdatasync(x.fd)
			}
			return unix.Fsync(x.fd)
		}},
		{"drop the cache", func(offset, length int) error {
			return unix.Fadvise(x.fd, int64(offset), int64(length), unix.FADV_DONTNEED)
		}},
		{"open anew", func(int, int) error { return errors.Join(unix.Close(x.fd), unix.Close(x.direct), x.open()) }},
	}
	o := operations[x.random.IntN(len(operations))]
	x.log = append(x.log, fmt.Sprintf("%s: %d bytes at %d, of %d", o.name, length, offset, len(x.model)))
	x.log = x.log[max(0, len(x.log)-30):]
	if err := o.do(offset, length); err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil || st.Size != int64(len(x.model)) {
		return fmt.Errorf("%s leaves %d bytes instead of %d, %w", o.name, st.Size, len(x.model), err)
	}
	return nil
}

// put is a change of the model; what lies between its old end and the change is
// zero.
func (x *fsx) put(offset int, p []byte) {
	x.grow(offset + len(p))
	copy(x.model[offset:], p)
}

func (x *fsx) grow(size int) {
	if size > len(x.model) {
		x.model = append(x.model, make([]byte, size-len(x.model))...)
	}
}

func (x *fsx) resize(size int, err error) error {
	x.grow(size)
	x.model = x.model[:size:size]
	return err
}

func (x *fsx) write(offset, length int) error {
	p := pattern(x.random, length)
	n, err := unix.Pwrite(x.fd, p, int64(offset))
	if err == nil && n < length {
		return fmt.Errorf("%d bytes of %d written", n, length)
	}
	if length > 0 {
		x.put(offset, p)
	}
	return err
}

func (x *fsx) writeDirect(offset, length int) error {
	offset &^= fsxBlock - 1
	length = min((length+fsxBlock-1)&^(fsxBlock-1), fsxSize-offset)
	p := x.buffer[:length]
	copy(p, pattern(x.random, length))
	n, err := unix.Pwrite(x.direct, p, int64(offset))
	if err == nil && n < length {
		return fmt.Errorf("%d bytes of %d written", n, length)
	}
	x.put(offset, p)
	return err
}

// read reads as far as the file goes.
func (x *fsx) read(offset, length, fd int) error {
	want := x.model[min(offset, len(x.model)):min(offset+length, len(x.model))]
	p := x.buffer[:min(length, len(x.buffer))]
	n, err := unix.Pread(fd, p, int64(offset))
	if err != nil {
		return err
	}
	return x.same(p[:n], want, offset)
}

func (x *fsx) same(got, want []byte, offset int) error {
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%d bytes instead of %d, the first difference at %d", len(got), len(want), offset+at)
}

// mapped maps the file from its start to the end of a range.
func (x *fsx) mapped(end int, do func(p []byte)) error {
	p, err := unix.Mmap(x.fd, 0, end, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	do(p)
	if x.random.IntN(2) == 0 {
		err = unix.Msync(p, unix.MS_SYNC)
	}
	return errors.Join(err, unix.Munmap(p))
}

func (x *fsx) readMapped(offset, length int) error {
	end := min(offset+length, len(x.model))
	if offset >= end {
		return nil
	}
	var difference error
	err := x.mapped(end, func(p []byte) { difference = x.same(p[offset:], x.model[offset:end], offset) })
	return errors.Join(err, difference)
}

func (x *fsx) writeMapped(offset, length int) error {
	end := offset + length
	if end > len(x.model) {
		if err := x.resize(end, unix.Ftruncate(x.fd, int64(end))); err != nil {
			return err
		}
	}
	data := pattern(x.random, length)
	x.put(offset, data)
	return x.mapped(end, func(p []byte) { copy(p[offset:], data) })
}

// fallocate does to the model what the mode means. What is refused, as moving
// ranges is by FUSE, changes nothing.
func (x *fsx) fallocate(mode uint32) func(offset, length int) error {
	return func(offset, length int) error {
		moves := mode&movesData != 0
		if moves {
			offset, length = offset&^(fsxBlock-1), max(fsxBlock, length&^(fsxBlock-1))
			if grown := len(x.model) + length; offset+length >= len(x.model) || mode == unix.FALLOC_FL_INSERT_RANGE && grown > fsxSize {
				return nil
			}
		}
		err := unix.Fallocate(x.fd, mode, int64(offset), int64(length))
		if moves && errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if mode&unix.FALLOC_FL_KEEP_SIZE == 0 && !moves {
			x.grow(offset + length)
		}
		end := min(offset+length, len(x.model))
		switch {
		case mode == unix.FALLOC_FL_COLLAPSE_RANGE:
			x.model = append(x.model[:offset], x.model[offset+length:]...)
		case mode == unix.FALLOC_FL_INSERT_RANGE:
			rest := bytes.Clone(x.model[offset:])
			x.model = append(append(x.model[:offset], make([]byte, length)...), rest...)
		case mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 && offset < end:
			clear(x.model[offset:end])
		}
		return err
	}
}

func (x *fsx) copyInside(offset, length int) error {
	from := x.random.IntN(len(x.model) + 1)
	length = min(length, len(x.model)-from)
	if from < offset {
		length = min(length, offset-from)
	} else {
		length = min(length, from-offset) // they must not overlap
	}
	return x.copyRange(x.fd, x.model, from, offset, length)
}

func (x *fsx) copyFrom(offset, length int) error {
	from := x.random.IntN(len(x.from))
	return x.copyRange(x.source, x.from, from, offset, min(length, len(x.from)-from))
}

func (x *fsx) copyRange(fd int, source []byte, from, to, length int) error {
	for length > 0 {
		a, b := int64(from), int64(to)
		n, err := unix.CopyFileRange(fd, &a, x.fd, &b, length, 0)
		if err != nil || n == 0 {
			return fmt.Errorf("%d bytes left from %d to %d: %w", length, from, to, err)
		}
		x.put(to, bytes.Clone(source[from:from+n]))
		from, to, length = from+n, to+n, length-n
	}
	return nil
}

// holes checks that what is said to be a hole holds nothing.
func (x *fsx) holes() error {
	for at := 0; at < len(x.model); {
		data, err := unix.Seek(x.fd, int64(at), unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data, err = int64(len(x.model)), nil
		}
		if err != nil {
			return err
		}
		if hole := x.model[at:data]; !bytes.Equal(hole, make([]byte, len(hole))) {
			return fmt.Errorf("data in the hole from %d to %d", at, data)
		}
		if data == int64(len(x.model)) {
			return nil
		}
		next, err := unix.Seek(x.fd, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		at = int(next)
	}
	return nil
}
