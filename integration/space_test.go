package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Discards, punched holes and zeroed ranges, by QEMU's own block layer and by
// fallocate, are shipped as runs of zeros: next to no bytes. A restored disk is
// as sparse as the source.
func TestSpace(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	const size = 32 << 20
	s.makeDisk(t, "a.img", size)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	fill(t, rng, s.disk("a.img"), size)
	s.protect(t, "a.img")
	s.cut(t, true)
	for _, c := range []struct {
		what   string
		zeroes int64 // bytes, at least
		do     func(path string)
	}{
		{"discard", 8 << 20, func(path string) {
			execute(t, "qemu-io", "-f", "raw", "-d", "unmap", "-c", "discard 4M 8M", path)
		}},
		{"write zeroes", 2 << 20, func(path string) {
			execute(t, "qemu-io", "-f", "raw", "-d", "unmap", "-c", "write -z -u 16M 2M", path)
		}},
		{"punch, not aligned", 4 << 20, punch(t, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 20<<20+123, 4<<20+5000)},
		{"zero range", 2 << 20, punch(t, unix.FALLOC_FL_ZERO_RANGE, 26<<20, 2<<20)},
		{"nothing, as it is zero already", 0, punch(t, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4<<20, 8<<20)},
	} {
		before := spaceBelow(t, s.below("a.img"))
		c.do(s.disk("a.img"))
		if freed := before - spaceBelow(t, s.below("a.img")); c.what != "zero range" && freed < c.zeroes-blockSize {
			t.Errorf("%s: it freed %d bytes only, of %d", c.what, freed, c.zeroes)
		}
		p := s.cut(t, true)
		stored := s.storedBytes(t, p.Epoch)
		t.Logf("%s: shipped as %d bytes", c.what, stored)
		if stored > 16<<10 { // the blocks at both ends have data still
			t.Errorf("%s: %d bytes were shipped", c.what, stored)
		}
		to, r := s.restore(t, p.Epoch)
		if r.code != 0 {
			t.Fatalf("%v", r)
		}
		sameSparse(t, s.disk("a.img"), filepath.Join(to, "a.img"))
	}
}

func punch(t *testing.T, mode uint32, offset, length int64) func(path string) {
	return func(path string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		must(t, unix.Fallocate(int(f.Fd()), mode, offset, length))
		must(t, f.Close())
	}
}

// storedBytes is what a point takes in the store.
func (s *site) storedBytes(t *testing.T, epoch uint64) int64 {
	t.Helper()
	for _, p := range s.points(t) {
		if p.Epoch == epoch {
			return p.StoredBytes
		}
	}
	t.Fatalf("there is no recovery point %d", epoch)
	return 0
}

// A terabyte punched out of a sparse disk of four takes as long, and as much of
// the log and of the store, as there was data in it; so do the allocation of
// another, and all that protection does with the disk.
func TestHugeSparseDisk(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	s.makeDisk(t, "huge.img", hugeSize)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	path := s.disk("huge.img")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close() //nolint:errcheck // closed below, too
	for tera := range int64(4) {
		for range 4 {
			_, err := f.WriteAt(randomBytes(rng, largestIO), tera<<40+rng.Int64N(1<<40-largestIO))
			must(t, err)
		}
	}
	begun := time.Now()
	s.protect(t, "huge.img")
	s.cut(t, true)
	t.Logf("protected in %v", time.Since(begun))

	log := spaceBelow(t, s.below(".lifeboat"))
	begun = time.Now()
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<40, 1<<40))
	took := time.Since(begun)
	p := s.cut(t, true)
	stored, grown := s.storedBytes(t, p.Epoch), spaceBelow(t, s.below(".lifeboat"))-log
	t.Logf("a terabyte punched in %v, shipped in %v as %d bytes; the log grew by %d", took, time.Since(begun)-took, stored, grown)
	if took > 5*time.Second || stored > 16<<10 || grown > 8<<20 {
		t.Error("that is too much")
	}
	must(t, f.Close())
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	sameSparse(t, s.below("huge.img"), filepath.Join(to, "huge.img"))
}

// After a power cut, the zones of a huge disk that were hot are read, and
// nothing else of it.
func TestHotZonesAlone(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	s.makeDisk(t, "huge.img", hugeSize)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	// Data all over the disk, in zones that will be cold: as it was there when
	// the protection began.
	const zone = 64 << 20
	hot := int64(rounds(1, 10)) << 30
	blocks := change{blocks: map[int64][]byte{}}
	for range 2000 {
		blocks.blocks[(hot+zone*8+rng.Int64N(hugeSize-hot-zone*8))/blockSize] = randomBytes(rng, blockSize)
	}
	blocks.write(t, s.below("huge.img"))
	s.protect(t, "huge.img")
	s.cut(t, true)
	blocks = change{blocks: map[int64][]byte{}}
	for at := int64(0); at < hot; at += zone {
		blocks.blocks[(at+rng.Int64N(zone))/blockSize] = randomBytes(rng, blockSize)
	}
	blocks.write(t, s.disk("huge.img"))

	s.sidecar.kill(t)
	s.filter.kill(t)
	s.unmountDead(t)
	s.otherBoot(t)
	begun := time.Now()
	s.mount(t)
	mounted := time.Since(begun)
	s.upload(t, "--frequency", "15m")
	p := s.cut(t, true)
	read := s.filter.readBytes(t)
	t.Logf("mounted in %v, first recovery point after %v; %d MiB were read, %d MiB were hot", mounted, time.Since(begun), read>>20, hot>>20)
	const ahead, rest = 5 * zone, 256 << 20 // zones heated ahead; logs, the program itself, the protocol
	if read > hot+ahead+rest {
		t.Errorf("%d bytes were read after the power cut, of %d in hot zones", read, hot)
	}
	examined := int64(s.examined(t))
	if examined < hot || examined > hot+ahead {
		t.Errorf("%d bytes were to be compared, of %d in hot zones", examined, hot)
	}
	s.noWalkRequired(t)
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	sameSparse(t, s.below("huge.img"), filepath.Join(to, "huge.img"))
}
