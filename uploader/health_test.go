package uploader

import (
	"testing"
	"time"

	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

func TestStateAndHealth(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	fresh, old := now.Add(-20*time.Second), now.Add(-91*time.Second)
	required := tracker.Walk{Number: 2, Required: true, Reason: "log lost"}
	stopped := &failure{class: unrecoverable, err: &api.Error{Code: api.CodeStoreDenied, Message: "denied"}}
	retrying := &failure{class: recoverable, err: &api.Error{Code: api.CodeStoreAway, Message: "away"}}
	for name, c := range map[string]struct {
		condition
		state  api.State
		health api.Health
		code   string // of the worst reason
	}{
		"all well":        {condition{newest: fresh}, api.StateReplicating, api.HealthNormal, ""},
		"no point yet":    {condition{walk: required, walking: true}, api.StateInitialReplication, api.HealthWarning, reasonInitial},
		"point is old":    {condition{newest: old}, api.StateReplicating, api.HealthWarning, reasonPointOld},
		"storage away":    {condition{newest: fresh, failed: retrying}, api.StateReplicating, api.HealthWarning, api.CodeStoreAway},
		"stopped":         {condition{newest: old, failed: stopped}, api.StateError, api.HealthCritical, api.CodeStoreDenied},
		"stopped at once": {condition{walk: required, failed: stopped}, api.StateError, api.HealthCritical, api.CodeStoreDenied},
		"resync waits":    {condition{newest: fresh, walk: required}, api.StateResyncRequired, api.HealthCritical, reasonResync},
		"resync runs":     {condition{newest: fresh, walk: required, walking: true}, api.StateResynchronizing, api.HealthCritical, reasonResync},
		"filter away":     {condition{newest: fresh, away: true}, api.StateReplicating, api.HealthCritical, api.CodeFilterAway},
		"disk held":       {condition{newest: fresh, walk: required, held: "a is open"}, api.StateResyncRequired, api.HealthCritical, reasonForeign},
		"disk removed":    {condition{newest: fresh, removed: []string{"a"}}, api.StateReplicating, api.HealthCritical, reasonDiskRemoved},
	} {
		c.frequency = 30 * time.Second
		reasons := assess(c.condition, now)
		code := ""
		if len(reasons) > 0 {
			code = reasons[0].Code
		}
		if c.condition.state() != c.state || worst(reasons) != c.health || code != c.code {
			t.Errorf("%s: %s, %s, %+v", name, c.condition.state(), worst(reasons), reasons)
		}
	}
}

func TestReasonsKeepSinceWhen(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := api.Reason{Code: "a"}, api.Reason{Code: "b"}
	first := since([]api.Reason{a}, nil, start)
	second := since([]api.Reason{b, a}, first, start.Add(time.Minute))
	if !second[0].Since.Equal(start.Add(time.Minute)) || !second[1].Since.Equal(start) {
		t.Errorf("got %+v", second)
	}
	if third := since([]api.Reason{a}, nil, start.Add(time.Hour)); !third[0].Since.Equal(start.Add(time.Hour)) {
		t.Errorf("a reason that came back: %+v", third)
	}
}
