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

// floorStep is how far the clock's floor moves before it is written again: a restart may lose so much of it.
const floorStep = time.Minute

func (n *Node) gossiped(ev Gossiped) {
	clear(n.seen)
	for _, s := range ev.Members {
		n.seen[s.ID] = s
	}
	n.onlineStale = true
}

// members lists the enrolled members that gossip sees, without self, sorted: maps have no order, and choices must follow
// the seed.
func (n *Node) members() []fleet.ID {
	if !n.onlineStale {
		return n.online
	}
	n.onlineStale = false
	n.online = n.online[:0]
	for id, s := range n.seen {
		if s.Status != fleet.Online || id == n.self {
			continue
		}
		if _, err := n.record.Roster.Enrolled(id); err == nil {
			n.online = append(n.online, id)
		}
	}
	slices.SortFunc(n.online, byID)
	return n.online
}

func (n *Node) dueDigest(at auth.Instant) []Effect {
	if at.Boot < n.digestAt {
		return nil
	}
	peer, ok := n.digestPeer()
	if !ok {
		n.digestAt = at.Boot + retryAfter
		return nil
	}
	n.digestAt = at.Boot + digestEvery*3/4 + time.Duration(n.random.Int64N(int64(digestEvery/2)))
	if n.envelope.Format == 0 { // it knows no server: soon again, a thousand hosts a second at most
		n.digestAt = at.Boot + retryAfter + time.Duration(n.random.Int64N(int64(n.record.Roster.Len()+1)))*time.Millisecond
	}
	if self, err := n.record.Roster.Enrolled(n.self); n.clock.Heard == 0 && err == nil && self.Server {
		n.digestAt = at.Boot + retryAfter // it tells others the time: it must soon know whether it is right
	}
	return []Effect{ExchangeBeacons{With: peer}}
}

// digestPeer picks whom to exchange beacons with. A host that cannot tell yet whether its clock is right asks a server:
// only a beacon straight from its signer says how late it is.
func (n *Node) digestPeer() (fleet.ID, bool) {
	if n.clock.Heard == 0 {
		if peer, ok := n.aServer(n.self); ok && peer != n.self {
			return peer, true
		}
	}
	if n.envelope.Format == 0 && n.random.IntN(2) == 0 {
		if peer, ok := n.eligible(); ok {
			return peer, true
		}
	}
	return n.anyone()
}

// eligible picks a random member that the roster calls a server: after a power cut nobody else has a beacon.
func (n *Node) eligible() (fleet.ID, bool) {
	var servers []fleet.ID
	for _, id := range n.members() {
		if entry, err := n.record.Roster.Enrolled(id); err == nil && entry.Server {
			servers = append(servers, id)
		}
	}
	if len(servers) == 0 {
		return fleet.ID{}, false
	}
	return servers[n.random.IntN(len(servers))], true
}

