package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	blockSize  = 4096
	sectorSize = 512
	blockCount = 2048
	// kept is how many files there are at most: a new one has an old one deleted.
	kept = 64
)

// work changes files below dir in two ways: new ones are written, made durable
// and given their name while old ones are deleted, and blocks of one file are
// overwritten in place.
func work(dir string) error {
	blocks, err := os.OpenFile(blocksOf(dir), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	generations := make([]uint32, blockCount)
	for b := range generations {
		if _, err := blocks.WriteAt(block(uint32(b), 0), int64(b)*blockSize); err != nil {
			return err
		}
	}
	if err := errors.Join(blocks.Sync(), syncDir(dir), say("ready")); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for number := 0; ; {
		if rng.IntN(3) == 0 {
			if err := create(dir, number); err != nil {
				return err
			}
			number++
			continue
		}
		changed := rng.Perm(blockCount)[:1+rng.IntN(8)]
		for _, b := range changed {
			generations[b]++
			if _, err := blocks.WriteAt(block(uint32(b), generations[b]), int64(b)*blockSize); err != nil {
				return err
			}
		}
		if err := blocks.Sync(); err != nil {
			return err
		}
		for _, b := range changed {
			if _, err := fmt.Println("block", b, generations[b]); err != nil {
				return err
			}
		}
	}
}

// create makes a file durable before it has its name, and deletes the one that
// is too old.
func create(dir string, number int) error {
	name := fileOf(dir, number)
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(content(number))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(name+".new", name), syncDir(dir), say("created %d", number)); err != nil {
		return err
	}
	if number < kept {
		return nil
	}
	// Said first: a disk that lacks the file must not be blamed for it.
	if err := say("deleting %d", number-kept); err != nil {
		return err
	}
	return errors.Join(os.Remove(fileOf(dir, number-kept)), syncDir(dir), say("deleted %d", number-kept))
}

func blocksOf(dir string) string           { return filepath.Join(dir, "blocks") }
func fileOf(dir string, number int) string { return filepath.Join(dir, fmt.Sprintf("file-%d", number)) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// content is what a file holds, up to 256 KiB, mostly much less.
func content(number int) []byte {
	rng := rand.New(rand.NewPCG(2, uint64(number)))
	p := make([]byte, 1+rng.IntN(1<<(8+rng.IntN(11))))
	noise(p, 3, uint64(number))
	return p
}

// block is what a block holds: each sector tells its block and generation, since
// a crash may leave sectors of two generations.
func block(number, generation uint32) []byte {
	p := make([]byte, 0, blockSize)
	for range blockSize / sectorSize {
		p = append(p, sectorOf(number, generation)...)
	}
	return p
}

func sectorOf(number, generation uint32) []byte {
	p := make([]byte, sectorSize)
	noise(p, uint64(number), uint64(generation))
	binary.LittleEndian.PutUint32(p, number)
	binary.LittleEndian.PutUint32(p[4:], generation)
	return p
}

func noise(p []byte, a, b uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], a)
	binary.LittleEndian.PutUint64(key[8:], b)
	_, _ = rand.NewChaCha8(key).Read(p) // it never fails
}
