package node

import (
	"math/rand/v2"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// Node is one host's decisions. Step is its only door; the shell calls it from one goroutine.
type Node struct {
	self   fleet.ID
	facts  fleet.Facts
	own    config.Consent // what this host's own root withholds
	random *rand.Rand

	record auth.Record
	clock  auth.Clock
	seen   map[fleet.ID]Sighting

	online      []fleet.ID // of members
	onlineStale bool
	sets        frozenSets
	floorKept   int64 // Unix milliseconds
	clockWarned bool
	forked      bool // a server's beacon contradicts the record

	beacon   auth.Beacon
	envelope auth.Envelope // of beacon

	began    time.Duration // boot time of the first Step
	digestAt time.Duration // next exchange of beacons, by boot time
	acts     catching
	orders   orders
	library  library
	pacing   pacing
	outbox   outbox
	rings    []laterRing
	tellAt   time.Duration // when to ring the record's bell; 0: nothing to tell
	keys     keyWatch
	keyrings keyrings
}

// Config is what a Node needs to know from the start.
type Config struct {
	Self   fleet.ID
	Facts  fleet.Facts
	Seed   uint64 // of every random choice
	Record auth.Record
	Clock  auth.Clock
	Keys   map[uint32]fleet.ID // hashes of the gossip keys that the host has, by epoch
	Seeds  []SeedName          // of keyrings, that are on the host's disk
	// Consent is what the host's own root withholds.
	Consent config.Consent
}

// New makes a Node. The first Step should be a Tick.
func New(c Config) *Node {
	return &Node{
		self: c.Self, facts: c.Facts, own: c.Consent, random: rand.New(rand.NewPCG(c.Seed, 0x6d7573746572)),
		record: c.Record, clock: c.Clock, seen: map[fleet.ID]Sighting{},
		floorKept: c.Clock.Floor, orders: newOrders(), library: newLibrary(), pacing: newPacing(), outbox: newOutbox(), keys: newKeyWatch(c.Keys),
		keyrings: newKeyrings(c.Seeds),
	}
}

// Step takes one event at a moment and returns what to do, in order.
func (n *Node) Step(at auth.Instant, ev Event) []Effect {
	if n.began == 0 {
		n.began = at.Boot
	}
	var out []Effect
	switch ev := ev.(type) {
	case Tick:
	case ConsentSet:
		n.own = ev.Consent
	case Gossiped:
		n.gossiped(ev)
	case BellHeard:
		out = n.bellHeard(at, ev.Bell)
	case BeaconHeard:
		out = n.beaconHeard(at, ev)
	case BeaconMade:
		out = n.beaconMade(at, ev)
	case PeerSilent:
		n.acts.silent = ev.Peer
	case ActsFetched:
		out = n.actsFetched(at, ev)
	case RecordCommitted:
		out = n.recordCommitted(at, ev.Act)
	case OrderFetched:
		out = n.orderFetched(at, ev)
	case OrdersFetched:
		out = n.ordersFetched(at, ev)
	case CancelFetched:
		out = n.cancelFetched(at, ev)
	case OrderCommitted:
		out = n.orderCommitted(at, ev.Committed)
	case RunStarted:
		out = n.runStarted(at, ev)
	case RunNotStarted:
		out = n.runNotStarted(at, ev)
	case RunLate:
		out = n.runLate(at, ev)
	case DocumentsFetched:
		out = n.documentsFetched(at, ev)
	case GrantAnswered:
		out = n.grantAnswered(at, ev)
	case Office:
		out = n.officeChanged(at, ev)
	case CommandChanged:
		out = n.commandChanged(at, ev.Command)
	case GrantAsked:
		out = n.grantAsked(at, ev)
	case GrantsProposed:
		out = n.grantsProposed(at, ev)
	case EndingsProposed:
		out = n.endingsProposed(at, ev)
	case ReportKept:
		out = n.reportKept(at, ev)
	case ReportAsked:
		out = n.reportAsked(ev)
	case DirectOrder:
		out = n.directOrder(at, ev.Order)
	case RefusalKept:
		out = n.refusalKept(at, ev)
	case RefusalLost:
		out = n.refusalLost(at, ev)
	case RunWrote:
		out = n.runWrote(at, ev)
	case RunEnded:
		out = n.runEnded(at, ev)
	case KeyKept:
		n.keys.have[ev.Epoch] = ev.Hash
	case ReportTaken:
		n.outbox.taken(ev)
	case ReportLost:
		n.outbox.lost(ev, at.Boot)
	case SeedKept:
		out = n.seedKept(at, ev.Seed)
	case SeedLost:
		n.seedLost(at, ev.Seed)
	case SeedsFetched:
		out = n.seedsFetched(at, ev)
	case EpochMade:
		out = n.epochMade(at, ev)
	case HoldingTold:
		n.holdingTold(at, ev)
	}
	return append(out, n.due(at)...)
}

// due does whatever waits for time rather than for news.
func (n *Node) due(at auth.Instant) []Effect {
	var out []Effect
	out = append(out, n.dueRings(at)...)
	out = append(out, n.dueDigest(at)...)
	out = append(out, n.dueFetches(at)...)
	out = append(out, n.dueOrders(at)...)
	out = append(out, n.dueKeys(at)...)
	out = append(out, n.dueKeyrings(at)...)
	out = append(out, n.duePacing(at)...)
	return append(out, n.dueReports(at)...)
}

// Deadline returns the boot time at which the next Tick is wanted. While anything waits, it is retryAfter away at most.
func (n *Node) Deadline(at auth.Instant) time.Duration {
	next := n.digestAt
	if n.tellAt != 0 {
		next = min(next, n.tellAt)
	}
	for _, r := range n.rings {
		next = min(next, r.at)
	}
	if n.keyrings.wakeAt != 0 {
		next = min(next, n.keyrings.wakeAt)
	}
	if n.pacing.wakeAt != 0 {
		next = min(next, n.pacing.wakeAt)
	}
	if len(n.orders.open) > 0 {
		next = min(next, n.orders.wakeAt)
	}
	if n.outbox.owing() {
		next = min(next, n.outbox.wakeAt)
	}
	for _, x := range n.outbox.news {
		next = min(next, x.since+progressGap)
	}
	if n.missesOrders() && !n.orders.asking {
		next = min(next, n.orders.retryAt)
	}
	if n.behind() {
		next = soonest(at, min(next, at.Boot+retryAfter), n.acts.retryAt)
	}
	if _, lacksKey := n.keys.missing(n.record); lacksKey {
		next = soonest(at, min(next, at.Boot+retryAfter), n.keys.retryAt)
	}
	return max(next, at.Boot)
}

// soonest returns when to look again at something that may be done from retryAt on. What may be done by now and was not
// waits for an answer, not for time.
func soonest(at auth.Instant, next, retryAt time.Duration) time.Duration {
	if retryAt <= at.Boot {
		return next
	}
	return min(next, retryAt)
}

// Record returns the newest record.
func (n *Node) Record() auth.Record { return n.record }

// Now returns the time that statements are judged by: the fleet's, where this host's clock is known to be wrong.
func (n *Node) Now(at auth.Instant) time.Time {
	if off := n.clock.Suspect(at); off != 0 {
		return at.Wall.Add(-off)
	}
	return n.clock.Now(at)
}

// member returns this node as its own targets see it: roster tags and its own facts.
func (n *Node) member() (fleet.Member, bool) {
	entry, err := n.record.Roster.Enrolled(n.self)
	if err != nil {
		return fleet.Member{}, false
	}
	return Describe(entry, Sighting{Status: fleet.Online}, n.facts, n.beacon), true
}

// Describe joins what the roster, gossip, the node's own facts and the newest beacon say of a member.
func Describe(entry *auth.Node, seen Sighting, facts fleet.Facts, b auth.Beacon) fleet.Member {
	m := fleet.Member{
		ID: entry.ID, Name: entry.Name, Tags: entry.Tags, Server: entry.Server, Role: RoleOf(b, entry.ID),
		Facts: facts, Status: seen.Status, Addrs: seen.Addrs, Via: seen.Via,
	}
	if seen.LastSeen != 0 {
		m.LastSeen = time.UnixMilli(seen.LastSeen)
	}
	if m.Status == "" {
		m.Status = fleet.ConnectionLost
	}
	return m
}

// RoleOf returns the role that a beacon gives a node.
func RoleOf(b auth.Beacon, id fleet.ID) fleet.Role {
	switch {
	case id == b.Leader && !id.IsZero():
		return fleet.Lead
	case contains(b.Voters, id):
		return fleet.Voter
	case contains(b.Spares, id):
		return fleet.Spare
	}
	return fleet.Plain
}
