package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// How questions are asked again.
const (
	retryAfter = time.Second      // an unanswered question is asked again, elsewhere
	newerAfter = 10 * time.Second // as long as servers answer with what only a newer version understands
	shunFor    = 10 * time.Second // no hint leads back to a peer that answered in vain before
)

// catching is the record's catch-up: one question to one peer at a time, and what no server has vouched for yet.
type catching struct {
	asked   bool
	from    fleet.ID
	retryAt time.Duration // boot time
	silent  fleet.ID      // who answered in vain last
	shunned time.Duration // boot time until which hints do not lead to silent
	rung    bool          // a bell told of the record, so that it is passed on once it is here
	ahead   unvouched
	newer   string          // what of the record only a newer version understands; empty: nothing
	strange []auth.Envelope // none or one: a beacon by somebody whom only a newer record can name
}

func (c *catching) avoid(peer fleet.ID, at time.Duration) {
	c.silent, c.shunned, c.retryAt = peer, at+shunFor, at+retryAfter
}

// behind reports whether somebody is known to have more of the record.
func (n *Node) behind() bool { return n.beacon.RecordLen > n.record.Length }

// hintedActs asks somebody of whom nobody knows yet whether he has more of the record: at most one question at a time,
// and none to somebody who answered in vain a moment ago, so that no peer can keep this node from asking others.
func (n *Node) hintedActs(at auth.Instant, from fleet.ID) []Effect {
	if from == n.acts.silent && at.Boot < n.acts.shunned {
		return nil
	}
	if _, err := n.record.Roster.Enrolled(from); err != nil && n.record.Charter != nil {
		return nil // nobody could reach it
	}
	return n.askActs(from)
}

// askActs asks for what comes after our record, unless that was asked already.
func (n *Node) askActs(from fleet.ID) []Effect {
	if n.acts.asked || from == n.self || from.IsZero() {
		return nil
	}
	n.acts.asked, n.acts.from = true, from
	return []Effect{FetchActs{From: from, Position: n.end(from)}}
}

func (n *Node) actsFetched(at auth.Instant, ev ActsFetched) []Effect {
	n.acts.asked = false
	n.acts.retryAt = at.Boot + retryAfter
	if ev.Failed || len(ev.Acts) == 0 {
		n.acts.avoid(ev.From, at.Boot)
		return n.askVoucher()
	}
	length := n.end(ev.From)
	out := n.takeFrom(at, ev)
	switch grew := n.end(ev.From) > length; {
	case !grew && n.acts.newer != "":
		n.acts.avoid(ev.From, at.Boot+newerAfter-retryAfter)
	case !grew:
		n.acts.avoid(ev.From, at.Boot)
	case n.wantsMore():
		out = append(out, n.askActs(ev.From)...)
	default:
		out = append(out, n.askVoucher()...)
	}
	return out
}

// wantsMore reports whether there is more to fetch behind what came already.
func (n *Node) wantsMore() bool {
	waiting := len(n.waiting().acts)
	return n.beacon.RecordLen > n.record.Length+uint64(waiting) || len(n.acts.strange) > 0 && waiting > 0
}

// takeFrom takes what a peer answered: a server's word counts as its beacon does, anybody else's waits for a beacon.
func (n *Node) takeFrom(at auth.Instant, ev ActsFetched) []Effect {
	if entry, err := n.record.Roster.Enrolled(ev.From); err == nil && entry.Server || n.record.Charter == nil {
		n.acts.ahead = unvouched{}
		return n.takeActs(at, ev.Acts, ev.From)
	}
	return n.takeUnvouched(at, ev)
}

// takeActs applies acts in order and says what follows from them.
func (n *Node) takeActs(at auth.Instant, acts []auth.Act, from fleet.ID) []Effect {
	before := n.record
	var kept []auth.Act
	var out []Effect
	rosters, gone, newer := false, false, ""
	for _, act := range acts {
		if act.Index <= n.record.Act && n.record.Length > 0 {
			continue // have it
		}
		next, err := n.record.Apply(act, n.fleetID())
		if err != nil {
			if fleet.IsNewer(err) {
				newer = fmt.Sprintf("act %d: %v", act.Index, err)
				break
			}
			out = append(out, n.actRefused(act, from, err))
			break
		}
		rosters = rosters || changesRoster(act.Kind)
		gone = gone || removes(act.Kind, n.record, next)
		n.record = next
		kept = append(kept, act)
	}
	out = append(out, n.outgrown(newer, len(kept) > 0)...)
	if len(kept) == 0 {
		return out
	}
	out = append(out, KeepActs{Record: n.record, Acts: kept})
	if gone {
		out = append(out, n.dropRemoved(before)...)
	}
	if rosters {
		n.onlineStale = true
		out = append(out, n.checkBeacon()...)
	}
	out = append(out, n.passRecordOn(at)...)
	return append(out, n.rejudge(at)...)
}

