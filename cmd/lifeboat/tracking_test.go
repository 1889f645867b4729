package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/tracker"
)

// nobody is a file system that serves nobody.
type nobody struct{}

func (nobody) Attach(_, _ uint64, _ tracker.Tracked) error { return nil }
func (nobody) Anticipate(_, _ uint64, _ tracker.Tracked)   {}
func (nobody) Watch(*os.File, tracker.Witness)             {}
func (nobody) Detach(_, _ uint64)                          {}
func (nobody) Look()                                       {}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeCannotOpen: a program that cannot open what another one could gives
// up, and lets nothing go on untracked.
func TestUpgradeCannotOpen(t *testing.T) {
	dir := t.TempDir()
	folder, err := os.Open(dir)
	must(t, err)
	fd, err := tracker.NewPasses()
	must(t, err)
	left, err := tracker.MapPasses(fd)
	must(t, err)
	tr := newTracking(slog.New(slog.DiscardHandler))
	tr.config = tracker.Config{Folder: folder, FileSystem: nobody{}, Logger: tr.log, Passes: left}
	must(t, tr.open())
	must(t, tr.close())
	must(t, os.RemoveAll(filepath.Join(dir, tracker.FolderName, "log")))
	must(t, os.WriteFile(filepath.Join(dir, tracker.FolderName, "log"), nil, 0o600))

	next := newTracking(tr.log)
	next.config, next.build = tr.config, tr.build+2
	if !next.anticipate() {
		t.Fatal("nothing stands for the disks")
	}
	if err := next.openLate(t.Context()); !errors.Is(err, errOtherBuild) {
		t.Errorf("it does not give up: %v", err)
	}
	select {
	case <-next.settled:
		t.Error("changes go on untracked")
	default:
	}
	must(t, folder.Close())
	must(t, unix.Close(fd))
}

// TestFiltersDieOpening: when filters have died of opening the change logs, one
// after the other, the next one lets changes go on untracked first, before the
// keeper loses its patience.
func TestFiltersDieOpening(t *testing.T) {
	const id = "000000000000000000000000000000aa"
	for _, deaths := range []int{openDeaths - 1, openDeaths} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "disk.img"), make([]byte, 1<<20), 0o600))
		folder, err := os.Open(dir)
		must(t, err)
		fd, err := tracker.NewPasses()
		must(t, err)
		start := func() *tracking {
			left, err := tracker.MapPasses(fd)
			must(t, err)
			tr := newTracking(slog.New(slog.DiscardHandler))
			tr.again = time.Millisecond
			tr.config = tracker.Config{Folder: folder, FileSystem: nobody{}, Logger: tr.log, Passes: left}
			return tr
		}
		first := start()
		if first.anticipate() {
			t.Fatal("nobody was there before")
		}
		must(t, first.open())
		vm, err := first.logs.Load().Protect(t.Context(), tracker.Spec{
			ID: id, Name: "vm", Disks: []tracker.DiskSpec{{ID: id, Path: "disk.img"}},
		})
		must(t, err)
		_, err = first.logs.Load().Rollover(t.Context(), id, vm.Walk.Number)
		must(t, err)
		must(t, first.logs.Load().Acknowledge(t.Context(), id, vm.Open, vm.Walk.Number))
		must(t, first.close())

		second := start()
		if !second.anticipate() {
			t.Fatal("nothing stands for the disks")
		}
		for range deaths {
			second.config.Passes.Attempt()
		}
		must(t, second.openLate(t.Context()))
		second.makeRoom()
		vm, err = second.logs.Load().VM(t.Context(), id)
		must(t, err)
		untracked := strings.Contains(vm.Walk.Reason, "could not be written")
		if untracked != (deaths == openDeaths) || vm.Walk.Required != untracked {
			t.Errorf("after %d deaths: %+v", deaths, vm.Walk)
		}
		if attempts := second.config.Passes.Attempts(); attempts != 0 {
			t.Errorf("%d attempts count after one that succeeded", attempts)
		}
		must(t, second.close())
		must(t, folder.Close())
		must(t, unix.Close(fd))
	}
}
