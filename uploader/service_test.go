package uploader

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/disk"
	"lifeboat/replica"
	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/uploader/api"
)

// site is a service with a fake filter over a real folder.
type site struct {
	t       *testing.T
	filter  *fakeFilter
	memory  *memory
	store   *blobstoretest.Faulty
	folder  string
	state   string
	service *Service
	stop    func()
}

// fixed is a list of filters.
type fixed struct{ filters []Filter }

func (f fixed) List(context.Context) ([]Filter, error) { return f.filters, nil }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, filter: newFakeFilter(), memory: newMemory(), folder: stateDir(t), state: stateDir(t)}
	s.store = blobstoretest.NewFaulty(s.memory)
	s.filter.files = map[string][]byte{"a.img": noise(1, 30*disk.BlockSize), "b.img": noise(2, 10*disk.BlockSize)}
	for name, content := range s.filter.files {
		if err := os.WriteFile(filepath.Join(s.folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.folder, name) }

// start starts a sidecar; it is stopped at the end of the test at the latest.
func (s *site) start() {
	s.t.Helper()
	service, err := New(Config{
		Store: s.store, StateDir: s.state, Version: "test", Logger: slog.New(slog.DiscardHandler),
		Filters: fixed{[]Filter{{Folder: s.folder, Mountpoint: s.folder, Backend: s.filter}}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	stopped := false
	s.service = service
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-ended, service.Close()); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *site) protect() api.Protected {
	s.t.Helper()
	p, err := s.service.Protect(s.t.Context(), api.ProtectRequest{Name: "web", Disks: []string{s.path("a.img"), s.path("b.img")}})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *site) vm() api.VM {
	s.t.Helper()
	status, err := s.service.Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, vm := range status.VMs {
		if vm.Name == "web" {
			return vm
		}
	}
	s.t.Fatal("the VM has no status")
	return api.VM{}
}

func (s *site) points() []api.Point {
	s.t.Helper()
	points, err := s.service.Points(s.t.Context(), "web")
	if err != nil {
		s.t.Fatal(err)
	}
	return points
}

func codes(vm api.VM) []string {
	var codes []string
	for _, r := range vm.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

// pass lets time pass in the bubble.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestProtectAndReplicate(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		defer s.stop()
		p := s.protect()
		if slices.ContainsFunc(p.Checks, func(c api.Check) bool { return !c.OK }) || len(p.Checks) < 6 {
			t.Errorf("checks: %+v", p.Checks)
		}
		pass(t, 10*time.Second)
		job, err := s.service.Job(t.Context(), p.Job)
		if err != nil || job.State != api.JobSucceeded || job.Step != 4 || job.DoneBytes != 40*disk.BlockSize || job.Ended.IsZero() {
			t.Errorf("job: %+v, %v", job, err)
		}
		pass(t, 5*time.Minute)
		if n := len(s.points()); n < 10 || n > 12 {
			t.Errorf("%d points after five minutes at 30 s", n)
		}
		vm := s.vm()
		if vm.State != api.StateReplicating || vm.Health != api.HealthNormal || vm.Newest == nil || vm.AgeSeconds > 31 || vm.LastCycle == nil {
			t.Errorf("status: %+v", vm)
		}
		s.filter.write(p.VM, s.filter.vms[p.VM].Disks[0].ID, 777, noise(9, 5000))
		point, err := s.service.Cut(t.Context(), "web", true)
		if err != nil || point.StoredBytes == 0 || point.Consistency == "" {
			t.Errorf("cut: %+v, %v", point, err)
		}
		if err := s.service.Unprotect(t.Context(), "web", false); err != nil {
			t.Fatal(err)
		}
		if _, err := s.service.Cut(t.Context(), "web", false); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("cut of a VM that is gone: %v", err)
		}
		repository, err := replica.Open(t.Context(), s.memory)
		if err != nil {
			t.Fatal(err)
		}
		old, err := repository.NewestVM(t.Context(), p.VM)
		if err != nil || old.Disabled.IsZero() || old.Generation != 2 {
			t.Errorf("the replica is not marked: %+v, %v", old, err)
		}
		if again := s.protect(); again.VM == p.VM {
			t.Error("a new protection has the old identity")
		}
	})
}

func TestStorageAway(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		defer s.stop()
		s.protect()
		pass(t, 45*time.Second)
		s.store.Add(blobstoretest.Fault{Op: blobstoretest.Any})
		began := time.Now()
		var attempts []time.Duration
		for range 45 * 60 {
			before := s.store.Struck()
			pass(t, time.Second)
			if s.store.Struck() > before {
				attempts = append(attempts, time.Since(began).Round(time.Minute))
			}
		}
		m := time.Minute
		// The rollover that fails first comes within half a minute.
		if want := []time.Duration{0, m, 2 * m, 4 * m, 8 * m, 10 * m, 40 * m}; !slices.Equal(attempts, want) {
			t.Errorf("attempts after %v, want %v", attempts, want)
		}
		vm := s.vm()
		if vm.Health != api.HealthWarning || !slices.Contains(codes(vm), api.CodeStoreAway) || !slices.Contains(codes(vm), reasonPointOld) ||
			vm.Retry == nil || vm.Retry.Next.IsZero() || vm.State != api.StateReplicating {
			t.Errorf("status: %+v", vm)
		}
		if vm.WaitingEpochs != maxWaiting+1 {
			t.Errorf("%d epochs wait", vm.WaitingEpochs)
		}
		s.store.Heal()
		if _, err := s.service.Cut(t.Context(), "web", true); err != nil {
			t.Errorf("a cut does not try at once: %v", err)
		}
		pass(t, 2*time.Second)
		if vm := s.vm(); vm.Health != api.HealthNormal || vm.Retry != nil {
			t.Errorf("status after it came back: %+v", vm)
		}
	})
}