func (n *Node) actRefused(act auth.Act, from fleet.ID, err error) Effect {
	return Warn{fmt.Sprintf("act %d from %s does not hold: %v", act.Index, n.name(from), err)}
}

// outgrown notes what of the record servers took and only a newer version understands. That is no lie: this node stops
// following the record there, says so once, keeps what it has, and asks again now and then. Empty: the record has no such
// act that is known here, which takes an earlier one back if it grew since.
func (n *Node) outgrown(why string, grew bool) []Effect {
	switch {
	case why == n.acts.newer || why == "" && !grew:
		return nil
	case why == "":
		n.acts.newer = ""
		return []Effect{Outgrown{}}
	}
	n.acts.newer = why
	return []Effect{Warn{"the fleet's record goes on with what this version does not understand: " + why + "; upgrade muster on this host"}, Outgrown{Why: why}}
}

func changesRoster(k auth.ActKind) bool {
	return k == auth.ActEnrol || k == auth.ActNodeTags || k == auth.ActNodeRemove
}

// removes reports whether an act took a node out of the roster: by itself, or by putting another in its place.
func removes(k auth.ActKind, before, after auth.Record) bool {
	return k == auth.ActNodeRemove || k == auth.ActEnrol && after.Roster.Len() == before.Roster.Len()
}

func (n *Node) fleetID() fleet.ID {
	if n.record.Charter == nil {
		return fleet.ID{}
	}
	return n.record.Charter.Fleet()
}

func (n *Node) name(id fleet.ID) string {
	if entry, ok := n.record.Roster.Node(id); ok {
		return entry.Name
	}
	return id.String()
}

// dropRemoved closes the streams of nodes that this step removed.
func (n *Node) dropRemoved(before auth.Record) []Effect {
	var out []Effect
	for old := range before.Roster.All() {
		entry, ok := n.record.Roster.Node(old.ID)
		switch {
		case !ok || entry.Removed == 0:
		case old.ID == n.self:
			out = append(out, Warn{"this host was removed from the fleet"})
		default:
			out = append(out, DropPeer{Peer: old.ID, Why: "removed from the fleet"})
		}
	}
	return out
}

// dueFetches asks again, of somebody else, what was not answered.
func (n *Node) dueFetches(at auth.Instant) []Effect {
	var out []Effect
	if n.behind() && !n.acts.asked && at.Boot >= n.acts.retryAt {
		if peer, ok := n.askable(n.acts.silent); ok {
			out = append(out, n.askActs(peer)...)
		}
	}
	if o := &n.orders; n.missesOrders() && !o.asking && at.Boot >= o.retryAt {
		if peer, ok := n.aServer(o.silent); ok {
			o.asking = true
			out = append(out, FetchOrders{From: peer, Since: o.cursor, Known: o.behind(o.cursor)})
		}
	}
	return out
}

// missesOrders reports whether commands may have been committed that this node has not looked at. While it is behind on
// the record it could not judge them.
func (n *Node) missesOrders() bool {
	return (n.beacon.Act > n.orders.cursor || n.orders.hinted) && !n.behind()
}

// askable picks whom else to ask for what every member has: a server before anyone.
func (n *Node) askable(not fleet.ID) (fleet.ID, bool) {
	if peer, ok := n.aServer(not); ok && peer != n.self {
		return peer, true
	}
	return n.anyone()
}

// servers lists the replicas of the newest beacon.
func (n *Node) servers() []fleet.ID { return slices.Concat(n.beacon.Voters, n.beacon.Spares) }

// aServer picks a random replica, one that gossip sees before one that it does not; self counts.
func (n *Node) aServer(not fleet.ID) (fleet.ID, bool) {
	var good, rest []fleet.ID
	for _, id := range n.servers() {
		switch {
		case id == not:
		case id == n.self || n.seen[id].Status == fleet.Online:
			good = append(good, id)
		default:
			rest = append(rest, id)
		}
	}
	for _, choice := range [][]fleet.ID{good, rest} {
		if len(choice) > 0 {
			return choice[n.random.IntN(len(choice))], true
		}
	}
	if contains(n.servers(), not) {
		return not, true // the only one
	}
	return fleet.ID{}, false
}

func contains(ids []fleet.ID, id fleet.ID) bool { return slices.Contains(ids, id) }
