package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	maxAnswer   = 64 << 20
)

// Client asks the sidecar through its socket; it is a Backend. How long a call
// may take is its context's business. Errors are *Error, or match
// ErrUnavailable when the sidecar could not be asked, or the context's.
type Client struct {
	socket string
	http   http.Client
}

var _ Backend = (*Client)(nil)

// NewClient returns a client for the socket at path. It does not connect yet.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return &Client{socket: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// Close lets go of idle connections; the client can be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status implements Backend.
func (c *Client) Status(ctx context.Context) (status Status, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/status", nil, &status)
	return status, err
}

// Protect implements Backend.
func (c *Client) Protect(ctx context.Context, request ProtectRequest) (protected Protected, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/vms", request, &protected)
	return protected, err
}

// Unprotect implements Backend.
func (c *Client) Unprotect(ctx context.Context, vm string, force bool) error {
	path, err := vmPath(vm, "")
	if err != nil {
		return err
	}
	if force {
		path += "?force=1"
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

// Cut implements Backend.
func (c *Client) Cut(ctx context.Context, vm string, wait bool) (point Point, err error) {
	path, err := vmPath(vm, "/points")
	if err != nil {
		return Point{}, err
	}
	err = c.call(ctx, http.MethodPost, path, cutRequest{Wait: wait}, &point)
	return point, err
}

// Points implements Backend.
func (c *Client) Points(ctx context.Context, vm string) (points []Point, err error) {
	path, err := vmPath(vm, "/points")
	if err != nil {
		return nil, err
	}
	err = c.call(ctx, http.MethodGet, path, nil, &points)
	return points, err
}

// Resume implements Backend.
func (c *Client) Resume(ctx context.Context, vm string) error {
	path, err := vmPath(vm, "/resume")
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, nil, nil)
}

// Jobs implements Backend.
func (c *Client) Jobs(ctx context.Context) (jobs []Job, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/jobs", nil, &jobs)
	return jobs, err
}

// Job implements Backend.
func (c *Client) Job(ctx context.Context, id string) (job Job, err error) {
	if id == "" || id == "." || id == ".." {
		return Job{}, &Error{Code: CodeInvalid, Message: fmt.Sprintf("%q is no ID of a job", id)}
	}
	err = c.call(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id), nil, &job)
	return job, err
}

func vmPath(vm, rest string) (string, error) {
	if vm == "" || vm == "." || vm == ".." {
		return "", &Error{Code: CodeInvalid, Message: fmt.Sprintf("%q is no name of a VM", vm)}
	}
	return "/v1/vms/" + url.PathEscape(vm) + rest, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask the sidecar: %w", err)
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://sidecar"+path, body)
	if err != nil {
		return fmt.Errorf("ask the sidecar: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the made-up URL
		}
		return c.broken(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	d := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode >= http.StatusMultipleChoices {
		refused := &Error{}
		if err := d.Decode(refused); err != nil || refused.Code == "" {
			return c.broken(ctx, fmt.Errorf("answer with status %s that is none of the API", response.Status))
		}
		return refused
	}
	if out == nil {
		return nil
	}
	if err := d.Decode(out); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask the sidecar: %w", ctx.Err())
	}
	return fmt.Errorf("ask the sidecar: %w at %s: %w; start it with: lifeboat upload", ErrUnavailable, c.socket, err)
}
