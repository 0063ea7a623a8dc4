package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// fault is one thing that goes wrong.
type fault string

const (
	faultKill  fault = "kill"  // the agent ends at once, and is started again
	faultPause fault = "pause" // it stands still
	faultPart  fault = "part"  // some hosts are cut off from the others
	faultLead  fault = "lead"  // the leader hands the lead over
	faultAlone fault = "alone" // one host is cut off from all
)

// trouble is a fault with when it begins and ends, in the time of the history, and on whom it falls.
type trouble struct {
	fault fault
	from  time.Duration
	to    time.Duration
	hosts []int // at least one; never more than a minority
	first bool  // the first of the hosts is whoever leads then
}

// The shape of a history.
const (
	hosts      = 5
	clients    = 12
	keys       = 4
	span       = 12 * time.Second // of a history
	thinking   = 90 * time.Millisecond
	shortFault = 300 * time.Millisecond
	longFault  = 4 * time.Second
	election   = 2600 * time.Millisecond // by then the others have another leader
	betweenMax = 1500 * time.Millisecond
)

// seedOf is that of one history: whoever runs it alone runs the same.
func seedOf(seed uint64, history int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(history))) }

// planOf draws the troubles of a history, one after the other.
func planOf(random *rand.Rand, kinds []fault) (plan []trouble) {
	for at := 500 * time.Millisecond; ; {
		t := trouble{fault: kinds[random.IntN(len(kinds))], from: at, first: random.IntN(3) > 0}
		lasts := shortFault + upTo(random, longFault)
		if t.fault == faultPause && t.first { // a leader that stands still until another leads, and then goes on
			lasts = election + upTo(random, longFault-election/2)
		}
		t.to = at + lasts
		all := random.Perm(hosts)
		t.hosts = all[:1]
		if t.fault == faultPart {
			t.hosts = all[:1+random.IntN((hosts-1)/2)]
		}
		t.hosts = slices.Clone(t.hosts)
		if t.to > span {
			return plan
		}
		plan = append(plan, t)
		at = t.to + upTo(random, betweenMax)
	}
}

func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}
