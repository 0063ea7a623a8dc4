package main

import (
	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
)

// plant is a bug that is built into a world, to prove that the checkers find it.
type plant int

// The bugs.
const (
	sound       plant = iota
	lateStart         // nodes that start however late after they asked
	selfGranted       // nodes that grant themselves leave
	doubleEnds        // an Apply that counts an end twice
	forgets           // a ledger that is empty after a restart
	plants
)

var plantNames = [plants]string{
	"none", "a core that ignores start-by", "a node that starts without a grant", "an Apply that counts ends twice",
	"a ledger that forgets",
}

// apply is State.Apply, with or without a bug.
func (p plant) apply(s consensus.State, e consensus.Entry, stamp int64) (consensus.State, consensus.Result) {
	next, r := s.Apply(e, stamp)
	ends, ok := e.(consensus.PutEndings)
	if p != doubleEnds || !ok || r.Why != "" {
		return next, r
	}
	// Somebody else's end is noted as well: what is counted is off by one more.
	c, ok := next.Command(ends.Command)
	if !ok {
		return next, r
	}
	for i := range c.Order.Nodes {
		if c.Rollout.State(uint32(i)) == exec.NodeGranted {
			also := consensus.PutEndings{Command: ends.Command, Ends: []exec.Ending{{Node: uint32(i), As: exec.EndedOK}}}
			if again, also := next.Apply(also, stamp); also.Why == "" {
				return again, r
			}
		}
	}
	return next, r
}
