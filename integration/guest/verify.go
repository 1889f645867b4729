package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// said is what a log promises.
type said struct {
	created, deleting, deleted map[int]bool
	generations                [blockCount]uint32
	promises                   int
}

// parse reads the whole lines of a log; the last one may be torn, and the
// kernel's own lines tell nothing.
func parse(path string) (*said, error) {
	log, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &said{created: map[int]bool{}, deleting: map[int]bool{}, deleted: map[int]bool{}}
	for line := range strings.Lines(string(log)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var word string
		var n int
		var generation uint32
		if found, _ := fmt.Sscan(line, &word, &n, &generation); found < 2 {
			continue
		}
		switch word {
		case "created":
			s.created[n] = true
		case "deleting":
			s.deleting[n] = true
		case "deleted":
			s.deleted[n] = true
		case "block":
			s.generations[n] = max(s.generations[n], generation)
		default:
			continue
		}
		s.promises++
	}
	return s, nil
}

// verify fails unless the disk has everything that was said to be durable before
// its moment; a file that was about to be deleted until after it may be gone.
// Whatever the disk has besides must be whole, too.
func verify(dir, beforeLog, afterLog string) error {
	before, err := parse(beforeLog)
	if err != nil {
		return err
	}
	after, err := parse(afterLog)
	if err != nil {
		return err
	}
	var wrong []error
	files := 0
	for number := range len(after.created) + kept {
		is, err := os.ReadFile(fileOf(dir, number))
		switch {
		case err == nil && !bytes.Equal(is, content(number)):
			wrong = append(wrong, fmt.Errorf("file %d is not what was written", number))
		case err == nil && before.deleted[number]:
			wrong = append(wrong, fmt.Errorf("file %d is there, and was deleted", number))
		case err == nil:
			files++
		case !errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, err)
		case before.created[number] && !after.deleting[number]:
			wrong = append(wrong, fmt.Errorf("file %d is missing", number))
		}
	}
	wrong = append(wrong, verifyBlocks(dir, before.generations[:])...)
	fmt.Printf("%d promises kept, %d files are there\n", before.promises, files)
	return errors.Join(wrong...)
}

func verifyBlocks(dir string, promised []uint32) (wrong []error) {
	is, err := os.ReadFile(blocksOf(dir))
	if err != nil {
		return []error{err}
	}
	if len(is) != blockCount*blockSize {
		return []error{fmt.Errorf("the blocks take %d bytes", len(is))}
	}
	for at := 0; at < len(is); at += sectorSize {
		sector, b := is[at:at+sectorSize], uint32(at/blockSize)
		generation := binary.LittleEndian.Uint32(sector[4:])
		switch {
		case !bytes.Equal(sector, sectorOf(b, generation)):
			wrong = append(wrong, fmt.Errorf("block %d was never written like this", b))
		case generation < promised[b]:
			wrong = append(wrong, fmt.Errorf("block %d is of generation %d, and %d was durable", b, generation, promised[b]))
		}
	}
	return wrong
}
