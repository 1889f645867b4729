package uploader

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/uploader/api"
)

func TestJobsAreKept(t *testing.T) {
	path := filepath.Join(stateDir(t), "jobs.json")
	log := slog.New(slog.DiscardHandler)
	jobs := openJobs(path, log)
	first := jobs.start(api.KindProtect, "vm", "web", protectSteps(), 1)
	for range keptJobs + 20 {
		id := jobs.start(api.KindResync, "other", "db", resyncSteps(), 1)
		jobs.update(id, func(j *api.Job) { j.State = api.JobSucceeded })
	}
	again := openJobs(path, log)
	if n := len(again.list()); n != keptJobs {
		t.Errorf("%d jobs are kept, want %d", n, keptJobs)
	}
	if j, err := again.get(first); err != nil || j.State != api.JobRunning {
		t.Errorf("the running job is lost: %+v, %v", j, err)
	}
	if _, err := again.get("none"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(openJobs(path, log).list()); n != 0 {
		t.Errorf("%d jobs in a broken file", n)
	}
}

func TestFailedJobIsResumed(t *testing.T) {
	jobs := openJobs(filepath.Join(stateDir(t), "jobs.json"), slog.New(slog.DiscardHandler))
	id := jobs.start(api.KindProtect, "vm", "web", protectSteps(), 1)
	jobs.finishVM("vm", api.JobFailed, &api.Error{Code: api.CodeStoreDenied})
	if j, _ := jobs.get(id); j.State != api.JobFailed || j.Ended.IsZero() || j.Error == nil {
		t.Errorf("got %+v", j)
	}
	jobs.updateVM(api.KindProtect, "vm", "web", protectSteps(), func(j *api.Job) { j.Step = 3 })
	if j, _ := jobs.get(id); j.State != api.JobRunning || !j.Ended.IsZero() || j.Error != nil || j.Step != 3 {
		t.Errorf("got %+v", j)
	}
	jobs.finishVM("vm", api.JobSucceeded, nil)
	jobs.updateVM(api.KindProtect, "vm", "web", protectSteps(), func(*api.Job) {})
	if n := len(jobs.list()); n != 2 {
		t.Errorf("%d jobs: one that succeeded was begun anew", n)
	}
}
