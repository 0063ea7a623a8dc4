package main

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
)

// quorum is the agreement of a few servers, as a model of what raft promises: what was committed stays, in one order; a
// proposal that was answered is committed; one without an answer may be committed later, by whoever leads then, or never. One
// leads by right; others may still believe that they do.
type quorum struct {
	w      *world
	voters []*host
	term   uint64
	leader *host // of term, while it can be one
	states []consensus.State
	// changed are the paced commands that an entry changed: changed[i] leads from states[i] to the next.
	changed [][]*consensus.Command
	base    int         // entries before states[0]
	loose   []*proposal // not committed, in order
	lostAt  time.Duration
	count   int // of committed entries
}

// proposal is an entry in the log of some voters.
type proposal struct {
	entry consensus.Entry
	stamp int64
	term  uint64
	from  *host
	life  int
	at    []*host // whose logs have it
	done  func(result consensus.Result, known bool)
}

func newQuorum(w *world, voters []*host, state consensus.State) *quorum {
	q := &quorum{w: w, voters: voters, term: 1, states: []consensus.State{state}}
	for _, h := range voters {
		h.replica = newReplica(h)
	}
	q.leader = voters[0]
	q.leader.replica.lead = lead{term: 1, ready: true}
	return q
}

func (q *quorum) newest() consensus.State { return q.states[len(q.states)-1] }

func (q *quorum) length() int { return q.base + len(q.states) - 1 }

// acts lists the record's acts: who may tell of how many is the teller's record.
func (q *quorum) acts() []auth.Act { return q.newest().Acts(0, int(q.newest().Record.Length)) }

// majority reports whether a voter can agree with most now.
func (q *quorum) majority(h *host) bool {
	if !h.running() {
		return false
	}
	count := 0
	for _, v := range q.voters {
		if v == h || v.running() && reaches(h, v) && reaches(v, h) {
			count++
		}
	}
	return count > len(q.voters)/2
}

func (h *host) running() bool { return h.up && h.pausedTill <= h.w.now }

// seenBy returns who leads as far as a server knows, or nil.
func (q *quorum) seenBy(h *host) *host {
	switch {
	case h.replica.lead.term != 0:
		return h
	case q.leader != nil && reaches(q.leader, h):
		return q.leader
	}
	return nil
}

// Times of the model: an election takes a heartbeat's timeout, votes, and a no-op; a leader that is cut off notices it by
// its lease, or, when it is stopped, a moment after it goes on.
const (
	watchEvery   = 100 * time.Millisecond
	electAfter   = 1 * time.Second
	electSpread  = 2 * time.Second
	believeAtMax = 10 * time.Second
	commitFrom   = 3 * time.Millisecond
	commitTo     = 40 * time.Millisecond
)

// watch elects a leader where there is none.
func (q *quorum) watch() {
	w := q.w
	switch {
	case q.leader != nil && q.leader.replica.lead.term == q.term && q.majority(q.leader): // not restarted meanwhile
		q.lostAt = 0
	case q.lostAt == 0:
		q.lostAt = w.now + w.between(electAfter, electAfter+electSpread)
	case w.now >= q.lostAt:
		q.elect()
	}
	w.after(watchEvery, q.watch)
}

// elect makes one of those who can reach most the leader. The one who led may believe in itself for a while longer.
func (q *quorum) elect() {
	var can []*host
	for _, v := range q.voters {
		if q.majority(v) {
			can = append(can, v)
		}
	}
	if len(can) == 0 {
		return
	}
	next := can[q.w.rand.IntN(len(can))]
	if old := q.leader; old != nil && old != next && old.up {
		q.depose(old)
	}
	q.term++
	q.leader, q.lostAt = next, 0
	next.replica.lead = lead{term: q.term}
	next.post(0, node.Office{Leading: true, Term: q.term})
	q.settle(next)
	term, life := q.term, next.life
	q.w.after(q.w.between(commitFrom, commitTo), func() {
		next.alive(life, func() {
			if q.term == term {
				next.replica.takeOffice()
			}
		})
	})
}

// depose lets a server that led find out some time that it does not any more.
func (q *quorum) depose(old *host) {
	term, life := old.replica.lead.term, old.life
	believes := q.w.between(0, believeAtMax)
	if reaches(q.leaderOr(old), old) { // the next heartbeat tells it
		believes = q.w.between(0, 300*time.Millisecond)
	}
	q.w.after(believes, func() {
		old.alive(life, func() {
			if old.replica.lead.term == term {
				old.replica.stepDown()
			}
		})
	})
}

