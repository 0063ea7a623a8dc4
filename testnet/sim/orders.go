package main

import (
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// signed is an order that the operator has signed.
type signed struct {
	exec.Order
	id   fleet.UUID
	body exec.Command
}

// order signs a command for hosts. change alters it before.
func (w *world) order(to []*host, target string, change func(*exec.Command)) signed {
	set := make([]fleet.ID, len(to))
	for i, h := range to {
		set[i] = h.id
	}
	set = exec.SortIDs(set)
	w.fleet.Now = w.wall()
	c := exec.Command{
		Header: w.fleet.Header(exec.DefaultExpires), Target: target, Count: uint32(len(set)), Set: exec.SetDigest(set),
		Run: exec.Run{Timeout: time.Minute.Milliseconds()},
	}
	change(&c)
	statement := w.fleet.Sign(auth.ForCommand, c)
	return signed{exec.Order{Statement: statement, Nodes: set}, c.Header.ID, c}
}

// propose brings an entry to the leader from a host, as a person at its prompt would: until it is answered. Whatever is
// proposed so is idempotent.
func (w *world) propose(from *host, e consensus.Entry, done func(consensus.Result)) {
	retry := func() { w.after(time.Second, func() { w.propose(from, e, done) }) }
	if !from.running() {
		retry()
		return
	}
	life := from.life
	w.after(2*writeTimeout, func() { // its answer is lost with the host
		if from.life != life && done != nil {
			w.propose(w.hosts[w.rand.IntN(len(w.hosts))], e, done)
		}
	})
	answered := func(r consensus.Result) {
		if done != nil {
			f := done
			done = nil
			f(r)
		}
	}
	from.atLeader(orders, 300, writeTimeout, func(leader *host, reply func(any, int)) {
		led := w.quorum.propose(leader, e, func(r consensus.Result, known bool) {
			if known {
				reply(r, 80)
			}
		})
		if !led {
			reply(notLeads{w.quorum.hint(leader)}, 60)
		}
	}, func(answer any) {
		if r, ok := answer.(consensus.Result); ok {
			answered(r)
			return
		}
		retry()
	})
}

// hint is who leads as far as any host can tell.
func (q *quorum) hint(h *host) *host {
	if h.replica == nil {
		return nil
	}
	return q.seenBy(h)
}
