package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// controlSocket is the control socket of a mount.
type controlSocket struct {
	path      string
	info      control.Info
	log       *slog.Logger
	answering http.ServeMux
	listener  net.Listener
}

func (c *controlSocket) listen() (err error) {
	c.listener, err = control.Listen(c.path)
	return err
}

// listenLate does so for a mount that is served, which no socket is worth
// ending; it returns false if ctx ended before it could.
func (c *controlSocket) listenLate(ctx context.Context) bool {
	for {
		err := c.listen()
		if err == nil {
			return true
		}
		c.log.Error("there is no control socket; it is tried again", "error", err)
		if !wait(ctx, soonAgain) {
			return false
		}
	}
}

func (c *controlSocket) serve(ctx context.Context, logs *tracker.Tracker) error {
	c.answering.Handle("/", control.NewHandler(logs, c.info, c.log))
	return control.Serve(ctx, c.listener, &c.answering, c.log)
}

// close is for a socket that was never served.
func (c *controlSocket) close() error {
	if c.listener == nil {
		return nil
	}
	return c.listener.Close()
}
