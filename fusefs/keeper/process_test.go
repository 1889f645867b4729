package keeper

import (
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/fusefs"
)

// TestWaitsForDisk tells a process that waits for a file system, here one that
// nobody serves, from one that just waits.
func TestWaitsForDisk(t *testing.T) {
	mount, err := fusefs.Establish(t.TempDir(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	disk, pipe := exec.Command("stat", filepath.Join(mount.Point, "x")), exec.Command("cat")
	in, err := pipe.StdinPipe()
	if err := errors.Join(err, disk.Start(), pipe.Start()); err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); !waitsForDisk(disk.Process.Pid) || waitsForDisk(pipe.Process.Pid); <-again.C {
		if time.Now().After(end) {
			t.Error("a process that waits for a file system does not seem to, or one that waits for a pipe does")
			break
		}
	}
	if err := errors.Join(mount.Abandon(), in.Close(), pipe.Wait()); err != nil {
		t.Error(err)
	}
	if err := disk.Wait(); err == nil {
		t.Error("there is a file on a mount that was taken off")
	}
	if waitsForDisk(disk.Process.Pid) {
		t.Error("a process that has ended waits")
	}
}
