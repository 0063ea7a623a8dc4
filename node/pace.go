package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// How the leader paces.
const (
	// ticketWait is how long a question for a grant waits for the quorum, at most: less than the shell of who asks does.
	ticketWait = 4 * time.Second
	// turnWait is how long a node that was rung has to ask before its turn goes to another.
	turnWait = 2 * time.Second
	// silentAfter is how long a node that may be granted has not asked when the leader rings it by itself.
	silentAfter = 5 * time.Second
	// paceEvery is how often the leader looks at what nobody tells it: turns that were not taken, silent nodes.
	paceEvery = time.Second
	// proposeAgain is how long the leader waits after the quorum did not take grants or endings.
	proposeAgain = time.Second
	// maxWaiters bounds the nodes that are remembered as waiting, over all commands. Others are granted when they ask in
	// the right moment.
	maxWaiters = 500_000
	// tellAtOnce is how many nodes are rung at once to be told that their command was stopped, and stoppedGap how soon the
	// next ones are.
	tellAtOnce = 500
	stoppedGap = 250 * time.Millisecond
)

// pacing is what this host knows of paced commands, as a server, and what it does about them as the leader.
type pacing struct {
	leading bool
	term    uint64
	since   time.Duration // boot time at which the office began
	byID    map[fleet.UUID]*paced
	order   []*paced // in the order in which they became known: what is done follows the seed
	waiters int      // places for nodes that wait, in all of them
	wakeAt  time.Duration
	sweepAt time.Duration
}

func newPacing() pacing { return pacing{byID: map[fleet.UUID]*paced{}} }

// paced is one paced command.
type paced struct {
	c        *consensus.Command
	since    time.Duration // when it was seen here first, or in this office
	waiting  []waiter      // by place in the frozen set; nil until somebody asked in this office
	tickets  []uint32      // places that wait for an answer
	granting []uint32      // proposed; the quorum has not answered
	holdAt   time.Duration // no proposal before
	told     int           // nodes that were told that it was stopped: the places before
	endings  endings
}

// waiter is what the leader remembers of a node that asked.
type waiter struct {
	asked  time.Duration // 0: never
	rung   time.Duration // 0: not since it asked
	ticket uint64        // 0: it has its answer
}

func (p *paced) id() fleet.UUID        { return p.c.ID() }
func (p *paced) pace() exec.Pace       { return p.c.Body.Pace }
func (p *paced) rollout() exec.Rollout { return p.c.Rollout }

// Place returns where a node stands in an order's frozen set.
func Place(o exec.Order, id fleet.ID) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(o.Nodes, id, fleet.ID.Compare)
	return uint32(i), ok
}

// mayBeGranted reports whether a node lacks nothing but its turn.
func (p *paced) mayBeGranted(i uint32) bool {
	s := p.rollout().State(i)
	return s == exec.NodeIdle || s == exec.NodeFreed
}

func (n *Node) officeChanged(at auth.Instant, ev Office) []Effect {
	g := &n.pacing
	if ev.Leading == g.leading && ev.Term == g.term {
		return nil
	}
	var out []Effect
	for _, p := range g.order {
		out = append(out, p.answerAll(GrantFailed)...)
		g.waiters -= len(p.waiting)
		p.waiting, p.tickets, p.granting, p.holdAt, p.since, p.told = nil, nil, nil, 0, at.Boot, 0
		p.endings.newOffice()
	}
	g.leading, g.term, g.since = ev.Leading, ev.Term, at.Boot
	for _, p := range g.order {
		out = append(out, n.pace(at, p)...)
	}
	return out
}

// commandChanged takes a paced command as it stands in this replica.
func (n *Node) commandChanged(at auth.Instant, c *consensus.Command) []Effect {
	if c == nil || !c.Body.Pace.Limited {
		return nil
	}
	g := &n.pacing
	p := g.byID[c.ID()]
	if p == nil {
		p = &paced{c: c, since: at.Boot}
		g.byID[c.ID()] = p
		g.order = append(g.order, p)
	}
	p.c = c
	p.endings.forget(func(i uint32) bool { return hasEnded(p.rollout().State(i)) })
	out := n.pace(at, p)
	n.rest(p)
	return out
}

