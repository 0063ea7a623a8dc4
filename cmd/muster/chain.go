package main

import (
	"time"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// chain is a fleet's record with every head that it had on the way, by which another's record can be compared that is shorter.
// It decides alone, and asks nobody.
type chain struct {
	record auth.Record
	heads  []fleet.ID // after each act
}

func newChain() chain { return chain{record: auth.NewRecord()} }

// take returns the chain with one act more, which is verified.
func (c chain) take(act auth.Act, of fleet.ID) (chain, error) {
	next, err := c.record.Apply(act, of)
	if err != nil {
		return c, err
	}
	return chain{next, append(c.heads, next.Head)}, nil
}

// goOn returns the chain with what an agent gave of its own record. One that is longer must bring it further; one that is
// shorter changes nothing; and as far as both go they must be the same.
func (c chain) goOn(answer api.Acts, of fleet.ID, now time.Time) (chain, error) {
	if answer.Length > c.record.Length && len(answer.Acts) == 0 {
		return c, fleet.Errorf(fleet.Unavailable, "it has %d acts, and gives none after the first %d", answer.Length, c.record.Length)
	}
	next := c
	for _, act := range answer.Acts {
		if act.Time > now.Add(auth.MaxSkew).UnixMilli() {
			return c, fleet.Errorf(fleet.Denied, "act %d is of %s, in the future of this clock", act.Index, when(time.UnixMilli(act.Time))).
				Hinted("compare the clocks: date -u")
		}
		var err error
		if next, err = next.take(act, of); err != nil {
			return c, err
		}
	}
	if answer.Length > 0 && answer.Length <= next.record.Length && next.heads[answer.Length-1] != answer.Head {
		return c, fleet.Errorf(fleet.Conflict, "its first %d acts are others than those that were verified here", answer.Length)
	}
	return next, nil
}
