package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lifeboat/fusefs"
)

// role makes the test binary a filter.
const role = "LIFEBOAT_TEST_FILTER"

func TestMain(m *testing.M) {
	does := os.Getenv(role)
	if does == "" {
		os.Exit(m.Run())
	}
	if err := filterMain(does); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// filterMain serves until it is asked to stop, or fails in the way of its role.
func filterMain(does string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if does == "refuse" {
		return errors.New("refused")
	}
	estate, err := Estate()
	if err != nil || estate == nil {
		return fmt.Errorf("no estate: %w", err)
	}
	fs, err := fusefs.Open(fusefs.Options{Estate: estate})
	if err != nil {
		return err
	}
	m, err := fs.Mount("")
	if err != nil {
		return err
	}
	if err := estate.Ready(); err != nil {
		return err
	}
	if does == "crash" {
		return errors.New("crashed")
	}
	if does == "leave" {
		return nil
	}
	<-ctx.Done()
	return errors.Join(m.Unmount(context.Background()), fs.Close())
}

// config has filters come that do what roles say, the last one again and again.
func config(t *testing.T, started *int, roles ...string) Config {
	t.Helper()
	c := Config{
		Folder: t.TempDir(), Mountpoint: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Patience: 3,
		Ready: func() error { return nil },
		Filter: func(string) *exec.Cmd {
			command := exec.Command("/proc/self/exe")
			command.Env = append(os.Environ(), role+"="+roles[min(*started, len(roles)-1)])
			*started++
			return command
		},
	}
	t.Cleanup(func() {
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), c.Mountpoint) {
			t.Errorf("the mount was left behind (%v)", err)
			_ = syscall.Unmount(c.Mountpoint, syscall.MNT_DETACH) // so that the test can clean up
		}
	})
	return c
}

// TestStops asks the filter that took over to stop.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started, said := 0, 0
	c := config(t, &started, "crash", "leave", "serve")
	c.Ready = func() error { said++; return nil }
	cancelled := c.Filter
	c.Filter = func(program string) *exec.Cmd {
		if started == 2 {
			cancel() // it is asked as soon as it is ready
		}
		return cancelled(program)
	}
	if err := Run(ctx, c); err != nil {
		t.Error(err)
	}
	if started != 3 || said != 1 {
		t.Errorf("%d filters, ready was told %d times", started, said)
	}
}

// TestNeverReady has the first filter refuse: that is told, and not tried again.
func TestNeverReady(t *testing.T) {
	started := 0
	err := Run(t.Context(), config(t, &started, "refuse"))
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 3 || started != 1 {
		t.Errorf("%v after %d filters", err, started)
	}
}

// TestGivesUp has filters crash at once: nobody waits for ever.
func TestGivesUp(t *testing.T) {
	started := 0
	if err := Run(t.Context(), config(t, &started, "crash")); !errors.Is(err, ErrGivenUp) || started != 4 {
		t.Errorf("%v after %d filters", err, started)
	}
}

// TestNoFilter has a filter that cannot be started, and a folder that is not
// there.
func TestNoFilter(t *testing.T) {
	started := 0
	c := config(t, &started, "")
	c.Filter = func(string) *exec.Cmd { return exec.Command(filepath.Join(c.Folder, "missing")) }
	if err := Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no filter: %v", err)
	}
	c.Folder = filepath.Join(c.Folder, "missing")
	if err := Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestEstateVariable(t *testing.T) {
	if e, err := Estate(); e != nil || err != nil {
		t.Errorf("without a keeper: %v, %v", e, err)
	}
	t.Setenv(variable, "x")
	if _, err := Estate(); err == nil {
		t.Error("x is a descriptor")
	}
}
