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
	p := &wish{e: e, done: done}
	w.attempt(from, p)
}

// wish is an entry that somebody wants to be taken.
type wish struct {
	e    consensus.Entry
	done func(consensus.Result) // nil: nobody waits, or it was told
}

func (p *wish) answered(r consensus.Result) {
	if f := p.done; f != nil {
		p.done = nil
		f(r)
	}
}

func (w *world) attempt(from *host, p *wish) {
	retry := func() { w.after(time.Second, func() { w.attempt(from, p) }) }
	if !from.running() {
		retry()
		return
	}
	w.outlive(from, from.life, p)
	from.atLeader(orders, 300, writeTimeout, func(leader *host, reply func(any, int)) {
		led := w.quorum.propose(leader, p.e, func(r consensus.Result, known bool) {
			if known {
				reply(r, 80)
			}
		})
		if !led {
			reply(notLeads{w.quorum.hint(leader)}, 60)
		}
	}, func(answer any) {
		if r, ok := answer.(consensus.Result); ok {
			p.answered(r)
			return
		}
		retry()
	})
}

// outlive has another host propose when this one lost its life, and with it the answer.
func (w *world) outlive(from *host, life int, p *wish) {
	w.after(2*writeTimeout, func() {
		switch {
		case p.done == nil:
		case from.life != life:
			w.attempt(w.hosts[w.rand.IntN(len(w.hosts))], p)
		default:
			w.outlive(from, life, p)
		}
	})
}

// hint is who leads as far as any host can tell.
func (q *quorum) hint(h *host) *host {
	if h.replica == nil {
		return nil
	}
	return q.seenBy(h)
}
