package control

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
	"strconv"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker"
)

const (
	dialTimeout = 5 * time.Second
	// waitTimeout is how long an answer may take to begin: a filter that
	// hangs is told from one that works on a slow disk.
	waitTimeout = 2 * time.Minute
	// maxAnswer bounds JSON answers. The longest lists VMs with their sealed
	// epochs.
	maxAnswer = 64 << 20
	maxIDLen  = 64
)

// Client asks a filter through its control socket; it is a Backend. It
// connects when it has to, so it outlives the filter and finds the next one.
// All methods may be called concurrently. Errors are *Error, or match
// ErrUnavailable when the filter could not be asked, or the context's.
type Client struct {
	socket string
	http   http.Client
}

var _ Backend = (*Client)(nil)

// NewClient returns a client of the filter whose control socket is at path. It
// does not connect yet.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
		DisableCompression:    true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: waitTimeout,
		ReadBufferSize:        64 << 10,
	}
	return &Client{socket: path, http: http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets go of idle connections; the client can be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Filter tells who answers. The error matches ErrVersion when it is a filter
// of another API version; then the Info is valid nevertheless.
func (c *Client) Filter(ctx context.Context) (Info, error) {
	var info Info
	if err := c.call(ctx, "ask the filter who it is", http.MethodGet, "/v1/filter", nil, &info); err != nil {
		return Info{}, err
	}
	if info.API != APIVersion {
		return info, fmt.Errorf("%w: it has %d (lifeboat %s), this is %d: let both be of one version", ErrVersion, info.API, info.Version, APIVersion)
	}
	return info, nil
}

// VMs implements Backend.
func (c *Client) VMs(ctx context.Context) ([]tracker.VM, error) {
	var vms []tracker.VM
	err := c.call(ctx, "list VMs", http.MethodGet, "/v1/vms", nil, &vms)
	return vms, err
}

// VM implements Backend.
func (c *Client) VM(ctx context.Context, id string) (tracker.VM, error) {
	var vm tracker.VM
	err := c.callVM(ctx, "get VM", http.MethodGet, id, "", nil, &vm)
	return vm, err
}

// Protect implements Backend.
func (c *Client) Protect(ctx context.Context, spec tracker.Spec) (tracker.VM, error) {
	var vm tracker.VM
	err := c.call(ctx, "protect VM "+spec.Name, http.MethodPost, "/v1/vms", spec, &vm)
	return vm, err
}

// Unprotect implements Backend.
func (c *Client) Unprotect(ctx context.Context, id string) error {
	return c.callVM(ctx, "unprotect VM", http.MethodDelete, id, "", nil, nil)
}

// Rollover implements Backend.
func (c *Client) Rollover(ctx context.Context, id string, walk uint64) (tracker.Epoch, error) {
	var epoch tracker.Epoch
	err := c.callVM(ctx, "roll over VM", http.MethodPost, id, "/rollover", rolloverRequest{Walk: walk}, &epoch)
	return epoch, err
}

// Acknowledge implements Backend.
func (c *Client) Acknowledge(ctx context.Context, id string, epoch, walk uint64) error {
	return c.callVM(ctx, "acknowledge an epoch of VM", http.MethodPost, id, "/acknowledge", acknowledgeRequest{Epoch: epoch, Walk: walk}, nil)
}

// RequireWalk implements Backend.
func (c *Client) RequireWalk(ctx context.Context, id, reason string) error {
	return c.callVM(ctx, "require a walk of VM", http.MethodPost, id, "/require-walk", requireWalkRequest{Reason: reason}, nil)
}

// Events implements Backend.
func (c *Client) Events(ctx context.Context, after uint64) ([]tracker.Event, error) {
	var events []tracker.Event
	err := c.call(ctx, "list events", http.MethodGet, "/v1/events?after="+strconv.FormatUint(after, 10), nil, &events)
	return events, err
}

// Allocated implements Backend.
func (c *Client) Allocated(ctx context.Context, id, diskID string, from disk.Block) (disk.Extent, error) {
	path, err := diskURL(id, diskID)
	if err != nil {
		return disk.Extent{}, err
	}
	extents, err := c.extents(ctx, "find data of disk", path+"/allocated?from="+strconv.FormatUint(uint64(from), 10), 1)
	if err != nil || len(extents) == 0 {
		return disk.Extent{}, err
	}
	return extents[0], nil
}

// Changed implements Backend.
func (c *Client) Changed(ctx context.Context, id string, epoch uint64, diskID string) (tracker.Extents, error) {
	path, err := epochURL(id, diskID, epoch)
	if err != nil {
		return nil, err
	}
	return c.extents(ctx, "list changed blocks", path+"/changed", maxExtents)
}

func (c *Client) callVM(ctx context.Context, op, method, id, path string, in, out any) error {
	if err := checkID("VM", id); err != nil {
		return err
	}
	return c.call(ctx, op+" "+id, method, "/v1/vms/"+id+path, in, out)
}

// call makes one exchange of JSON; in and out may be nil.
func (c *Client) call(ctx context.Context, op, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
		body = bytes.NewReader(b)
	}
	response, err := c.do(ctx, op, method, path, body)
	if err != nil {
		return err
	}
	defer closeBody(response)
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(out); err != nil {
		return c.broken(ctx, op, err)
	}
	return nil
}

// do sends a request and returns the answer if it is no refusal. The caller
// closes its body.
func (c *Client) do(ctx context.Context, op, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://filter"+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the made-up URL
		}
		return nil, c.broken(ctx, op, err)
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	defer closeBody(response)
	refused := &Error{}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(refused); err != nil || refused.Code == "" {
		return nil, c.broken(ctx, op, fmt.Errorf("answer with status %s that is none of the control API", response.Status))
	}
	return nil, fmt.Errorf("%s: %w", op, refused)
}

// broken returns the error for an exchange that did not come to its end.
func (c *Client) broken(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	return fmt.Errorf("%s: %w at %s: %w", op, ErrUnavailable, c.socket, err)
}

// closeBody drains what little may be left, so that the connection is used
// again.
func closeBody(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	_ = response.Body.Close()
}

func diskURL(id, diskID string) (string, error) {
	if err := errors.Join(checkID("VM", id), checkID("disk", diskID)); err != nil {
		return "", err
	}
	return "/v1/vms/" + id + "/disks/" + diskID, nil
}

func epochURL(id, diskID string, epoch uint64) (string, error) {
	path, err := diskURL(id, diskID)
	return path + "/epochs/" + strconv.FormatUint(epoch, 10), err
}

// checkID refuses what would make another path of the request.
func checkID(what, id string) error {
	ok := id != "" && len(id) <= maxIDLen
	for _, c := range []byte(id) {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_')
	}
	if !ok {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf("%q is no ID of a %s", id, what)}
	}
	return nil
}