// anyone picks a random member to talk to: one that gossip sees, else any enrolled one, for a node that gossip lost
// (it may have missed a key rotation) is still reachable over QUIC.
func (n *Node) anyone() (fleet.ID, bool) {
	others := n.members()
	if len(others) == 0 {
		others = nil // not the list above
		for entry := range n.record.Roster.All() {
			if entry.ID != n.self {
				others = append(others, entry.ID)
			}
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
	out := n.hearBeacon(at, ev.From, ev.Envelope, ev.From == ev.Envelope.Key && !ev.Hearsay)
	if o := &n.orders; ev.Act > max(o.newest, o.cursor) && at.Boot >= o.hintAt {
		// The bell of an order was missed here, and beacons that tell of it spread slower than bells. It may be for others,
		// or a lie: one look for one exchange.
		o.hinted, o.hintAt = true, at.Boot+retryAfter
	}
	return out
}

// hearBeacon judges a beacon that somebody passed on. direct says that its signer itself gave it, now.
func (n *Node) hearBeacon(at auth.Instant, from fleet.ID, e auth.Envelope, direct bool) []Effect {
	b, err := auth.OpenBeacon(n.record, e)
	if err != nil {
		return n.strangeBeacon(at, from, e)
	}
	var out []Effect
	if direct {
		out = n.hearTime(at, b.Time)
	} else {
		out = n.overhear(at, b.Time)
	}
	out = append(out, n.takeBeacon(at, b, e)...)
	if n.behind() {
		out = append(out, n.hintedActs(at, from)...)
	}
	return out
}

// strangeBeacon looks at a beacon that does not open: who gave it may know a server that we do not know yet.
func (n *Node) strangeBeacon(at auth.Instant, from fleet.ID, e auth.Envelope) []Effect {
	if entry, ok := n.record.Roster.Node(e.Key); ok && (entry.Removed != 0 || entry.Server) {
		return nil // a removed server's, or a forgery
	}
	if n.behind() {
		return nil // there is a known way to more
	}
	n.acts.strange = []auth.Envelope{e}
	return n.hintedActs(at, from)
}

// hearTime takes a server's own word on the time. Where others had brought a later one, that one counts from now on: it
// is no earlier than that.
func (n *Node) hearTime(at auth.Instant, ms int64) []Effect {
	n.clock = n.clock.Hear(ms, at)
	if n.clock.Heard == 0 && n.clock.Floor > 0 && n.clock.Floor-ms < auth.MaxSkew.Milliseconds() {
		n.clock.Heard = at.Boot
	}
	return n.keepFloor()
}

func (n *Node) overhear(at auth.Instant, ms int64) []Effect {
	n.clock = n.clock.Overhear(ms, at)
	return n.keepFloor()
}

func (n *Node) keepFloor() []Effect {
	if n.clock.Floor-n.floorKept < floorStep.Milliseconds() {
		return nil
	}
	n.floorKept = n.clock.Floor
	return []Effect{KeepFloor{n.clock.Floor}}
}

// takeBeacon takes a verified beacon if it is newer than ours.
func (n *Node) takeBeacon(at auth.Instant, b auth.Beacon, e auth.Envelope) []Effect {
	if !b.Newer(n.beacon) {
		return nil
	}
	old := n.beacon
	if b.Epoch != old.Epoch {
		n.orders.cursor = 0 // a recovered quorum counts anew
	}
	if b.Act > n.orders.cursor && old.Act <= n.orders.cursor {
		// Everybody hears of it within a moment: spread over time, the servers get a thousand questions a second.
		n.orders.retryAt = at.Boot + time.Duration(n.random.Int64N(int64(n.record.Roster.Len()+1)))*time.Millisecond
	}
	if !slices.Equal(old.Voters, b.Voters) || !slices.Equal(old.Spares, b.Spares) {
		n.outbox.serversChanged()
	}
	if b.Leader != old.Leader && !b.Leader.IsZero() {
		n.newLeader(at)
	}
	n.beacon, n.envelope = b, e
	out := []Effect{KeepBeacon{Beacon: b, Envelope: e, Clock: n.clock}}
	out = append(out, n.warnOfFork(b)...)
	return append(out, n.vouch(at, b)...)
}

// warnOfFork says once that a server has another history than this node.
func (n *Node) warnOfFork(b auth.Beacon) []Effect {
	if b.RecordLen != n.record.Length || n.record.Length == 0 {
		return nil
	}
	before := n.forked
	if n.forked = b.Contradicts(n.record); !n.forked || before {
		return nil
	}
	return []Effect{Warn{fmt.Sprintf("a server has another record than this node at length %d: the fleet's history has forked", b.RecordLen)}}
}

// checkBeacon forgets a beacon whose signer is no server any more: it must not make honest ones look old.
func (n *Node) checkBeacon() []Effect {
	if n.envelope.Format == 0 {
		return nil
	}
	if entry, err := n.record.Roster.Enrolled(n.envelope.Key); err == nil && entry.Server {
		return nil
	}
	n.beacon, n.envelope = auth.Beacon{}, auth.Envelope{}
	n.digestAt = 0
	n.outbox.serversChanged()
	return []Effect{KeepBeacon{Clock: n.clock}}
}