// rest gives back what is remembered of a command that is done, and reports whether there is nothing to do about it.
func (n *Node) rest(p *paced) bool {
	if !p.rollout().Done() || len(p.tickets) > 0 || len(p.endings.pending) > 0 || p.told < len(p.waiting) && n.pacing.leading && p.rollout().Stopped != "" {
		return false
	}
	n.pacing.waiters -= len(p.waiting)
	p.waiting, p.endings.touched, p.endings.started, p.endings.quiet = nil, nil, nil, nil
	return true
}

func hasEnded(s exec.NodeState) bool {
	switch s {
	case exec.NodeOK, exec.NodeFailed, exec.NodeAside, exec.NodeDeclined:
		return true
	}
	return false
}

// grantAsked hears a node ask for its turn.
func (n *Node) grantAsked(at auth.Instant, ev GrantAsked) []Effect {
	p := n.pacing.byID[ev.Command]
	if p == nil || !n.pacing.leading {
		return answer(ev, GrantFailed)
	}
	i, ok := Place(p.c.Order, ev.Node)
	if !ok {
		return answer(ev, GrantFailed)
	}
	switch state := p.rollout().State(i); {
	case state == exec.NodeGranted && p.endings.frees(i): // its place may go to another at any moment
		return answer(ev, GrantWait)
	case state == exec.NodeGranted && p.rollout().Stopped != "": // it asks, so it has not started: nor shall it
		return answer(ev, stopAnswer(p.rollout().Stopped))
	case state == exec.NodeGranted: // it lost the answer, or was restarted
		p.touch(i, at.Boot)
		return answer(ev, Granted)
	case isCancelled(p.c, ev.Node):
		return answer(ev, GrantCancelled)
	case hasEnded(state):
		return answer(ev, GrantEnded)
	case p.rollout().Stopped != "":
		return answer(ev, stopAnswer(p.rollout().Stopped))
	case state == exec.NodeBarred && !p.rollout().Waits: // what it waited for has passed it by
		return answer(ev, GrantStopped)
	}
	if !n.remember(p) {
		return n.grantBlindly(at, p, i, ev)
	}
	w := &p.waiting[i]
	var out []Effect
	if w.ticket != 0 { // who asks anew does not hear the answer to what it asked before
		out = append(out, AnswerGrant{Ticket: w.ticket, Command: ev.Command, Node: ev.Node, Answer: GrantFailed})
	} else {
		p.tickets = append(p.tickets, i)
	}
	w.asked, w.rung, w.ticket = max(at.Boot, 1), 0, ev.Ticket
	return append(out, n.pace(at, p)...)
}

func answer(ev GrantAsked, a GrantAnswer) []Effect {
	return []Effect{AnswerGrant{Ticket: ev.Ticket, Command: ev.Command, Node: ev.Node, Answer: a}}
}

func isCancelled(c *consensus.Command, id fleet.ID) bool {
	_, cancelled := c.CancelFor(id)
	return cancelled
}

func stopAnswer(why string) GrantAnswer {
	if why == exec.StoppedByCancel {
		return GrantCancelled
	}
	return GrantStopped
}

// remember makes room for those who wait for a command; false when too many wait already.
func (n *Node) remember(p *paced) bool {
	if p.waiting != nil {
		return true
	}
	count := len(p.c.Order.Nodes)
	if n.pacing.waiters+count > maxWaiters {
		return false
	}
	n.pacing.waiters += count
	p.waiting = make([]waiter, count)
	return true
}

// grantBlindly answers a node that cannot be remembered: it is told to wait, and its grant, if there is room, is there
// when it asks again.
func (n *Node) grantBlindly(at auth.Instant, p *paced, i uint32, ev GrantAsked) []Effect {
	out := answer(ev, GrantWait)
	if p.granting != nil || at.Boot < p.holdAt || len(p.rollout().Pick(p.pace(), n.leaderLast(p, []uint32{i}))) == 0 {
		return out
	}
	p.granting = []uint32{i}
	return append(out, ProposeGrants{Command: p.id(), Nodes: []uint32{i}})
}

