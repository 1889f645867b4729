package api_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"lifeboat/tracker/control"
	"lifeboat/uploader/api"
)

// fake notes what it was asked and answers what a test put in.
type fake struct {
	err    error
	asked  []any
	status api.Status
	point  api.Point
	job    api.Job
}

func (f *fake) note(args ...any) { f.asked = args }

func (f *fake) Status(context.Context) (api.Status, error) { return f.status, f.err }

func (f *fake) Protect(_ context.Context, q api.ProtectRequest) (api.Protected, error) {
	f.note("protect", q)
	return api.Protected{VM: "a1", Name: q.Name, Job: "j1", Checks: []api.Check{{Item: "x", OK: true}}}, f.err
}

func (f *fake) Unprotect(_ context.Context, vm string, force bool) error {
	f.note("unprotect", vm, force)
	return f.err
}

func (f *fake) Cut(_ context.Context, vm string, wait bool) (api.Point, error) {
	f.note("cut", vm, wait)
	return f.point, f.err
}

func (f *fake) Points(_ context.Context, vm string) ([]api.Point, error) {
	f.note("points", vm)
	return []api.Point{f.point}, f.err
}

func (f *fake) Jobs(context.Context) ([]api.Job, error) { return []api.Job{f.job}, f.err }

func (f *fake) Job(_ context.Context, id string) (api.Job, error) {
	f.note("job", id)
	return f.job, f.err
}

func (f *fake) Resume(_ context.Context, vm string) error {
	f.note("resume", vm)
	return f.err
}

func start(t *testing.T) (*fake, *api.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb")
	if err != nil {
		t.Fatal(err)
	}
	path := api.SocketPath(dir)
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, ended := &fake{}, make(chan error, 1)
	go func() { ended <- api.Serve(ctx, l, f, slog.New(slog.DiscardHandler)) }()
	c := api.NewClient(path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := errors.Join(<-ended, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return f, c
}

func TestEveryCallArrives(t *testing.T) {
	f, c := start(t)
	ctx := t.Context()
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	f.point = api.Point{VM: "a1", Name: "web", Epoch: 7, Time: at, Consistency: "crash-consistent", SizeBytes: 9, StoredBytes: 8}
	f.job = api.Job{ID: "j1", Kind: api.KindProtect, State: api.JobFailed, Steps: []string{"a", "b"}, Step: 2, Error: &api.Error{Code: "x", Message: "m"}, Started: at}
	f.status = api.Status{Version: "v", Started: at, Filters: []api.Filter{{Folder: "/a", Mountpoint: "/b", Available: true}}, VMs: []api.VM{{
		Name: "web", State: api.StateReplicating, Health: api.HealthWarning, Disks: []api.Disk{{Path: "/b/x"}},
		Reasons: []api.Reason{{Health: api.HealthWarning, Code: "c", Since: at}}, Newest: &f.point, Job: &f.job,
		Retry: &api.Retry{Error: api.Error{Code: "x"}, Since: at},
	}}}
	check := func(name string, err error, got, want any, asked ...any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
		}
		if asked != nil && !reflect.DeepEqual(f.asked, asked) {
			t.Errorf("%s: was asked %v, want %v", name, f.asked, asked)
		}
	}
	status, err := c.Status(ctx)
	check("Status", err, status, f.status)
	request := api.ProtectRequest{Name: "web", Disks: []string{"/b/x"}, FrequencySeconds: 5}
	protected, err := c.Protect(ctx, request)
	check("Protect", err, protected.Job, "j1", "protect", request)
	check("Unprotect", c.Unprotect(ctx, "web", true), 0, 0, "unprotect", "web", true)
	check("Unprotect", c.Unprotect(ctx, "a/b c", false), 0, 0, "unprotect", "a/b c", false)
	point, err := c.Cut(ctx, "web", true)
	check("Cut", err, point, f.point, "cut", "web", true)
	points, err := c.Points(ctx, "web")
	check("Points", err, points, []api.Point{f.point}, "points", "web")
	check("Resume", c.Resume(ctx, "web"), 0, 0, "resume", "web")
	jobs, err := c.Jobs(ctx)
	check("Jobs", err, jobs, []api.Job{f.job})
	job, err := c.Job(ctx, "j1")
	check("Job", err, job, f.job, "job", "j1")
}

func TestErrorsCrossTheSocket(t *testing.T) {
	f, c := start(t)
	for _, code := range []string{
		api.CodeNotFound, api.CodeExists, api.CodeInvalid, api.CodePrerequisites, api.CodeWalkRequired, api.CodePointGivenUp,
		api.CodeFilterAway, api.CodeDivergence, api.CodeDamaged, api.CodeFenced, api.CodeStoreDenied, api.CodeStoreAway, api.CodeInternal,
	} {
		want := &api.Error{Code: code, Message: "what", Hint: "do", Checks: []api.Check{{Item: "i", Message: "m", Hint: "h"}}}
		f.err = want
		_, err := c.Cut(t.Context(), "web", false)
		got, ok := errors.AsType[*api.Error](err)
		if !ok || !reflect.DeepEqual(got, want) || api.CodeOf(err) != code {
			t.Errorf("%s: got %#v", code, err)
		}
	}
	f.err = errors.New("something else")
	if err := c.Resume(t.Context(), "web"); api.CodeOf(err) != api.CodeInternal {
		t.Errorf("got %v", err)
	}
	if _, err := c.Points(t.Context(), ".."); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("got %v", err)
	}
	if api.CodeOf(nil) != "" {
		t.Error("no error has a code")
	}
}

func TestNoSidecar(t *testing.T) {
	c := api.NewClient(filepath.Join(t.TempDir(), "none.sock"))
	defer c.Close()
	if _, err := c.Status(t.Context()); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
