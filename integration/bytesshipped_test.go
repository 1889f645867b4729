package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is shipped for random writes of a block is what they changed, and little
// more, even after a filter was killed and the exact change log with it; the
// same content written again is not shipped at all.
func TestBytesShipped(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	const size, writes = 64 << 20, 500
	s.makeDisk(t, "a.img", size)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	fill(t, rng, s.disk("a.img"), size)
	s.protect(t, "a.img")
	shipped := func(what string, changed int) {
		t.Helper()
		p := s.cut(t, true)
		blocks := s.shippedBlocks(t, p.Epoch)
		stored := int64(-1)
		for _, q := range s.points(t) {
			if q.Epoch == p.Epoch {
				stored = q.StoredBytes
			}
		}
		t.Logf("%s: %d blocks changed, %d shipped, as %d bytes", what, changed, blocks, stored)
		// The content is random, so that compression does not make it smaller.
		most := int64(changed) * blockSize * 110 / 100
		if blocks < changed || int64(blocks)*blockSize > most || stored < int64(changed)*blockSize || stored > most {
			t.Errorf("%s: %d blocks changed, %d were shipped, as %d bytes", what, changed, blocks, stored)
		}
	}
	// The sidecar makes a point when it starts to serve a VM, too.
	s.cut(t, true)
	for round := range rounds(5, 50) {
		change := newChange(rng, size, writes)
		change.write(t, s.disk("a.img"))
		shipped(fmt.Sprintf("round %d", round), len(change.blocks))
		change.write(t, s.disk("a.img"))
		shipped("the same content again", 0)
	}
	change := newChange(rng, size, writes)
	change.write(t, s.disk("a.img"))
	s.sidecar.stop(t) // or it could ship that before the filter is killed
	before := len(s.points(t))
	s.filter.kill(t)
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	s.cut(t, true)
	blocks := 0
	for _, p := range s.points(t)[before:] { // the sidecar may have made some by itself
		blocks += s.shippedBlocks(t, p.Epoch)
	}
	t.Logf("after a killed filter: %d blocks changed, %d shipped", len(change.blocks), blocks)
	if blocks < len(change.blocks) || blocks*100 > len(change.blocks)*110 {
		t.Errorf("after a killed filter: %d blocks changed, %d were shipped", len(change.blocks), blocks)
	}
}

// shippedBlocks counts the blocks in a point's segments, by its manifest in the
// directory that is the store.
func (s *site) shippedBlocks(t *testing.T, epoch uint64) int {
	t.Helper()
	manifests, err := filepath.Glob(filepath.Join(strings.TrimPrefix(s.store, "file://"), "vms/*/points", manifestName(epoch)))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests of epoch %d: %v %v", epoch, manifests, err)
	}
	data, err := os.ReadFile(manifests[0])
	must(t, err)
	var manifest struct {
		Body struct {
			Disks []struct {
				Blocks int `json:"blocks"`
			} `json:"disks"`
		} `json:"body"`
	}
	must(t, json.Unmarshal(data, &manifest))
	n := 0
	for _, d := range manifest.Body.Disks {
		n += d.Blocks
	}
	return n
}

func manifestName(epoch uint64) string { return fmt.Sprintf("%016x.json", epoch) }

// change is a set of blocks with new content.
type change struct {
	blocks map[int64][]byte
}

func newChange(rng *rand.Rand, size int64, writes int) change {
	c := change{blocks: map[int64][]byte{}}
	for range writes {
		c.blocks[rng.Int64N(size/blockSize)] = randomBytes(rng, blockSize)
	}
	return c
}

func (c change) write(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	for block, content := range c.blocks {
		if _, err := f.WriteAt(content, block*blockSize); err != nil {
			t.Fatal(err)
		}
	}
	must(t, f.Close())
}

// fill writes random bytes all over a disk.
func fill(t *testing.T, rng *rand.Rand, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	for at := int64(0); at < size; at += largestIO {
		if _, err := f.WriteAt(randomBytes(rng, largestIO), at); err != nil {
			t.Fatal(err)
		}
	}
	must(t, f.Close())
}

func randomBytes(rng *rand.Rand, n int) []byte {
	var key [32]byte
	for i := range key {
		key[i] = byte(rng.Uint32())
	}
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p) // it never fails
	return p
}
