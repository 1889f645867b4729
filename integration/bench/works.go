package main

import "slices"

// work is one kind of I/O, as arguments of fio.
type work struct {
	name string
	args []string
}

// shape is an access pattern, engine how it is submitted.
type shape struct {
	name string
	args []string
}

var (
	shapes = []shape{
		{"write 1 MiB sequential", []string{"--rw=write", "--bs=1M"}},
		{"read 1 MiB sequential", []string{"--rw=read", "--bs=1M"}},
		{"write 4 KiB random", []string{"--rw=randwrite", "--bs=4k"}},
		{"read 4 KiB random", []string{"--rw=randread", "--bs=4k"}},
	}
	depthOne = []string{"--ioengine=psync"}
	// Native AIO is what QEMU uses with aio=native.
	depth16x2 = []string{"--ioengine=libaio", "--iodepth=16", "--numjobs=2"}
	uring16x2 = []string{"--ioengine=io_uring", "--iodepth=16", "--numjobs=2"}
	mixed     = []string{"--rw=randrw", "--rwmixread=70", "--bs=4k"}
)

// works are what a hypervisor does to a disk: buffered is its cache=writeback,
// direct its cache=none.
func works() []work {
	var all []work
	for _, direct := range []bool{false, true} {
		add := func(name string, args ...[]string) {
			how, flag := "buffered", "--direct=0"
			if direct {
				how, flag = "direct", "--direct=1"
			}
			all = append(all, work{name + ", " + how, append(slices.Concat(args...), flag)})
		}
		for _, s := range shapes {
			add(s.name+", depth 1", s.args, depthOne)
			add(s.name+", depth 16 × 2", s.args, depth16x2)
		}
		add("70/30 4 KiB random, depth 16 × 2", mixed, depth16x2)
		if direct {
			add("write 4 KiB random, io_uring 16 × 2", shapes[2].args, uring16x2)
		}
		add("write 4 KiB random, fsync every 32", shapes[2].args, depthOne, []string{"--fsync=32"})
	}
	return all
}

func (w work) is(flag string) bool { return slices.Contains(w.args, flag) }

func (w work) direct() bool { return w.is("--direct=1") }

// writes tells whether anything is written: reads do not know the tracker.
func (w work) writes() bool { return !w.is("--rw=read") && !w.is("--rw=randread") }

// cached tells whether the page cache has all that is read, and nothing is
// written.
func (w work) cached() bool {
	return !w.direct() && !w.writes()
}

// Works that touch each block at most once, for what happens at a first touch
// alone.
var (
	onceRandom = []work{
		{"write 4 KiB random, depth 1, buffered", slices.Concat(shapes[2].args, depthOne, []string{"--direct=0"})},
		// Two jobs, each with a half of the disk of its own.
		{"write 4 KiB random, depth 16 × 2, direct", slices.Concat(shapes[2].args, depth16x2, []string{"--direct=1", "--size=50%", "--offset_increment=50%"})},
	}
	onceSequential = []work{
		{"write 1 MiB sequential, depth 1, buffered", slices.Concat(shapes[0].args, depthOne, []string{"--direct=0"})},
		{"write 1 MiB sequential, depth 1, direct", slices.Concat(shapes[0].args, depthOne, []string{"--direct=1"})},
	}
)
