package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// serveLoopback is go-fuse's example of a loopback file system with the same
// options, but for kernel passthrough: with that, what is measured would be the
// kernel alone. It says so on descriptor 3 when it serves.
func serveLoopback(mount, below string) error {
	root, err := fs.NewLoopbackRoot(below)
	if err != nil {
		return err
	}
	second := time.Second
	server, err := fs.Mount(mount, root, &fs.Options{
		AttrTimeout: &second, EntryTimeout: &second, NullPermissions: true,
		MountOptions: fuse.MountOptions{
			FsName: below, Name: "loopback", DirectMount: true,
			DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		},
	})
	if err != nil {
		return fmt.Errorf("mount loopback: %w", err)
	}
	ready := os.NewFile(3, "ready")
	_, err = ready.WriteString("ready\n")
	if err := errors.Join(err, ready.Close()); err != nil {
		return errors.Join(err, server.Unmount())
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	<-ctx.Done()
	return server.Unmount()
}
