package uploader

import (
	"strings"
	"testing"
	"time"

	"lifeboat/tracker"
)

func TestDecide(t *testing.T) {
	walking := tracker.Walk{Number: 3, Required: true}
	walked := tracker.Walk{Number: 3}
	sealed := func(numbers ...uint64) []tracker.Epoch {
		var all []tracker.Epoch
		for _, n := range numbers {
			all = append(all, tracker.Epoch{Number: n})
		}
		return all
	}
	for name, c := range map[string]struct {
		situation
		want   stepKind
		epoch  uint64 // acknowledged or shipped
		walk   uint64
		reason string
	}{
		"new VM":                            {situation{vm: tracker.VM{Open: 1, Walk: walking}}, stepWalk, 0, 3, ""},
		"walk has been closed":              {situation{vm: tracker.VM{Open: 2, Walk: walking, Sealed: sealed(1)}}, stepShip, 1, 3, ""},
		"closing point was committed":       {situation{vm: tracker.VM{Open: 2, Walk: walking, Sealed: sealed(1)}, newest: 1, newestWalk: 3}, stepAcknowledge, 1, 3, ""},
		"closing epoch merged, uncommitted": {situation{vm: tracker.VM{Open: 3, Walk: walking}, newest: 1, newestWalk: 2}, stepWalk, 0, 3, ""},
		"closing epoch merged, committed":   {situation{vm: tracker.VM{Open: 3, Walk: walking}, newest: 1, newestWalk: 3}, stepRequireWalk, 0, 0, "merged"},
		"closing epoch is somebody else's":  {situation{vm: tracker.VM{Open: 3, Walk: walking, Sealed: sealed(2)}, newest: 2}, stepDiverged, 0, 0, "does not close"},
		"the point is of another instant":   {situation{vm: tracker.VM{Open: 8, Walk: walked, Sealed: sealed(6, 7)}, newest: 6, newestTime: time.Unix(1, 0)}, stepDiverged, 0, 0, "instant"},
		"nothing to do":                     {situation{vm: tracker.VM{Open: 6, Walk: walked}, newest: 5, newestWalk: 3, acknowledged: 5}, stepIdle, 0, 0, ""},
		"oldest is shipped first":           {situation{vm: tracker.VM{Open: 8, Walk: walked, Sealed: sealed(6, 7)}, newest: 5, acknowledged: 5}, stepShip, 6, 0, ""},
		"committed, not acknowledged":       {situation{vm: tracker.VM{Open: 8, Walk: walked, Sealed: sealed(6, 7)}, newest: 6, acknowledged: 5}, stepAcknowledge, 6, 0, ""},
		"merging leaves holes in numbers":   {situation{vm: tracker.VM{Open: 12, Walk: walked, Sealed: sealed(11)}, newest: 5, acknowledged: 5}, stepShip, 11, 0, ""},
		"the container lost its newest":     {situation{vm: tracker.VM{Open: 8, Walk: walked, Sealed: sealed(7)}, newest: 5, acknowledged: 6}, stepRequireWalk, 0, 0, "lost"},
		"the container lost everything":     {situation{vm: tracker.VM{Open: 8, Walk: walked, Sealed: sealed(7)}}, stepRequireWalk, 0, 0, "no recovery point"},
		"lost, and a walk goes on already":  {situation{vm: tracker.VM{Open: 8, Walk: walking}, newest: 5, acknowledged: 6}, stepWalk, 0, 3, ""},
		"the filter's state is older":       {situation{vm: tracker.VM{Open: 5, Walk: walked}, newest: 5, acknowledged: 5}, stepDiverged, 0, 0, "only at epoch 5"},
		"the filter's state is much older":  {situation{vm: tracker.VM{Open: 2, Walk: walking}, newest: 5}, stepDiverged, 0, 0, "only at epoch 2"},
	} {
		got := decide(c.situation)
		epoch := got.epoch + got.sealed.Number
		if got.kind != c.want || epoch != c.epoch || got.walk != c.walk || !strings.Contains(got.reason, c.reason) {
			t.Errorf("%s: got %+v", name, got)
		}
		if (got.reason == "") != (c.reason == "") {
			t.Errorf("%s: reason %q", name, got.reason)
		}
	}
}
