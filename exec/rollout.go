package exec

import (
	"bytes"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Times of a grant.
const (
	// StartBy is how long after it asked a node may start what it was granted, by its boot time.
	StartBy = 15 * time.Second
	// SlotMargin is what the leader waits beyond StartBy and the command's timeout before it frees a silent node's slot.
	SlotMargin = 30 * time.Second
)

// NodeState says how far a rollout has come with one node.
type NodeState uint8

// The states of a node in a rollout.
const (
	NodeIdle     NodeState = iota // may be granted
	NodeGranted                   // was given leave to start, and has not ended
	NodeOK                        // was granted, and ended well
	NodeFailed                    // was granted, and ended in a way that counts against Pace.Errors
	NodeAside                     // was granted, may have begun, and ended in a way that counts for nothing
	NodeFreed                     // was granted, is silent, and another may have its place; may be granted again
	NodeDeclined                  // took no part: it refused, came too late, or ended without a grant
	NodeBarred                    // of a command with After: not let in
	nodeStates
)

// EndKind says what a node's end counts as.
type EndKind uint8

// The kinds of ends.
const (
	EndedOK     EndKind = iota + 1
	EndedFailed         // counts against Pace.Errors
	EndedAside          // counts for nothing
	EndFreed            // no end at all: a silent node's place goes to another; never where Pace.Strict
	EndedUnrun          // nothing ever ran there: it takes no part
)

// EndKindOf returns what a node's status counts as in a rollout, or false when the node has not ended. A run of which
// nobody knows the end counts as a failure, and goes on counting as one if it turns out well.
func EndKindOf(s Status) (EndKind, bool) {
	switch s {
	case Success:
		return EndedOK, true
	case Failed, TimedOut, Unknown:
		return EndedFailed, true
	case Cancelled, InvalidPlatform:
		return EndedAside, true
	case DeliveryTimedOut, Undeliverable, Refused, Terminated:
		return EndedUnrun, true
	case Pending, InProgress, Skipped:
		return 0, false
	}
	return 0, false
}

// Ending is the end of one node's part in a rollout.
type Ending struct {
	Node uint32 // its place in the frozen set
	As   EndKind
}

// Why a rollout gives no more grants.
const (
	StoppedByErrors = "errors"    // more failures than Pace.Errors
	StoppedByGate   = "gate"      // a gate did not succeed on every node that it was for
	StoppedByCancel = "cancelled" // somebody cancelled the command
	StoppedUnneeded = "unneeded"  // of a command with After: what it waited for has gone by
	// StoppedUnsaid is of a Tally only: nodes say that the command was stopped, and why is not heard of yet.
	StoppedUnsaid = "stopped"
)

// Rollout is how far a paced command has come: an immutable value. Its methods keep the bounds of the command's Pace,
// whatever is asked of them and in whatever order. The zero Rollout is that of a command that is not Limited.
type Rollout struct {
	Nodes   []byte // a NodeState for each node, in the order of the frozen set; shared, never changed
	Idle    uint32 // nodes that may be granted
	Running uint32 // nodes granted and not ended, without those freed
	Granted uint32 // nodes granted, without those that took no part
	Failed  uint32
	Wave    uint32 // index of the wave whose share counts
	Waits   bool   // of a command with After: nodes may still be let in
	Stopped string // why there are no more grants; empty: there may be
}

// NewRollout returns the beginning of a command's rollout.
func NewRollout(c Command) Rollout {
	if !c.Pace.Limited {
		return Rollout{}
	}
	r := Rollout{Nodes: make([]byte, c.Count)}
	if c.After.IsZero() {
		r.Idle = c.Count
		return r
	}
	for i := range r.Nodes {
		r.Nodes[i] = byte(NodeBarred)
	}
	r.Waits = true
	return r
}

// State returns how far the rollout has come with the node at place i of the frozen set.
func (r Rollout) State(i uint32) NodeState {
	if uint64(i) >= uint64(len(r.Nodes)) {
		return NodeBarred
	}
	return NodeState(r.Nodes[i])
}

// Done reports whether no node runs and none will be granted any more. Only a silent node that speaks again can turn it
// back.
func (r Rollout) Done() bool {
	return r.Running == 0 && (r.Stopped != "" || r.Idle == 0 && !r.Waits)
}

// Equal reports whether both are the same.
func (r Rollout) Equal(o Rollout) bool {
	return bytes.Equal(r.Nodes, o.Nodes) && r.Idle == o.Idle && r.Running == o.Running && r.Granted == o.Granted &&
		r.Failed == o.Failed && r.Wave == o.Wave && r.Waits == o.Waits && r.Stopped == o.Stopped
}

// Room returns how many idle nodes may be granted now.
func (r Rollout) Room(p Pace) uint32 {
	return uint32(min(r.slots(p), r.share(p), uint64(r.Idle)))
}

// slots returns how many nodes more may run at once.
func (r Rollout) slots(p Pace) uint64 {
	if r.Stopped != "" || uint64(r.Failed) > uint64(p.Errors) {
		return 0
	}
	slots := uint64(len(r.Nodes))
	if p.Concurrency > 0 {
		slots = min(slots, sub(uint64(p.Concurrency), uint64(r.Running)))
	}
	if p.Strict {
		slots = min(slots, sub(uint64(p.Errors)+1, uint64(r.Failed)+uint64(r.Running)))
	}
	return slots
}

// share returns how many nodes more may be granted for the first time in this wave.
func (r Rollout) share(p Pace) uint64 {
	if len(p.Waves) == 0 {
		return uint64(len(r.Nodes))
	}
	if uint64(r.Wave) >= uint64(len(p.Waves)) {
		return 0
	}
	return sub(uint64(p.Waves[r.Wave]), uint64(r.Granted))
}

func sub(a, b uint64) uint64 { return a - min(a, b) }

// Pick returns those of candidates, in their order, that may be granted now, all together.
func (r Rollout) Pick(p Pace, candidates []uint32) []uint32 {
	slots, share := r.slots(p), r.share(p)
	taken := make(map[uint32]bool, min(uint64(len(candidates)), slots))
	var out []uint32
	for _, i := range candidates {
		state := r.State(i)
		if uint64(len(out)) >= slots || taken[i] || state != NodeFreed && (state != NodeIdle || share == 0) {
			continue
		}
		if state == NodeIdle {
			share--
		}
		taken[i] = true
		out = append(out, i)
	}
	return out
}

// Grant gives nodes leave to start: all of them, or none and the reason.
func (r Rollout) Grant(p Pace, nodes []uint32) (Rollout, error) {
	if len(nodes) == 0 {
		return r, fleet.Errorf(fleet.Invalid, "a grant for no node")
	}
	if r.Stopped != "" {
		return r, fleet.Errorf(fleet.Conflict, "the command was stopped (%s)", r.Stopped)
	}
	if picked := r.Pick(p, nodes); len(picked) != len(nodes) {
		return r, fleet.Errorf(fleet.Conflict, "%d of the %d nodes cannot be granted now", len(nodes)-len(picked), len(nodes))
	}
	next := r
	next.Nodes = slices.Clone(r.Nodes)
	for _, i := range nodes {
		next.set(i, NodeGranted)
	}
	return next, nil
}

// End notes what became of nodes. What says nothing new, or cannot be, is left out; so it does not matter how often an
// end is told. The first end of a node stands. A node that was never granted is Declined, however it says it ended: it
// took no part, and must not make it seem that a bound was broken. One that was granted and never ran is Declined, too, and
// its place in the wave goes to another: a canary that did not sing says nothing.
func (r Rollout) End(p Pace, ends []Ending) Rollout {
	next, changed := r, false
	for _, e := range ends {
		state, ok := endState(next.State(e.Node), e.As, p.Strict)
		if !ok || uint64(e.Node) >= uint64(len(next.Nodes)) {
			continue
		}
		if !changed {
			next.Nodes, changed = slices.Clone(r.Nodes), true
		}
		next.set(e.Node, state)
	}
	return next.settle(p)
}

// endState returns what a node in state old becomes by an end.
func endState(old NodeState, as EndKind, strict bool) (NodeState, bool) {
	switch old {
	case NodeGranted, NodeFreed:
	case NodeIdle, NodeBarred:
		return NodeDeclined, as == EndedOK || as == EndedFailed || as == EndedAside || as == EndedUnrun
	case NodeOK, NodeFailed, NodeAside, NodeDeclined:
		return old, false
	default:
		return old, false
	}
	switch as {
	case EndedOK:
		return NodeOK, true
	case EndedFailed:
		return NodeFailed, true
	case EndedAside:
		return NodeAside, true
	case EndFreed:
		return NodeFreed, old == NodeGranted && !strict
	case EndedUnrun:
		return NodeDeclined, true
	}
	return old, false
}

// Withdraw takes out nodes that were not granted: they were cancelled one by one. What runs there ends by its own word.
func (r Rollout) Withdraw(p Pace, nodes []uint32) Rollout {
	var ends []Ending
	for _, i := range nodes {
		if s := r.State(i); s == NodeIdle || s == NodeBarred {
			ends = append(ends, Ending{i, EndedAside})
		}
	}
	return r.End(p, ends)
}

// Stop ends the giving of grants. The first reason stands.
func (r Rollout) Stop(why string) Rollout {
	if len(r.Nodes) > 0 && r.Stopped == "" {
		r.Stopped = why
	}
	return r
}

// settle draws the consequences of ends: it stops, or begins the next wave where no gate stands before it.
func (r Rollout) settle(p Pace) Rollout {
	if r.Failed > p.Errors {
		r = r.Stop(StoppedByErrors)
	}
	for len(p.Gates) == 0 && r.waveEnded(p) {
		r.Wave++
	}
	return r
}

// waveEnded reports whether the wave has all its nodes, all of them have ended, and another wave is to follow.
func (r Rollout) waveEnded(p Pace) bool {
	return r.Stopped == "" && uint64(r.Wave)+1 < uint64(len(p.Waves)) && r.share(p) == 0 && r.Running == 0 && r.Idle > 0
}

// set changes one node's state and what is counted by it. r.Nodes must be r's own.
func (r *Rollout) set(i uint32, to NodeState) {
	from := NodeState(r.Nodes[i])
	r.count(from, ^uint32(0)) // minus one
	r.count(to, 1)
	r.Nodes[i] = byte(to)
}

func (r *Rollout) count(s NodeState, by uint32) {
	switch s {
	case NodeIdle:
		r.Idle += by
	case NodeGranted:
		r.Running += by
		r.Granted += by
	case NodeFailed:
		r.Failed += by
		r.Granted += by
	case NodeOK, NodeAside, NodeFreed:
		r.Granted += by
	case NodeDeclined, NodeBarred:
	}
}

// letIn makes barred nodes idle.
func (r Rollout) letIn(who func(i uint32) bool) Rollout {
	cloned := false
	for i := range r.Nodes {
		if NodeState(r.Nodes[i]) != NodeBarred || !who(uint32(i)) {
			continue
		}
		if !cloned {
			r.Nodes, cloned = slices.Clone(r.Nodes), true
		}
		r.set(uint32(i), NodeIdle)
	}
	return r
}

// Check reports why r cannot be the rollout of c, or nil.
func (r Rollout) Check(c Command) error {
	want := Rollout{Nodes: r.Nodes, Wave: r.Wave, Waits: r.Waits, Stopped: r.Stopped}
	for _, s := range r.Nodes {
		state := NodeState(s)
		want.count(state, 1)
		switch state {
		case NodeFreed:
			if c.Pace.Strict {
				return malformedRollout("a freed node of a strict rollout")
			}
		case NodeBarred:
			if c.After.IsZero() {
				return malformedRollout("a barred node of a command that waits for nothing")
			}
		case NodeIdle, NodeGranted, NodeOK, NodeFailed, NodeAside, NodeDeclined:
		default:
			return malformedRollout("a state of a node that is none")
		}
	}
	switch {
	case !c.Pace.Limited && !r.Equal(Rollout{}), c.Pace.Limited && uint64(len(r.Nodes)) != uint64(c.Count):
		return malformedRollout("it is of another set of nodes")
	case !r.Equal(want):
		return malformedRollout("it is counted wrongly")
	case r.Waits && c.After.IsZero(), uint64(r.Wave) >= max(1, uint64(len(c.Pace.Waves))):
		return malformedRollout("it waits for what will not come")
	}
	switch r.Stopped {
	case "", StoppedByErrors, StoppedByGate, StoppedByCancel, StoppedUnneeded:
	default:
		return malformedRollout("it was stopped for no known reason")
	}
	return r.checkBounds(c.Pace)
}

// checkBounds reports which bound of the pace is broken, or nil.
func (r Rollout) checkBounds(p Pace) error {
	switch {
	case len(r.Nodes) == 0:
		return nil
	case p.Concurrency > 0 && r.Running > p.Concurrency:
		return malformedRollout("more nodes run than may at a time")
	case p.Strict && uint64(r.Failed)+uint64(r.Running) > uint64(p.Errors)+1:
		return malformedRollout("more nodes may fail than are borne")
	case r.Failed > p.Errors && r.Stopped == "":
		return malformedRollout("more nodes failed than are borne, and it goes on")
	case len(p.Waves) > 0 && r.Granted > p.Waves[r.Wave]:
		return malformedRollout("more nodes were granted than the wave has")
	}
	return nil
}

func malformedRollout(why string) error {
	return fleet.Errorf(fleet.Invalid, "malformed rollout: %s", why)
}
