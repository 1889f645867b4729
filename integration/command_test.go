package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// commandWithin bounds a command that waits for something.
	commandWithin = 2 * time.Minute
	// racedShare of the commands is one that runs with the race detector.
	racedShare = 16
)

// point is what `cut --json` and `points --json` promise.
type point struct {
	Epoch       uint64    `json:"epoch"`
	Time        time.Time `json:"time"`
	StoredBytes int64     `json:"stored_bytes"`
}

// vmStatus is a part of what `status VM --json` tells.
type vmStatus struct {
	State   string `json:"state"`
	Health  string `json:"health"`
	Reasons []struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"reasons"`
	Newest        *point `json:"newest_point"`
	PendingBytes  int64  `json:"pending_bytes"`
	WaitingEpochs int    `json:"waiting_epochs"`
	GivenUp       int    `json:"given_up_points"`
}

// result is how a command ended.
type result struct {
	command        string
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("%s\n  exit code %d\n  %s", r.command, r.code, strings.ReplaceAll(strings.TrimSpace(r.stderr+r.stdout), "\n", "\n  "))
}

// run executes a command of the product to its end. It may be called by any
// goroutine of the test; what must never happen fails the test.
func (s *site) run(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	program := plain
	if s.commands.Add(1)%racedShare == 0 {
		program = raced
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, s.env
	err := cmd.Run()
	r := result{command: "lifeboat " + strings.Join(args, " "), stdout: stdout.String(), stderr: stderr.String()}
	r.code = cmd.ProcessState.ExitCode() // -1 if it was not even started
	switch {
	case r.code == -1:
		t.Errorf("%v: %v, %v", r, err, ctx.Err())
	case r.code == raceExit || strings.Contains(r.stderr, "DATA RACE") || strings.Contains(r.stderr, "panic:"):
		t.Errorf("%v", r)
	}
	return r
}

// ok executes a command that has to succeed, and reads its JSON into out unless
// that is nil.
func (s *site) ok(t *testing.T, out any, args ...string) {
	t.Helper()
	if out != nil {
		args = append(args, "--json")
	}
	r := s.run(t, args...)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(r.stdout), out); err != nil {
			t.Fatalf("%v\nis no such JSON: %v", r, err)
		}
	}
}

func (s *site) protect(t *testing.T, disks ...string) {
	t.Helper()
	args := []string{"protect", "--wait", vm}
	for _, name := range disks {
		args = append(args, s.disk(name))
	}
	s.ok(t, nil, args...)
}

// cut makes a recovery point; with wait it is committed on return.
func (s *site) cut(t *testing.T, wait bool) point {
	t.Helper()
	args := []string{"cut", vm}
	if wait {
		args = append(args, "--wait")
	}
	var p point
	s.ok(t, &p, args...)
	return p
}

// points lists the recovery points from the store alone.
func (s *site) points(t *testing.T) []point {
	t.Helper()
	var points []point
	s.ok(t, &points, "points", vm, "--store", s.store)
	return points
}

func (s *site) status(t *testing.T) vmStatus {
	t.Helper()
	var status vmStatus
	s.ok(t, &status, "status", vm)
	return status
}

// restore restores a point from the store alone and returns the folder.
func (s *site) restore(t *testing.T, epoch uint64) (string, result) {
	t.Helper()
	return s.restoreFrom(t, s.store, epoch)
}

func (s *site) restoreFrom(t *testing.T, store string, epoch uint64) (string, result) {
	t.Helper()
	to := filepath.Join(s.dir, fmt.Sprintf("restored-%d", epoch))
	return to, s.run(t, "restore", vm, "--point", fmt.Sprint(epoch), "--to", to, "--store", store)
}

// eventually asks a condition again and again until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(commandWithin); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not yet: %s", commandWithin, what)
		}
		<-again.C
	}
}
