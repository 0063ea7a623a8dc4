package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// digestEvery is how often a node exchanges beacons with one random member (decided). It catches what bells missed.
const digestEvery = 10 * time.Second

// fetching is one question that is asked of one peer at a time.
type fetching struct {
	asked   bool
	from    fleet.ID
	retryAt time.Duration // boot time
	silent  fleet.ID      // who did not answer last
}

func (f *fetching) avoid(peer fleet.ID) { f.silent = peer }

func (n *Node) gossiped(ev Gossiped) {
	n.seen = make(map[fleet.ID]Sighting, len(ev.Members))
	for _, s := range ev.Members {
		n.seen[s.ID] = s
	}
	n.recount()
}

// recount lists the enrolled members that gossip sees.
func (n *Node) recount() {
	n.online = n.online[:0:0]
	for id, s := range n.seen {
		if _, err := n.record.Roster.Enrolled(id); err == nil && s.Status == fleet.Online && id != n.self {
			n.online = append(n.online, id)
		}
	}
	slices.SortFunc(n.online, fleet.ID.Compare) // maps have no order, and choices must follow the seed
}

func (n *Node) dueDigest(at auth.Instant) []Effect {
	if at.Boot < n.digestAt {
		return nil
	}
	jitter := time.Duration(n.random.Int64N(int64(digestEvery / 2)))
	n.digestAt = at.Boot + digestEvery*3/4 + jitter
	peer, ok := n.anyone()
	if !ok {
		n.digestAt = at.Boot + retryAfter
		return nil
	}
	return []Effect{ExchangeBeacons{With: peer}}
}

// anyone picks a random member to talk to: one that gossip sees, else any enrolled one, for a node that gossip lost
// (it may have missed a key rotation) is still reachable over QUIC.
func (n *Node) anyone() (fleet.ID, bool) {
	if len(n.online) > 0 {
		return n.online[n.random.IntN(len(n.online))], true
	}
	var others []fleet.ID
	for entry := range n.record.Roster.All() {
		if entry.ID != n.self {
			others = append(others, entry.ID)
		}
	}
	if len(others) == 0 {
		return fleet.ID{}, false
	}
	return others[n.random.IntN(len(others))], true
}

func (n *Node) beaconMade(at auth.Instant, ev BeaconMade) []Effect {
	// A server's own clock is not news to it: its beacon raises no floor here.
	return n.takeBeacon(at, ev.Beacon, ev.Envelope)
}

func (n *Node) beaconHeard(at auth.Instant, ev BeaconHeard) []Effect {
	b, err := auth.OpenBeacon(n.record, ev.Envelope)
	if err != nil {
		// A server that we do not know yet signs beacons that we cannot read: its peer may know more than we do.
		return n.fetchActs(at, ev.From)
	}
	before := n.clock
	n.clock = n.clock.Hear(b.Time, at)
	var out []Effect
	if n.clock.Floor-before.Floor > time.Minute.Milliseconds() || before.Floor == 0 {
		out = append(out, KeepFloor{n.clock.Floor})
	}
	out = append(out, n.takeBeacon(at, b, ev.Envelope)...)
	if n.behind() {
		out = append(out, n.fetchActs(at, ev.From)...)
	}
	return out
}

func (n *Node) takeBeacon(at auth.Instant, b auth.Beacon, e auth.Envelope) []Effect {
	if !b.Newer(n.beacon) {
		return nil
	}
	out := []Effect{KeepBeacon{b, e}}
	if b.RecordLen == n.record.Length && b.RecordHead != n.record.Head && n.record.Length > 0 {
		out = append(out, Warn{fmt.Sprintf("a server has another record than this node at length %d: the fleet's history has forked", b.RecordLen)})
	}
	n.beacon, n.envelope = b, e
	n.outbox.serversChanged()
	return out
}

// behind reports whether somebody is known to have more of the record.
func (n *Node) behind() bool { return n.beacon.RecordLen > n.record.Length }

// fetchActs asks for what comes after our record, unless that was asked already.
func (n *Node) fetchActs(at auth.Instant, from fleet.ID) []Effect {
	if n.acts.asked || from == n.self || from.IsZero() {
		return nil
	}
	n.acts.asked, n.acts.from = true, from
	return []Effect{FetchActs{From: from, Position: n.record.Length}}
}

func (n *Node) actsFetched(at auth.Instant, ev ActsFetched) []Effect {
	n.acts.asked = false
	n.acts.retryAt = at.Boot + retryAfter
	if ev.Failed || len(ev.Acts) == 0 {
		n.acts.silent = ev.From
		return nil
	}
	out := n.takeActs(at, ev.Acts, ev.From)
	if n.behind() {
		out = append(out, n.fetchActs(at, ev.From)...)
	}
	return out
}

// takeActs applies acts in order and says what follows from them.
func (n *Node) takeActs(at auth.Instant, acts []auth.Act, from fleet.ID) []Effect {
	before := n.record
	var kept []auth.Act
	var out []Effect
	for _, act := range acts {
		if act.Index <= n.record.Act && n.record.Length > 0 {
			continue // have it
		}
		next, err := n.record.Apply(act, n.fleetID())
		if err != nil {
			out = append(out, Warn{fmt.Sprintf("act %d from %s does not hold: %v", act.Index, n.name(from), err)})
			break
		}
		n.record = next
		kept = append(kept, act)
	}
	if len(kept) == 0 {
		return out
	}
	out = append(out, KeepActs{Record: n.record, Acts: kept})
	out = append(out, n.dropRemoved(before)...)
	n.recount()
	return append(out, n.rejudge(at)...)
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
		if entry, ok := n.record.Roster.Node(old.ID); ok && entry.Removed != 0 {
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
			out = append(out, n.fetchActs(at, peer)...)
		}
	}
	if o := &n.orders; n.beacon.Act > o.cursor && !o.asking && at.Boot >= o.retryAt {
		if peer, ok := n.aServer(o.silent); ok {
			o.asking = true
			out = append(out, FetchOrders{From: peer, Since: o.cursor})
		}
	}
	return out
}

// askable picks whom to ask for the record: a server that gossip sees, else anyone.
func (n *Node) askable(not fleet.ID) (fleet.ID, bool) {
	if peer, ok := n.aServer(not); ok {
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
