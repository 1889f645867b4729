package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
)

// runtimeDir is where the sockets lie.
func runtimeDir() string {
	if dir := os.Getenv("LIFEBOAT_RUNTIME_DIR"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "lifeboat")
	}
	return "/run/lifeboat"
}

// stateDir is where the sidecar keeps what it can make anew.
func stateDir() (string, error) {
	if dir := os.Getenv("LIFEBOAT_STATE_DIR"); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/lifeboat", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "lifeboat"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usagef("no place for the sidecar's state: set LIFEBOAT_STATE_DIR (%w)", err)
	}
	return filepath.Join(home, ".local/state/lifeboat"), nil
}

func storeFlag() cli.Flag {
	usage := "`URL` of the store: file:///DIR, https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX], azblob://CONTAINER[/PREFIX]"
	return &cli.StringFlag{Name: "store", EnvVars: []string{"LIFEBOAT_STORE"}, Usage: usage}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

// wantArgs checks the number of arguments; high -1 means any.
func wantArgs(c *cli.Context, low, high int) error {
	n := c.NArg()
	if n < low || high >= 0 && n > high {
		return usagef("%s takes %s, not %d arguments: lifeboat %s [flags] %s", c.Command.Name, count(low, high), n, c.Command.Name, c.Command.ArgsUsage)
	}
	return nil
}

func count(low, high int) string {
	switch {
	case high < 0:
		return fmt.Sprintf("at least %d", low)
	case low == high:
		return fmt.Sprint(low)
	default:
		return fmt.Sprintf("%d to %d", low, high)
	}
}
