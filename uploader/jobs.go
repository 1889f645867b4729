package uploader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"lifeboat/replica"
	"lifeboat/uploader/api"
)

const (
	keptJobs = 100
	// keepProgress is how often progress alone is written down.
	keepProgress = 5 * time.Second
)

// Steps of the jobs, in their order.
func protectSteps() []string {
	return []string{"check the prerequisites", "create the replication relationship", "initial replication", "finalize protection"}
}

const (
	stepNumberCheck = 1 + iota
	stepNumberRelationship
	stepNumberInitial
	stepNumberFinalize
)

func resyncSteps() []string { return []string{"compare the disks", "close the gap"} }

// jobList keeps the jobs, oldest first, in memory and in a file. The file is for
// people: a job goes on after a restart because its VM's state says so. So a
// file that cannot be written is logged, and stops nothing.
type jobList struct {
	path  string
	log   *slog.Logger
	mu    sync.Mutex
	jobs  []*api.Job
	saved time.Time
}

func openJobs(path string, log *slog.Logger) *jobList {
	l := &jobList{path: path, log: log}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &l.jobs)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.jobs = nil
		log.Warn("list of jobs is lost", "path", path, "error", err)
	}
	l.jobs = slices.DeleteFunc(l.jobs, func(j *api.Job) bool { return j == nil })
	return l
}

// start begins a job and returns its ID.
func (l *jobList) start(kind, vm, name string, steps []string, first int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.startLocked(kind, vm, name, steps, first).ID
}

func (l *jobList) startLocked(kind, vm, name string, steps []string, first int) *api.Job {
	j := &api.Job{
		ID: replica.NewID()[:12], Kind: kind, VM: vm, Name: name, State: api.JobRunning,
		Steps: steps, Step: first, Started: time.Now().UTC(),
	}
	l.jobs = append(l.jobs, j)
	if n := len(l.jobs) - keptJobs; n > 0 {
		kept := 0 // running ones are kept however old they are
		l.jobs = slices.DeleteFunc(l.jobs, func(j *api.Job) bool {
			drop := kept < n && j.Done()
			if drop {
				kept++
			}
			return drop
		})
	}
	l.save(true)
	return j
}

// update changes a job; nothing happens if it is not there or has ended.
func (l *jobList) update(id string, change func(*api.Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.jobs, func(j *api.Job) bool { return j.ID == id }); i >= 0 {
		l.change(l.jobs[i], change)
	}
}

// updateVM changes the VM's job that runs, or that failed last when reopen is
// set; if there is none, one of that kind is begun.
func (l *jobList) updateVM(kind, vm, name string, steps []string, change func(*api.Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range slices.Backward(l.jobs) {
		if j.VM != vm || j.Kind != kind {
			continue
		}
		if j.State == api.JobFailed { // an operator resumed it
			j.State, j.Error, j.Ended = api.JobRunning, nil, time.Time{}
		}
		if !j.Done() {
			l.change(j, change)
			return
		}
		break
	}
	l.change(l.startLocked(kind, vm, name, steps, 1), change)
}

// change applies a change and saves what matters of it. mu is held.
func (l *jobList) change(j *api.Job, change func(*api.Job)) {
	state, step := j.State, j.Step
	change(j)
	if j.Done() && j.Ended.IsZero() {
		j.Ended = time.Now().UTC()
	}
	l.save(j.State != state || j.Step != step)
}

// finishVM ends all running jobs of a VM.
func (l *jobList) finishVM(vm string, state api.JobState, e *api.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range l.jobs {
		if j.VM == vm && !j.Done() && j.Kind != api.KindUnprotect {
			l.change(j, func(j *api.Job) { j.State, j.Error = state, e })
		}
	}
}

// explain notes what the VM's running jobs wait for; nil clears it.
func (l *jobList) explain(vm string, e *api.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range l.jobs {
		if j.VM == vm && !j.Done() {
			j.Error = e
		}
	}
}

// running returns the VM's running job, nil if there is none.
func (l *jobList) running(vm string) *api.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range slices.Backward(l.jobs) {
		if j.VM == vm && !j.Done() {
			return snapshot(j)
		}
	}
	return nil
}

// list returns all jobs, newest first.
func (l *jobList) list() []api.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]api.Job, 0, len(l.jobs))
	for _, j := range slices.Backward(l.jobs) {
		all = append(all, *snapshot(j))
	}
	return all
}

func (l *jobList) get(id string) (api.Job, error) {
	for _, j := range l.list() {
		if j.ID == id {
			return j, nil
		}
	}
	return api.Job{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("there is no job %q", id), Hint: fmt.Sprintf("the last %d are kept", keptJobs)}
}

func snapshot(j *api.Job) *api.Job {
	s := *j
	s.Steps = slices.Clone(j.Steps)
	return &s
}

// save writes the list down; mere progress only now and then. mu is held.
func (l *jobList) save(now bool) {
	if !now && time.Since(l.saved) < keepProgress {
		return
	}
	l.saved = time.Now()
	if err := replaceJSON(l.path, l.jobs); err != nil {
		l.log.Warn("list of jobs not written", "error", err)
	}
}
