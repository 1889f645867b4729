package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/stores"
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

// openStore opens a store by its URL, and makes it if it is missing and that is
// asked for.
func openStore(ctx context.Context, url string, create bool) (blobstore.Store, error) {
	scheme, _, _ := strings.Cut(url, "://")
	if !slices.Contains([]string{"file", "https", "http", "azblob"}, scheme) {
		return nil, usagef("%q is no store: use file:///DIR, https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX] or azblob://CONTAINER[/PREFIX]", url)
	}
	return stores.Open(ctx, url, stores.Options{Create: create})
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