func TestDeniedStopsUntilResumed(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		defer s.stop()
		s.protect()
		pass(t, 45*time.Second)
		s.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Err: blobstore.NewError("put", "", blobstore.ErrDenied, nil)})
		pass(t, time.Minute)
		vm := s.vm()
		if vm.State != api.StateError || vm.Health != api.HealthCritical || codes(vm)[0] != api.CodeStoreDenied || vm.Retry == nil || !vm.Retry.Next.IsZero() {
			t.Errorf("status: %+v", vm)
		}
		before := s.store.Struck()
		pass(t, 2*time.Hour)
		if n := s.store.Struck() - before; n != 0 {
			t.Errorf("%d attempts although an operator has to act", n)
		}
		s.store.Heal()
		if err := s.service.Resume(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		pass(t, 2*time.Second)
		if vm := s.vm(); vm.State != api.StateReplicating || vm.WaitingEpochs != 0 {
			t.Errorf("status after resume: %+v", vm)
		}
	})
}

func TestFilterAway(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		defer s.stop()
		s.protect()
		pass(t, 45*time.Second)
		s.setAway(true)
		pass(t, time.Minute)
		vm := s.vm()
		if vm.Health != api.HealthCritical || codes(vm)[0] != api.CodeFilterAway {
			t.Errorf("status: %+v", vm)
		}
		if _, err := s.service.Cut(t.Context(), "web", true); api.CodeOf(err) != api.CodeFilterAway {
			t.Errorf("cut: %v", err)
		}
		since := vm.Reasons[0].Since
		pass(t, time.Minute)
		if vm := s.vm(); !vm.Reasons[0].Since.Equal(since) {
			t.Errorf("the reason holds since %v, was %v", vm.Reasons[0].Since, since)
		}
		s.setAway(false)
		pass(t, 40*time.Second)
		if vm := s.vm(); vm.Health != api.HealthNormal {
			t.Errorf("status after it came back: %+v", vm)
		}
	})
}

func (s *site) setAway(away bool) {
	s.filter.mu.Lock()
	defer s.filter.mu.Unlock()
	s.filter.away = away
}

func TestJobOutlivesTheSidecar(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Within: ".seg"})
		s.start()
		p := s.protect()
		pass(t, 10*time.Second)
		vm := s.vm()
		if vm.State != api.StateInitialReplication || vm.Job == nil || vm.Job.ID != p.Job || vm.Job.Error == nil || vm.Health != api.HealthWarning {
			t.Errorf("status: %+v", vm)
		}
		if _, err := s.service.Cut(t.Context(), "web", true); api.CodeOf(err) != api.CodeWalkRequired {
			t.Errorf("cut before the first point: %v", err)
		}
		s.stop()
		s.store.Heal()
		s.start()
		defer s.stop()
		pass(t, 10*time.Second)
		job, err := s.service.Job(t.Context(), p.Job)
		if err != nil || job.State != api.JobSucceeded {
			t.Errorf("job: %+v, %v", job, err)
		}
		jobs, err := s.service.Jobs(t.Context())
		if err != nil || len(jobs) != 1 {
			t.Errorf("jobs: %+v, %v", jobs, err)
		}
		s.filter.loseLog(p.VM)
		pass(t, 40*time.Second)
		jobs, err = s.service.Jobs(t.Context())
		if err != nil || len(jobs) != 2 || jobs[0].Kind != api.KindResync || jobs[0].State != api.JobSucceeded {
			t.Errorf("jobs after a resynchronization: %+v, %v", jobs, err)
		}
	})
}

func TestPointThatWasGivenUp(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		defer s.stop()
		p := s.protect()
		pass(t, 45*time.Second)
		s.store.Add(blobstoretest.Fault{Op: blobstoretest.Put})
		pass(t, 40*time.Second)
		waited := make(chan error, 1)
		go func() {
			_, err := s.service.Cut(t.Context(), "web", true)
			waited <- err
		}()
		pass(t, 5*time.Second)
		for range 3 {
			s.filter.merge(p.VM)
		}
		if err := <-waited; api.CodeOf(err) != api.CodePointGivenUp {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnprotectWhileTheStoreIsAway(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		p := s.protect()
		pass(t, 10*time.Second)
		s.store.Add(blobstoretest.Fault{Op: blobstoretest.Any})
		if err := s.service.Unprotect(t.Context(), "web", false); err != nil {
			t.Fatal(err)
		}
		s.stop()
		s.store.Heal()
		s.start()
		defer s.stop()
		pass(t, 5*time.Second)
		repository, err := replica.Open(t.Context(), s.memory)
		if err != nil {
			t.Fatal(err)
		}
		vm, err := repository.NewestVM(t.Context(), p.VM)
		if err != nil || vm.Disabled.IsZero() {
			t.Errorf("the container was never told: %+v, %v", vm, err)
		}
	})
}

func TestSecondSidecarIsRefused(t *testing.T) {
	config := Config{Store: newMemory(), Filters: fixed{}, StateDir: stateDir(t), Logger: slog.New(slog.DiscardHandler)}
	first, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(config); err == nil || !strings.Contains(err.Error(), "another sidecar") {
		t.Errorf("got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}
