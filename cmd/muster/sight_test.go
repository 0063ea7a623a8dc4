package main

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestGoodbyes: a node that says goodbye while it runs the command is waited for, as its agent is most likely being restarted;
// one that is lost, one that does not run it, one that was gone before and one that does not come back are not.
func TestGoodbyes(t *testing.T) {
	t.Parallel()
	command, id, began := fleet.UUID{1}, fleet.ID{1}, time.UnixMilli(1_800_000_000_000)
	rollOf := func(s fleet.Status) roll {
		return newRoll([]api.Node{{Member: fleet.Member{ID: id, Name: "a", Status: s}}})
	}
	for name, c := range map[string]struct {
		before, now fleet.Status
		report      exec.Status
		after       time.Duration
		waits       bool
	}{
		"it runs the command":       {fleet.Online, fleet.Left, exec.InProgress, 0, true},
		"for a while":               {fleet.Online, fleet.Left, exec.InProgress, maybeBack - 1, true},
		"not for ever":              {fleet.Online, fleet.Left, exec.InProgress, maybeBack, false},
		"it has not begun":          {fleet.Online, fleet.Left, exec.Pending, 0, false},
		"it is lost":                {fleet.Online, fleet.ConnectionLost, exec.InProgress, 0, false},
		"it was gone before":        {fleet.Left, fleet.Left, exec.InProgress, 0, false},
		"it was back, and is there": {fleet.Left, fleet.Online, exec.InProgress, 0, true},
	} {
		s := newSight(command, []fleet.ID{id}, began.Add(time.Hour), rollOf(c.before))
		s.take(node.Update{Report: &exec.Report{Command: command, Node: id, Seq: 1, Status: c.report}})
		s.see(rollOf(c.now), began)
		s.see(rollOf(c.now), began.Add(time.Second)) // that it is still gone begins nothing anew
		now := began.Add(c.after)
		if waits := !exec.Count(s.outcomes(now)).Settled(); waits != c.waits {
			t.Errorf("%s: waits is %v", name, waits)
		}
	}
	s := newSight(command, []fleet.ID{id}, began.Add(time.Hour), rollOf(fleet.Online))
	s.take(node.Update{Report: &exec.Report{Command: command, Node: id, Seq: 1, Status: exec.InProgress}})
	s.see(rollOf(fleet.Left), began)
	s.see(rollOf(fleet.Online), began.Add(time.Minute))
	s.see(rollOf(fleet.Left), began.Add(time.Hour))
	if exec.Count(s.outcomes(began.Add(time.Hour))).Settled() {
		t.Error("the second goodbye is not waited for")
	}
}
