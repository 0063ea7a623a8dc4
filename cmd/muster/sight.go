package main

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// sight is what the command line has seen of one command so far. It has no clock and asks nobody.
type sight struct {
	id      fleet.UUID
	nodes   []fleet.ID
	expires time.Time
	info    *node.CommandInfo // nil until servers have told
	reports map[fleet.ID]exec.Report
	roll    roll
	synced  bool // servers have told all that they had when the watch began
}

func newSight(id fleet.UUID, nodes []fleet.ID, expires time.Time, all roll) *sight {
	return &sight{id: id, nodes: nodes, expires: expires, reports: map[fleet.ID]exec.Report{}, roll: all}
}

// take takes one piece of news. Servers may tell the same twice and in any order: the newest of each node counts.
func (s *sight) take(u node.Update) {
	if u.Info != nil && u.Info.ID == s.id {
		if s.info == nil || u.Info.Cancelled != 0 {
			s.info = u.Info
		}
		s.nodes, s.expires = s.info.Nodes, time.UnixMilli(s.info.Body.Header.Expires)
	}
	if r := u.Report; r != nil && r.Command == s.id {
		if old, had := s.reports[r.Node]; !had || exec.Supersedes(old, *r) {
			s.reports[r.Node] = *r
		}
	}
	s.synced = s.synced || u.Synced
}

func (s *sight) outcomes(now time.Time) []exec.Outcome {
	return exec.Outcomes(s.nodes, s.reports, s.roll.online, s.expires, now)
}

// heardAll reports whether no news can change what is shown now, but for nodes whose end is unknown.
func (s *sight) heardAll(t exec.Tally) bool {
	return s.info != nil && t.Settled() && t.Unreachable == 0 && t.Unknown == 0
}

// mayBeAll reports whether nothing is to be waited for, unless there is news on its way that was not heard yet.
func (s *sight) mayBeAll(t exec.Tally) bool { return s.info != nil && t.Settled() }

// failed reports whether an outcome is one that is said at once.
func failed(o exec.Outcome) bool {
	switch o.Status {
	case exec.Failed, exec.TimedOut, exec.Refused, exec.Undeliverable, exec.DeliveryTimedOut, exec.Unknown, exec.Terminated:
		return true
	case exec.Pending, exec.InProgress, exec.Success, exec.Cancelled:
		return false
	}
	return false
}
