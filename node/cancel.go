package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// cancelRung hears of a cancel. What no operator signed leaves no trace here.
func (n *Node) cancelRung(at auth.Instant, b Bell) []Effect {
	if len(b.Rider) != 1 {
		return nil // a cancel always fits; the cursor brings it otherwise
	}
	cancel, worth := open(n.record, b.Rider[0], auth.ForCancel, exec.MaxCommand, func(c exec.Cancel) auth.Header { return c.Header })
	switch {
	case worth == unsure && len(b.Holders) > 0:
		return n.hintedActs(at, b.Holders[0]) // the cursor brings it once more
	case worth != genuine || cancel.Command != b.Statement || !cancel.Concerns(n.self):
		return nil
	}
	x := n.orders.hint(b.Statement)
	if x == nil {
		x = n.orders.known(b.Statement)
	}
	x.holders = n.addHolders(x.holders, b.Holders)
	x.act = max(x.act, b.Act)
	before := x.obeyed
	out, _ := n.takeCancel(at, x, b.Rider[0])
	if x.obeyed && !before { // the first time; also where the run has ended already, for it may go on elsewhere
		set, _ := n.sets.get(x.set)
		out = append(out, n.passOn(at, x, BellCancel, b.Rider[0], set)...)
	}
	return out
}

// takeCancel obeys a cancel, also one of a command that this node has not seen yet. It is false when the record is too
// old to judge it.
func (n *Node) takeCancel(at auth.Instant, x *order, statement auth.Envelope) ([]Effect, bool) {
	self, ok := n.member()
	if !ok || x.obeyed {
		return nil, true
	}
	cancel, err := exec.JudgeCancel(statement, n.record, self, n.Now(at))
	switch {
	case fleet.KindOf(err) == fleet.Unavailable:
		return nil, false
	case cancel.Command == x.id && !cancel.Concerns(n.self): // for others: no refusal
		return nil, true
	case err != nil || cancel.Command != x.id:
		return n.cancelRefused(at, x, err), true
	}
	x.obeyed = true
	if x.status.Final() {
		return nil, true
	}
	out := append(n.note(at, x, exec.DecidedCancel, "cancelled by "+n.signer(statement.Key)), KillRun{Command: x.id})
	return append(out, n.judge(at, x)...), true
}

// takeCancels obeys those of several cancels that are for this node. It is false when the record is too old to judge
// one of them.
func (n *Node) takeCancels(at auth.Instant, x *order, all []auth.Envelope) (out []Effect, judged bool) {
	for _, statement := range all {
		effects, ok := n.takeCancel(at, x, statement)
		if !ok {
			return nil, false
		}
		out = append(out, effects...)
	}
	return out, true
}

// meant lists those of a set for whom a cancel is.
func meant(cancel auth.Envelope, set []fleet.ID) []fleet.ID {
	c, err := auth.Peek[exec.Cancel](cancel)
	if err != nil || len(c.Nodes) == 0 {
		return set
	}
	var out []fleet.ID
	for _, id := range c.Nodes {
		if _, ok := slices.BinarySearchFunc(set, id, fleet.ID.Compare); ok {
			out = append(out, id)
		}
	}
	return out
}

func (n *Node) cancelRefused(at auth.Instant, x *order, err error) []Effect {
	if x.warned {
		return nil
	}
	x.warned = true
	text := "it names another command"
	if err != nil {
		text = err.Error()
	}
	out := n.note(at, x, exec.DecidedCancel, "a cancel does not count: "+text)
	return append(out, Warn{"a cancel of command " + x.id.String() + " was refused: " + text})
}

// A node that was down, stopped or cut off may hear of an order before it hears of its cancel, which was committed long
// ago: bells that were on their way find it first.
const (
	// lateAfter is how old an order is, or how young this agent, when a cancel may have been missed. It is above what a
	// bell takes, the packets of a lost connection sent again included.
	lateAfter = 5 * time.Second
	// cancelWait is how long the leader is asked; then the order starts. Without a leader nobody can cancel, and what was
	// committed goes on.
	cancelWait = 10 * time.Second
)

// mayBeCancelled reports whether the leader is to be asked about an order before it starts.
func (n *Node) mayBeCancelled(at auth.Instant, x *order) bool {
	if x.direct || x.leave.until != 0 { // the leader does not know of it; or it said so with the grant
		return false
	}
	late := at.Boot < n.began+lateAfter || n.Now(at).UnixMilli() > x.issued+lateAfter.Milliseconds()
	return late && !x.uncut && at.Boot < x.since+cancelWait
}

func (n *Node) askCancel(at auth.Instant, x *order) []Effect {
	if x.asking {
		return nil
	}
	x.asking = true
	return append(n.note(at, x, exec.DecidedCancel, "asks the leader whether it was cancelled meanwhile"), FetchCancel{Command: x.id})
}

func (n *Node) cancelFetched(at auth.Instant, ev CancelFetched) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil {
		return nil
	}
	x.asking = false
	if ev.Failed {
		return nil // asked again when it is judged again
	}
	out, judged := n.takeCancels(at, x, ev.Cancel)
	if !judged || x.obeyed {
		return out
	}
	x.uncut, x.needs = true, ev.RecordLen
	if x.leave.cancelled && x.have && x.status == exec.Pending && !x.refusing {
		// By somebody whose cancel does not count here. Nothing of the command starts any more all the same.
		return append(out, n.refuse(at, x, stopped("the command was cancelled as a whole before it started here"))...)
	}
	return append(out, n.judge(at, x)...)
}
