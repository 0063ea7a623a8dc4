package main

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// lead is what a server believes of its own leadership.
type lead struct {
	term  uint64 // 0: it does not lead
	ready bool   // it has applied what was agreed before its term
}

// replica is a server's copy of what was agreed, and its store of reports. Both are on its disk.
type replica struct {
	h        *host
	applied  int
	fed      uint64 // acts that its core has
	lead     lead
	commitAt time.Duration // of its last proposal
	feeding  bool
	store    map[fleet.UUID]map[fleet.ID]exec.Report
	ticket   uint64
	tickets  map[uint64]func(answer any, size int) // questions that wait, by ticket; of this life
	paced    map[fleet.UUID]bool                   // that the core was told of, in this life
}

func newReplica(h *host) *replica {
	return &replica{h: h, store: map[fleet.UUID]map[fleet.ID]exec.Report{}}
}

func (r *replica) state() consensus.State {
	q := r.h.w.quorum
	return q.states[r.applied-q.base]
}

// come starts what a server does beside answering.
func (r *replica) come() {
	r.fed, r.feeding = r.h.record.Length, false
	r.tickets, r.paced = map[uint64]func(any, int){}, map[fleet.UUID]bool{}
	for _, c := range r.state().Paced() {
		r.tellPaced(c)
	}
	if r.lead.term != 0 {
		r.h.post(0, node.Office{Leading: true, Term: r.lead.term})
	}
	r.beacons(r.h.life)
	r.feedSoon()
}

func (r *replica) die() { r.lead = lead{} }

func (r *replica) takeOffice() {
	r.lead.ready = true
	r.feed()
	r.makeBeacon()
}

func (r *replica) stepDown() {
	r.lead = lead{}
	r.h.post(0, node.Office{})
	r.makeBeacon()
}

// How servers tell the time, as in the agent.
const (
	beaconEvery = 3 * time.Second
	listenFirst = 5 * time.Second // for another server's beacon
)

func (r *replica) beacons(life int) {
	h := r.h
	if h.life != life {
		return
	}
	h.alive(life, r.makeBeacon)
	h.w.after(beaconEvery, func() { r.beacons(life) })
}

// makeBeacon signs the summary of the newest state here.
func (r *replica) makeBeacon() {
	h, q := r.h, r.h.w.quorum
	if h.clock.Heard == 0 && h.w.now < h.cameAt+listenFirst {
		return // its own clock may be wrong, and would move everybody's
	}
	state := r.state()
	b := auth.Beacon{
		Time: h.stamp(), Epoch: state.Record.Charter.Epoch(), CharterHead: state.Record.Charter.Head(), CharterLen: state.Record.Charter.Len(),
		RecordHead: state.Record.Head, RecordLen: state.Record.Length, Act: state.Act, Term: r.term(),
	}
	if l := q.seenBy(h); l != nil {
		b.Leader = l.id
	}
	for _, v := range q.voters {
		b.Voters = append(b.Voters, v.id)
	}
	slices.SortFunc(b.Voters, fleet.ID.Compare)
	h.own = h.key.Signer.Sign(auth.ForBeacon, state.Record.Charter.Fleet(), b)
	h.post(0, node.BeaconMade{Beacon: b, Envelope: h.own})
}

// term is the newest term that the server has heard of.
func (r *replica) term() uint64 {
	q := r.h.w.quorum
	if r.lead.term != 0 {
		return r.lead.term
	}
	if q.leader != nil && reaches(q.leader, r.h) {
		return q.term
	}
	return max(q.term, 1) - 1
}

// stamp is the time that this server signs as the fleet's.
func (h *host) stamp() int64 {
	at := h.w.instant(h)
	return at.Wall.Add(-h.clock.Suspect(at)).UnixMilli()
}

// feedSoon lets a follower hear of what was agreed.
func (r *replica) feedSoon() {
	if r.feeding || !r.h.up {
		return
	}
	r.feeding = true
	life := r.h.life
	r.h.w.after(r.h.w.between(2*time.Millisecond, 60*time.Millisecond), func() {
		if r.h.life != life {
			return
		}
		r.h.alive(life, func() {
			r.feeding = false
			q := r.h.w.quorum
			if q.leader != nil && (q.leader == r.h || reaches(q.leader, r.h)) && q.leader.running() {
				r.feed()
			}
			if r.applied < q.length() {
				r.feedSoon()
			}
		})
	})
}

// feed applies what was agreed, and tells the core.
func (r *replica) feed() {
	q := r.h.w.quorum
	for r.applied < q.length() {
		before := r.state()
		changed := q.changed[r.applied-q.base]
		r.applied++
		r.tell(before, r.state(), changed)
	}
}

// tell brings to the core what one entry changed.
func (r *replica) tell(before, after consensus.State, changed []*consensus.Command) {
	h := r.h
	if !h.up {
		return
	}
	for _, c := range changed {
		r.tellPaced(c)
	}
	if after.Record.Length > before.Record.Length {
		for _, act := range after.Acts(r.fed, actsPage) {
			h.post(0, node.RecordCommitted{Act: act})
			r.fed++
		}
		r.makeBeacon()
	}
	if after.Act == before.Act {
		return
	}
	newest := after.Commands(1)
	if len(newest) == 1 && newest[0].Act == after.Act && r.lead.term != 0 {
		h.post(0, node.OrderCommitted{Committed: committedNow(newest[0])})
	}
}

// tellPaced brings a paced command to the core, and, when it is new to it, the reports that are here.
func (r *replica) tellPaced(c *consensus.Command) {
	r.h.post(0, node.CommandChanged{Command: c})
	if r.paced[c.ID()] {
		return
	}
	r.paced[c.ID()] = true
	of := r.store[c.ID()]
	for _, id := range c.Order.Nodes {
		if report, ok := of[id]; ok {
			r.h.post(0, node.ReportKept{Command: c.ID(), Node: id, Status: report.Status})
		}
	}
}

// committedFor is a command with the cancel that is for a node.
func committedFor(c *consensus.Command, id fleet.ID) node.Committed {
	out := node.Committed{Act: c.Act, Order: c.Order}
	if cancel, ok := c.CancelFor(id); ok {
		out.Cancel = []auth.Envelope{cancel}
	}
	return out
}

// committedNow is a command with its newest cancel.
func committedNow(c *consensus.Command) node.Committed {
	out := node.Committed{Act: c.Act, Order: c.Order}
	switch {
	case c.Cancel != nil:
		out.Cancel = []auth.Envelope{*c.Cancel}
	case len(c.Cancels) > 0:
		out.Cancel = c.Cancels[len(c.Cancels)-1:]
	}
	return out
}

// behindWait is how long a report waits for this replica to catch up with its command.
const behindWait = time.Second

// take keeps a report in the store, and says whether it did.
func (r *replica) take(report exec.Report, wait time.Duration, done func(taken bool)) {
	h, life := r.h, r.h.life
	if c, ok := r.state().Command(report.Command); !ok || !c.Order.Has(report.Node) {
		if wait <= 0 {
			done(false)
			return
		}
		const look = 100 * time.Millisecond
		h.w.after(look, func() { h.alive(life, func() { r.take(report, wait-look, done) }) })
		return
	}
	of := r.store[report.Command]
	if of == nil {
		of = map[fleet.ID]exec.Report{}
		r.store[report.Command] = of
	}
	if exec.Supersedes(of[report.Node], report) {
		of[report.Node] = report
		if h.w.reported != nil {
			h.w.reported(h, report)
		}
	}
	h.post(0, node.ReportKept{Command: report.Command, Node: report.Node, Status: report.Status})
	done(true)
}
