package check

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestStoppedByTooManyFailures: a command that bears two failures is truly stopped when three have failed, be it by what ran
// or because it could not be started, and not before.
func TestStoppedByTooManyFailures(t *testing.T) {
	rollout := func(unable exec.Status) History {
		h := History{
			Ended:   at(200),
			Listed:  map[fleet.UUID]bool{id(1): true},
			Excuses: []Excuse{{Node: "n2", From: at(1), To: at(9), Why: "full disk"}},
			Runs: []Run{
				{Command: id(1), Node: "n1", Began: at(2), Did: "say", End: &End{at(3), 3}},
				{Command: id(1), Node: "n4", Began: at(2), Did: "say", End: &End{at(3), 3}},
			},
			Orders: []Order{{
				ID: id(1), Does: "say", Nodes: []string{"n1", "n2", "n3", "n4"}, Ack: Accepted, Asked: at(0), Answered: at(1), Expires: at(3600),
				Timeout: time.Hour, Pace: exec.Pace{Limited: true, Concurrency: 2, Errors: 2}, Permitted: true,
			}},
			Reports: []Report{
				{Command: id(1), Node: "n1", By: "n1", Status: exec.Failed, Exit: code(3)},
				{Command: id(1), Node: "n2", By: "n1", Status: unable},
				{Command: id(1), Node: "n3", By: "n1", Status: exec.Terminated},
				{Command: id(1), Node: "n4", By: "n1", Status: exec.Failed, Exit: code(3)},
			},
		}
		return h
	}
	for status, lies := range map[exec.Status]bool{exec.Failed: false, exec.Unknown: false, exec.DeliveryTimedOut: true, exec.Terminated: true} {
		lied := slices.ContainsFunc(Truth(rollout(status)), func(v Violation) bool { return v.Node == "n3" })
		if lied != lies {
			t.Errorf("n2 says %s: that n3 was stopped is a lie is %v, not %v", status, lied, lies)
		}
	}
}