// pace does what there is to do about one command: answer, propose, ring.
func (n *Node) pace(at auth.Instant, p *paced) []Effect {
	out := n.proposeEndings(at, p)
	r := p.rollout()
	if !n.pacing.leading {
		return out
	}
	if r.Stopped != "" {
		out = append(out, p.answerAll(stopAnswer(r.Stopped))...)
		return append(out, n.tellStopped(at, p)...)
	}
	if r.Running > 0 {
		n.wakePacing(at.Boot + freeEvery)
	}
	if p.granting != nil || at.Boot < p.holdAt {
		n.wakePacing(max(p.holdAt, at.Boot+paceEvery))
		return out
	}
	slices.Sort(p.tickets)
	if picked := r.Pick(p.pace(), n.leaderLast(p, p.tickets)); len(picked) > 0 {
		p.granting = picked
		return append(out, ProposeGrants{Command: p.id(), Nodes: slices.Clone(picked)})
	}
	out = append(out, p.answerAll(GrantWait)...)
	return append(out, n.ringTurns(at, p)...)
}

// answerAll answers everybody who waits.
func (p *paced) answerAll(a GrantAnswer) (out []Effect) {
	for _, i := range p.tickets {
		out = append(out, p.reply(i, a)...)
	}
	p.tickets = nil
	return out
}

// reply answers one node that waits; p.tickets is the caller's to mend.
func (p *paced) reply(i uint32, a GrantAnswer) []Effect {
	w := &p.waiting[i]
	if w.ticket == 0 {
		return nil
	}
	e := AnswerGrant{Ticket: w.ticket, Command: p.id(), Node: p.c.Order.Nodes[i], Answer: a}
	w.ticket = 0
	return []Effect{e}
}

// grantsProposed hears what became of a proposal.
func (n *Node) grantsProposed(at auth.Instant, ev GrantsProposed) []Effect {
	p := n.pacing.byID[ev.Command]
	if p == nil || p.granting == nil {
		return nil
	}
	var out []Effect
	for _, i := range p.granting {
		granted := p.rollout().State(i) == exec.NodeGranted
		if granted {
			p.touch(i, at.Boot)
		}
		k := slices.Index(p.tickets, i)
		switch {
		case k < 0: // its time to wait was over
			continue
		case granted && !ev.Failed:
			out = append(out, p.reply(i, GrantedNow)...)
		case granted: // somebody else may lead by now
			out = append(out, p.reply(i, Granted)...)
		default:
			out = append(out, p.reply(i, GrantFailed)...)
		}
		p.tickets = slices.Delete(p.tickets, k, k+1)
	}
	p.granting = nil
	if ev.Failed {
		p.holdAt = at.Boot + proposeAgain
	}
	return append(out, n.pace(at, p)...)
}

// ringTurns rings nodes for which there is room: those that asked, in the order of the set, then those that were rung in
// vain, and those that are there and have not asked.
func (n *Node) ringTurns(at auth.Instant, p *paced) []Effect {
	if p.rollout().Room(p.pace()) == 0 || n.Now(at).UnixMilli() > p.c.Body.Header.Expires {
		return nil
	}
	n.wakePacing(at.Boot + paceEvery)
	var coming, fresh, again []uint32
	for k, id := range p.c.Order.Nodes {
		i := uint32(k)
		if !p.mayBeGranted(i) {
			continue
		}
		switch w := p.waiter(i); {
		case w.rung != 0 && at.Boot < w.rung+turnWait:
			coming = append(coming, i)
		case w.asked != 0 && w.rung == 0:
			fresh = append(fresh, i)
		case n.isThere(id) && (w.rung != 0 || p.isRungOnly() || at.Boot >= p.since+silentAfter):
			again = append(again, i)
		}
	}
	var turns []uint32
	for k, i := range p.rollout().Pick(p.pace(), n.leaderLast(p, slices.Concat(coming, fresh, again))) {
		if k >= len(coming) || !slices.Contains(coming, i) {
			turns = append(turns, i)
		}
	}
	if len(turns) == 0 || !n.remember(p) {
		return nil
	}
	for _, i := range turns {
		p.waiting[i].rung = max(at.Boot, 1)
	}
	return n.ringTurn(at, p, turns)
}

