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
	direct  bool              // no server knows it: the nodes are asked
	reports map[fleet.ID]exec.Report
	roll    roll
	left    map[fleet.ID]time.Time // when nodes were first seen to have said goodbye; zero: before the watch began
	synced  bool                   // servers have told all that they had when the watch began
}

func newSight(id fleet.UUID, nodes []fleet.ID, expires time.Time, all roll) *sight {
	s := &sight{id: id, nodes: nodes, expires: expires, reports: map[fleet.ID]exec.Report{}, left: map[fleet.ID]time.Time{}}
	s.see(all, time.Time{})
	return s
}

// see takes who is there now.
func (s *sight) see(all roll, now time.Time) {
	s.roll = all
	for id, n := range all.nodes {
		_, known := s.left[id]
		switch gone := n.Status == fleet.Left; {
		case gone && !known:
			s.left[id] = now
		case !gone:
			delete(s.left, id)
		}
	}
}

// maybeBack is how long a node that said goodbye while it runs the command is waited for: its agent is most likely being
// restarted, by a package that the command installs for example, and back within seconds.
const maybeBack = 15 * time.Second

// reachable reports whether a node can be expected to tell more.
func (s *sight) reachable(now time.Time) func(fleet.ID) bool {
	return func(id fleet.ID) bool {
		since, left := s.left[id]
		return s.roll.online(id) || left && now.Sub(since) < maybeBack && s.reports[id].Status == exec.InProgress
	}
}

// take takes one piece of news. Servers may tell the same twice and in any order: the newest of each node counts.
func (s *sight) take(u node.Update) {
	if u.Info != nil && u.Info.ID == s.id {
		if s.info == nil || fresher(*s.info, *u.Info) {
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

// fresher reports whether what a server says of a command is newer than what another has said. A rollout only ever goes
// on: it grants, takes ends, begins waves and stops.
func fresher(old, new node.CommandInfo) bool {
	a, b := old.Rollout, new.Rollout
	switch {
	case (old.Cancelled != 0) != (new.Cancelled != 0):
		return new.Cancelled != 0
	case len(old.Cancels) != len(new.Cancels):
		return len(new.Cancels) > len(old.Cancels)
	case (a.Stopped != "") != (b.Stopped != ""):
		return b.Stopped != ""
	case a.Wave != b.Wave:
		return b.Wave > a.Wave
	case begun(a) != begun(b):
		return begun(b) > begun(a)
	}
	return ended(b) >= ended(a)
}

// begun counts the nodes that had their turn, whatever came of it.
func begun(r exec.Rollout) (n int) {
	for i := range r.Nodes {
		if s := r.State(uint32(i)); s != exec.NodeIdle && s != exec.NodeBarred {
			n++
		}
	}
	return n
}

func ended(r exec.Rollout) int { return len(r.Nodes) - int(r.Idle) - int(r.Running) }

func (s *sight) rollout() exec.Rollout {
	if s.info == nil {
		return exec.Rollout{}
	}
	return s.info.Rollout
}

func (s *sight) pace() exec.Pace {
	if s.info == nil {
		return exec.Pace{}
	}
	return s.info.Body.Pace
}

func (s *sight) outcomes(now time.Time) []exec.Outcome {
	outcomes := s.rollout().Outcomes(s.nodes, s.reports, s.reachable(now), s.expires, now)
	sameWords(outcomes)
	return outcomes
}

// sameWords gives nodes that were never started, and have not said so yet, the words of those that have: they are shown
// as one group.
func sameWords(outcomes []exec.Outcome) {
	words := ""
	for _, o := range outcomes {
		if o.Status == exec.Terminated && o.Report.Seq > 0 {
			words = o.Report.Detail
			break
		}
	}
	for i := range outcomes {
		if o := &outcomes[i]; words != "" && o.Status == exec.Terminated && o.Report.Seq == 0 {
			o.Report.Detail = words
		}
	}
}

// names names nodes as a nodeset.
func (s *sight) names(ids []fleet.ID) string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, s.roll.name(id))
	}
	return fleet.FoldNames(names)
}

// count sums outcomes up. Nodes may have told of more than the servers' last word on the rollout has counted.
func (s *sight) count(outcomes []exec.Outcome) exec.Tally {
	if s.info == nil {
		return exec.Count(outcomes)
	}
	return s.info.Body.Tally(s.info.Rollout, outcomes)
}

// heardAll reports whether no news can change what is shown now, but for nodes whose end is unknown.
func (s *sight) heardAll(outcomes []exec.Outcome, t exec.Tally) bool {
	return s.info != nil && t.Settled() && t.Unreachable == 0 && t.Unknown == 0 && s.counted(outcomes)
}

// mayBeAll reports whether nothing is to be waited for, unless there is news on its way that was not heard yet.
func (s *sight) mayBeAll(outcomes []exec.Outcome, t exec.Tally, silent bool) bool {
	return s.info != nil && t.Settled() && (silent || s.synced && s.counted(outcomes))
}

// counted reports whether the servers' last word on the rollout has all that nodes have told: only then is it known
// whether it was stopped, and why. News of nodes and of the rollout come on two ways.
func (s *sight) counted(outcomes []exec.Outcome) bool {
	r := s.rollout()
	if len(r.Nodes) != len(outcomes) {
		return !s.pace().Limited
	}
	for i, o := range outcomes {
		state := r.State(uint32(i))
		switch as, ended := exec.EndKindOf(o.Report.Status); {
		case !ended:
		case o.Report.Status == exec.Terminated && r.Stopped == "":
			return false
		case (as == exec.EndedOK || as == exec.EndedFailed) && (state == exec.NodeIdle || state == exec.NodeGranted):
			return false
		}
	}
	return true
}

// stalled reports whether a strict rollout can go on only if nodes come back that cannot be reached now: each of them may
// still fail, and so nothing may be started. The nodes are returned.
func (s *sight) stalled(outcomes []exec.Outcome) []fleet.ID {
	p, r := s.pace(), s.rollout()
	if !p.Strict || r.Stopped != "" || r.Idle == 0 || r.Room(p) > 0 {
		return nil
	}
	var waitedFor []fleet.ID
	for i, o := range outcomes {
		if r.State(uint32(i)) != exec.NodeGranted {
			continue
		}
		if o.Reachable {
			return nil
		}
		waitedFor = append(waitedFor, o.Node)
	}
	return waitedFor
}

// failed reports whether an outcome is one that is said at once.
func failed(o exec.Outcome) bool {
	switch o.Status {
	case exec.Failed, exec.TimedOut, exec.Refused, exec.Undeliverable, exec.InvalidPlatform, exec.DeliveryTimedOut, exec.Unknown:
		return true
	case exec.Pending, exec.InProgress, exec.Success, exec.Cancelled, exec.Skipped, exec.Terminated: // a stop is said once
		return false
	}
	return false
}
