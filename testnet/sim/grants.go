package main

import (
	"slices"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// What paced commands need of the shells: questions to the leader, its answers, and its proposals.

// askGrant brings a node's question to the leader.
func (h *host) askGrant(e node.AskGrant) {
	w := h.w
	if w.plant == selfGranted {
		h.post(0, node.GrantAnswered{Command: e.Command, Asked: e.Asked, Answer: node.Granted})
		return
	}
	h.hop4(0, func(leader *host, reply func(any, int)) {
		if leader.replica == nil || leader.replica.lead.term == 0 {
			reply(notLeads{w.quorum.hint(leader)}, 60)
			return
		}
		leader.replica.ticket++
		leader.replica.tickets[leader.replica.ticket] = reply
		w.step(leader, node.GrantAsked{Command: e.Command, Node: h.id, Ticket: leader.replica.ticket})
	}, func(answer any) {
		got, _ := answer.(node.GrantAnswer)
		w.answers[got]++
		ev := node.GrantAnswered{Command: e.Command, Asked: e.Asked, Answer: got}
		if w.plant == lateStart && got == node.Granted { // as if it had asked when it started
			ev.Asked = w.instant(h).Boot
		}
		w.step(h, ev)
	})
}

// grantHops is how many servers are asked who leads, as in the agent.
const grantHops = 4

// hop4 asks who leads for a grant, and whom it names. done hears the answer, or nil.
func (h *host) hop4(try int, serve func(leader *host, reply func(any, int)), done func(any)) {
	to := h.leaderToTry(try)
	h.request(to, grants, 80, askTimeout, func(reply func(any, int)) { serve(to, reply) }, func(answer any) {
		led, elsewhere := answer.(notLeads)
		switch {
		case elsewhere:
			h.leader = led.leader
		case answer == nil:
			h.leader = nil
		default:
			h.leader = to
		}
		if (elsewhere || answer == nil) && try+1 < grantHops {
			h.hop4(try+1, serve, done)
			return
		}
		if elsewhere {
			answer = nil
		}
		done(answer)
	})
}

// answerGrant answers a question. That a grant is still good needs proof; a moment may go by until there is one.
func (h *host) answerGrant(e node.AnswerGrant) {
	reply := h.replica.tickets[e.Ticket]
	delete(h.replica.tickets, e.Ticket)
	switch {
	case reply == nil:
	case e.Answer == node.GrantedNow:
		reply(node.Granted, 50)
	case e.Answer == node.Granted:
		h.w.quorum.read(h, func(err any) {
			if err != nil {
				reply(err, 60)
				return
			}
			c, ok := h.replica.state().Command(e.Command)
			if !ok || c.Rollout.State(place(c, e.Node)) != exec.NodeGranted || c.Rollout.Stopped != "" {
				reply(node.GrantFailed, 50)
				return
			}
			reply(node.Granted, 50)
		})
	default:
		reply(e.Answer, 50)
	}
}

// place is where a node stands in the frozen set; beyond it if it does not.
func place(c *consensus.Command, id fleet.ID) uint32 {
	i, ok := slices.BinarySearchFunc(c.Order.Nodes, id, fleet.ID.Compare)
	if !ok {
		return uint32(len(c.Order.Nodes))
	}
	return uint32(i)
}

// proposeGrants has the quorum, led from here, agree on grants.
func (h *host) proposeGrants(e node.ProposeGrants) {
	life, answered := h.life, false
	tell := func(failed bool) {
		if !answered {
			answered = true
			h.post(0, node.GrantsProposed{Command: e.Command, Failed: failed})
		}
	}
	led := h.w.quorum.propose(h, consensus.PutGrants{Command: e.Command, Nodes: e.Nodes}, func(r consensus.Result, known bool) {
		tell(!known || r.Why != "")
	})
	if !led {
		tell(true)
		return
	}
	h.w.after(askTimeout, func() { h.alive(life, func() { tell(true) }) })
}

// proposeEndings brings endings to whoever leads. A silent node's place may be given away by who leads in that term alone.
func (h *host) proposeEndings(e node.ProposeEndings) {
	if slices.ContainsFunc(e.Ends, func(x exec.Ending) bool { return x.As == exec.EndFreed }) {
		h.freePlaces(e)
		return
	}
	h.atLeader(grants, 60+8*len(e.Ends), askTimeout, func(leader *host, reply func(any, int)) {
		led := h.w.quorum.propose(leader, consensus.PutEndings{Command: e.Command, Ends: e.Ends}, func(r consensus.Result, known bool) {
			if known {
				reply(r, 60)
			}
		})
		if !led {
			reply(notLeads{h.w.quorum.hint(leader)}, 60)
		}
	}, func(answer any) {
		_, known := answer.(consensus.Result)
		h.w.step(h, node.EndingsProposed{Command: e.Command, Failed: !known})
	})
}

func (h *host) freePlaces(e node.ProposeEndings) {
	life, answered := h.life, false
	tell := func(failed bool) {
		if !answered {
			answered = true
			h.post(0, node.EndingsProposed{Command: e.Command, Failed: failed})
		}
	}
	h.w.freed += len(e.Ends)
	put := consensus.PutEndings{Command: e.Command, Ends: e.Ends}
	if h.replica.lead.term != e.Term || !h.w.quorum.propose(h, put, func(_ consensus.Result, known bool) { tell(!known) }) {
		tell(true)
		return
	}
	h.w.after(askTimeout, func() { h.alive(life, func() { tell(true) }) })
}

// changedBy lists the paced commands that an entry changed: its own, and those that are linked with it.
func changedBy(before, after consensus.State, e consensus.Entry) []*consensus.Command {
	var id fleet.UUID
	switch e := e.(type) {
	case consensus.PutCommand:
		id = after.Commands(1)[0].ID()
	case consensus.PutCancel:
		id = after.Commands(1)[0].ID()
	case consensus.PutGrants:
		id = e.Command
	case consensus.PutEndings:
		id = e.Command
	default:
		return nil
	}
	c, ok := after.Command(id)
	if !ok || !c.Body.Pace.Limited {
		return nil
	}
	ids := []fleet.UUID{id}
	if main := c.Body.After.Command; !main.IsZero() {
		ids = append(ids, main)
		if m, ok := after.Command(main); ok {
			c = m
		}
	}
	ids = append(ids, c.Body.Pace.Gates...)
	if on := c.Body.Pace.OnStop; !on.IsZero() {
		ids = append(ids, on)
	}
	var out []*consensus.Command
	for i, id := range ids {
		now, ok := after.Command(id)
		if was, had := before.Command(id); ok && (!had || was != now) && !slices.Contains(ids[:i], id) {
			out = append(out, now)
		}
	}
	return out
}
