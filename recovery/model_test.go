package recovery

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/resync"
)

// Every recovery point restores, and reads, as exactly what the disks were.
func TestEveryPointIsTheDiskOfItsInstant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		folder := memoryFolder(t)
		size := rapid.Int64Range(0, 40*disk.BlockSize)
		s := newSource(t, folder, size.Draw(t, "size"), size.Draw(t, "size"))
		defer s.close()
		if rapid.Bool().Draw(t, "filled") {
			for _, d := range s.disks {
				copy(d.content, bytes.Repeat([]byte("before protection "), 1<<14))
			}
		}
		for range rapid.IntRange(1, 6).Draw(t, "epochs") {
			for range rapid.IntRange(0, 6).Draw(t, "changes") {
				changeOnce(t, s)
			}
			s.cut()
		}
		for epoch, contents := range s.points {
			checkPoint(t, s, epoch, contents, folder)
		}
		checkRebuild(t, s)
	})
}

// changeOnce does one thing that a guest, an administrator or a walk can do.
func changeOnce(t *rapid.T, s *source) {
	d := s.disks[rapid.IntRange(0, len(s.disks)-1).Draw(t, "disk")]
	offset := rapid.Int64Range(0, 40*disk.BlockSize).Draw(t, "offset")
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0, 1, 2:
		data := make([]byte, rapid.IntRange(1, 5*disk.BlockSize).Draw(t, "length"))
		for i := range data {
			data[i] = byte(i>>8) ^ byte(i)*3 ^ byte(offset) ^ byte(s.epoch)
		}
		d.write(offset, data)
	case 3: // the same bytes again, or zeros
		if offset < int64(len(d.content)) {
			d.write(offset, bytes.Clone(d.content[offset:min(int64(len(d.content)), offset+9000)]))
		}
	case 4:
		if offset < int64(len(d.content)) {
			d.write(offset, make([]byte, min(int64(len(d.content))-offset, 20000)))
		}
	case 5, 6:
		d.resize(offset, s.walk != 0)
		if rapid.Bool().Draw(t, "grow again") {
			d.resize(rapid.Int64Range(offset, 40*disk.BlockSize).Draw(t, "size"), s.walk != 0)
		}
	case 7:
		if s.walk == 0 {
			// What made the walk necessary: a change that no log knows.
			if offset < int64(len(d.content)) {
				d.content[offset] ^= 0xff
			}
			s.requireWalk()
		}
		s.walkOn(d, rapid.Uint64Range(1, 20).Draw(t, "blocks"))
	}
}

func checkPoint(t *rapid.T, s *source, epoch uint64, contents [][]byte, folder string) {
	ctx := context.Background()
	chain, err := s.repository.Chain(ctx, testVM, epoch)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(folder, "restored", replica.NewID())
	report, err := Restore(ctx, s.repository, testVM, epoch, out, Options{Parallel: 2})
	if err != nil {
		t.Fatalf("epoch %d: %v", epoch, err)
	}
	for i, want := range contents {
		d := s.disks[i]
		got, err := os.ReadFile(filepath.Join(out, d.path))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("epoch %d, disk %d: restored %d bytes, want %d; %v", epoch, i, len(got), len(want), err)
		}
		blocks, err := s.repository.BlockMap(ctx, chain, d.id)
		if err != nil {
			t.Fatal(err)
		}
		if report.Disks[i].Data != int64(blocks.Blocks())*disk.BlockSize {
			t.Fatalf("report tells of %d bytes, the map of %d blocks", report.Disks[i].Data, blocks.Blocks())
		}
		image, err := s.repository.Image(blocks, s.hasher)
		if err != nil {
			t.Fatal(err)
		}
		offset := rapid.Int64Range(0, int64(len(want))).Draw(t, "read at")
		p := bytes.Repeat([]byte{0xee}, rapid.IntRange(0, 60000).Draw(t, "read length"))
		n, err := image.ReadAt(ctx, p, offset)
		wanted := want[offset:min(int64(len(want)), offset+int64(len(p)))]
		if !bytes.Equal(p[:n], wanted) || (err != nil) != (n < len(p)) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("epoch %d, disk %d: read %d bytes of %d at %d: %v", epoch, i, n, len(p), offset, err)
		}
	}
}

// checkRebuild makes the tables anew from the container, with a walk under way,
// and compares them with those that were carried along.
func checkRebuild(t *rapid.T, s *source) {
	ctx := context.Background()
	s.requireWalk()
	chain, err := s.repository.Chain(ctx, testVM, s.link.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range s.disks {
		if len(d.content) > 0 {
			d.content[len(d.content)/2] ^= 1
		}
		s.walkOn(d, 12)
		table, err := resync.Rebuild(ctx, filepath.Join(s.folder, "anew"), resync.Identity{VM: testVM, Disk: d.id}, s.hasher,
			s.repository, chain, d.walked, d.table.State())
		if err != nil {
			t.Fatal(err)
		}
		if table.Sum() != d.table.Sum() || table.State() != d.table.State() {
			t.Fatalf("made anew it is %s of %+v, not %s of %+v", table.Sum(), table.State(), d.table.Sum(), d.table.State())
		}
		if err := errors.Join(table.Check(ctx), d.table.Check(ctx), table.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// What a walk read beyond the place where the disk was cut afterwards is no part
// of the point, though its segment has it.
func TestWalkedThenCutOff(t *testing.T) {
	s := newSource(t, t.TempDir(), 30*disk.BlockSize)
	t.Cleanup(s.close)
	d := s.disks[0]
	for i := range d.content {
		d.content[i] = byte(i>>4) | 1
	}
	s.walkOn(d, 30)
	d.resize(10*disk.BlockSize+7, true)
	s.cut()
	d.resize(30*disk.BlockSize, false)
	s.cut()
	checkRestoredPoints(t, s)
	for epoch := range s.points {
		chain, err := s.repository.Chain(t.Context(), testVM, epoch)
		if err != nil {
			t.Fatal(err)
		}
		table, err := resync.Rebuild(t.Context(), filepath.Join(t.TempDir(), "anew"), resync.Identity{VM: testVM, Disk: d.id}, s.hasher,
			s.repository, chain, nil, resync.State{})
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkRestoredPoints(t *testing.T, s *source) {
	t.Helper()
	for epoch := range s.points {
		folder := t.TempDir()
		if _, err := Restore(t.Context(), s.repository, testVM, epoch, folder, Options{}); err != nil {
			t.Fatal(err)
		}
		checkRestored(t, s, epoch, folder)
	}
}