func (q *quorum) leaderOr(h *host) *host {
	if q.leader != nil {
		return q.leader
	}
	return h
}

// settle decides about what was proposed and not committed, when somebody new leads: what its log has is committed, the rest
// is gone. A log without one entry has none that its leader sent later.
func (q *quorum) settle(next *host) {
	loose := q.loose
	q.loose = nil
	gone := map[uint64]bool{} // terms of which an entry is gone
	for _, p := range loose {
		if gone[p.term] || !slices.Contains(p.at, next) {
			gone[p.term] = true
			q.answer(p, consensus.Result{}, false)
			continue
		}
		q.commit(p, next)
	}
}

// propose puts an entry into the log, if h believes that it leads. done hears what became of it; known is false where nobody
// can say. It never hears of it when h dies.
func (q *quorum) propose(h *host, e consensus.Entry, done func(result consensus.Result, known bool)) bool {
	l := h.replica.lead
	if l.term == 0 {
		return false
	}
	p := &proposal{entry: e, stamp: h.stamp(), term: l.term, from: h, life: h.life, at: []*host{h}, done: done}
	if l.term == q.term {
		for _, v := range q.voters {
			if v != h && v.running() && reaches(h, v) && q.w.chance(0.8) {
				p.at = append(p.at, v)
			}
		}
		q.loose = append(q.loose, p)
	}
	r := h.replica
	r.commitAt = max(r.commitAt, q.w.now+q.w.between(commitFrom, commitTo))
	q.w.at(r.commitAt, func() { q.tryCommit(p) })
	return true
}

// tryCommit commits a proposal of a leader that most still follow; one that is cut off tries until it steps down.
func (q *quorum) tryCommit(p *proposal) {
	h := p.from
	switch {
	case !h.up || h.life != p.life: // the next leader decides
	case h.replica.lead.term != p.term: // it stepped down
		q.answer(p, consensus.Result{}, false)
	case p.term != q.term || !q.majority(h):
		q.w.after(watchEvery, func() { q.tryCommit(p) })
	default:
		for i := 0; i < len(q.loose); i++ { // whatever it proposed before was committed before
			if x := q.loose[i]; x.term == p.term {
				q.loose = slices.Delete(q.loose, i, i+1)
				q.commit(x, h)
				i--
				if x == p {
					return
				}
			}
		}
	}
}

// commit is the moment from which an entry is agreed.
func (q *quorum) commit(p *proposal, leader *host) {
	state, result := q.w.plant.apply(q.newest(), p.entry, p.stamp)
	var changed []*consensus.Command
	if result.Why == "" {
		changed = changedBy(q.newest(), state, p.entry)
	}
	q.changed = append(q.changed, changed)
	q.states = append(q.states, state)
	q.count++
	q.w.mix(uint64(q.count))
	q.w.mix(q.w.nameOf(p.entry))
	q.w.agreed(p.entry, result, state)
	for _, v := range q.voters {
		if v != leader {
			v.replica.feedSoon()
		}
	}
	leader.replica.feed()
	q.answer(p, result, true)
	q.trim()
}

func (q *quorum) answer(p *proposal, r consensus.Result, known bool) {
	if p.done == nil {
		return
	}
	done := p.done
	p.done = nil
	q.w.after(0, func() { p.from.alive(p.life, func() { done(r, known) }) }) // behind what the entry changed
}

// trim forgets states that every replica is past.
func (q *quorum) trim() {
	if len(q.states) < 256 {
		return
	}
	least := q.length()
	for _, v := range q.voters {
		least = min(least, v.replica.applied)
	}
	if least > q.base {
		q.states, q.changed = slices.Clone(q.states[least-q.base:]), slices.Clone(q.changed[least-q.base:])
		q.base = least
	}
}

// read makes sure that h leads and has applied all that was agreed before. done hears nil, or the answer for who asked.
func (q *quorum) read(h *host, done func(err any)) {
	if h.replica == nil || h.replica.lead.term == 0 {
		var hint *host
		if h.replica != nil {
			hint = q.seenBy(h)
		}
		done(notLeads{hint})
		return
	}
	life := h.life
	q.w.after(q.w.between(time.Millisecond, 40*time.Millisecond), func() {
		h.alive(life, func() {
			l := h.replica.lead
			if l.term != q.term || !l.ready || !q.majority(h) {
				if l.term == 0 {
					done(notLeads{q.seenBy(h)})
				}
				return // who asked waits in vain
			}
			h.replica.feed()
			done(nil)
		})
	})
}