// isRungOnly reports whether nobody asks by itself: nodes get a command that waits for another by a bell of their turn.
func (p *paced) isRungOnly() bool { return !p.c.Body.After.IsZero() }

func (p *paced) waiter(i uint32) waiter {
	if p.waiting == nil {
		return waiter{}
	}
	return p.waiting[i]
}

// isThere reports whether a node can be rung.
func (n *Node) isThere(id fleet.ID) bool { return id == n.self || n.seen[id].Status == fleet.Online }

// ringTurn tells nodes to ask, twice: a turn that nobody hears of is a place that stays empty for a while. Who has asked
// already has the order, and its bell is short.
func (n *Node) ringTurn(at auth.Instant, p *paced, places []uint32) (out []Effect) {
	b := Bell{Kind: BellTurn, Statement: p.id(), Act: p.c.Act, Holders: []fleet.ID{n.self}}
	if slices.ContainsFunc(places, func(i uint32) bool { return p.waiter(i).asked == 0 }) {
		b.Rider = []auth.Envelope{p.c.Order.Statement}
	}
	var to []fleet.ID
	for _, i := range places {
		if id := p.c.Order.Nodes[i]; id == n.self {
			out = append(out, n.turnRung(at, b)...)
		} else if s, ok := n.seen[id]; ok && s.Status != fleet.Left {
			to = append(to, id)
		}
	}
	if len(to) == 0 {
		return out
	}
	n.rings = append(n.rings, laterRing{at: at.Boot + waveGap, to: to, bell: b})
	return append(out, Ring{To: to, Bell: b})
}

// tellStopped rings those who wait, some at a time: they ask, and hear that nothing comes any more.
func (n *Node) tellStopped(at auth.Instant, p *paced) []Effect {
	var turns []uint32
	for ; p.told < len(p.waiting) && len(turns) < tellAtOnce; p.told++ {
		if i := uint32(p.told); p.waiting[i].asked != 0 && p.mayBeGranted(i) {
			turns = append(turns, i)
		}
	}
	if p.told < len(p.waiting) {
		n.wakePacing(at.Boot + stoppedGap)
	}
	return n.ringTurn(at, p, turns)
}

func (n *Node) wakePacing(at time.Duration) {
	if g := &n.pacing; g.wakeAt == 0 || at < g.wakeAt {
		g.wakeAt = at
	}
}

// duePacing looks at what nobody tells: questions that waited too long, turns that were not taken, silent nodes.
func (n *Node) duePacing(at auth.Instant) []Effect {
	g := &n.pacing
	if g.wakeAt == 0 || at.Boot < g.wakeAt {
		return nil
	}
	g.wakeAt = 0
	if at.Boot >= g.sweepAt {
		g.sweepAt = at.Boot + time.Minute
		n.sweepPaced(at)
	}
	var out []Effect
	for _, p := range g.order {
		if n.rest(p) {
			continue
		}
		out = append(out, p.lapse(at)...)
		n.freeSilent(at, p)
		out = append(out, n.nudge(at, p)...)
		out = append(out, n.pace(at, p)...)
	}
	return out
}

// lapse answers questions that waited long enough.
func (p *paced) lapse(at auth.Instant) (out []Effect) {
	p.tickets = slices.DeleteFunc(p.tickets, func(i uint32) bool {
		if at.Boot < p.waiting[i].asked+ticketWait {
			return false
		}
		out = append(out, p.reply(i, GrantFailed)...)
		return true
	})
	return out
}

// sweepPaced forgets commands that can change no more, whatever the clocks of their nodes.
func (n *Node) sweepPaced(at auth.Instant) {
	g := &n.pacing
	g.order = slices.DeleteFunc(g.order, func(p *paced) bool {
		h := p.c.Body.Header
		if h.Expires+p.c.Body.Run.Timeout+2*auth.MaxSkew.Milliseconds() >= n.Now(at).UnixMilli() {
			return false
		}
		g.waiters -= len(p.waiting)
		delete(g.byID, p.id())
		return true
	})
}
