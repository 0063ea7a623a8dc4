package node

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// UplinkCount is how many uplinks an outbound-only node keeps: when one is lost, the other carries.
const UplinkCount = 2

// How uplinks are tried. A connection to a host that is not there takes some seconds to fail: after uplinkPatience the
// next one is tried beside it. While no uplink stands nobody reaches this node, so nobody is left alone for long.
const (
	uplinkPatience  = time.Second
	uplinkBackoff   = time.Second      // after the first failure; it doubles
	maxUplinkWait   = 30 * time.Second // while another uplink stands
	maxLonelyWait   = 4 * time.Second  // while none does
	uplinkForgiven  = 10 * time.Minute // what failed so long ago is forgotten
	spreadAfter     = 10 * time.Minute // both uplinks have stood in one zone: then another zone is tried beside them
	maxUplinkTrials = 4                // at a time
)

// UplinkCandidate is a member that may serve an outbound-only node as a relay.
type UplinkCandidate struct {
	ID     fleet.ID
	Zone   string // its tag "zone"; may be empty
	Server bool   // an operator made it eligible to keep state: it is meant to be there
	Online bool   // gossip sees it
}

// Uplinks decides through which members an outbound-only node is reached. NewUplinks makes one. Times
// are boot times.
type Uplinks struct {
	self  fleet.ID
	links map[fleet.ID]*uplink
}

type uplink struct {
	state    uplinkState
	since    time.Duration // of the state
	failures int           // since it was last known to be stable
	after    time.Duration // when it may be tried again
}

type uplinkState uint8

const (
	uplinkGone uplinkState = iota
	uplinkTried
	uplinkStands
	uplinkDropped // it is to end, and has not yet
)

// NewUplinks makes a choice for a node that has no uplink yet.
func NewUplinks(self fleet.ID) *Uplinks {
	return &Uplinks{self: self, links: map[fleet.ID]*uplink{}}
}

// UplinkPlan is what to do about the uplinks.
type UplinkPlan struct {
	Dial []fleet.ID
	Drop []fleet.ID    // to whom is no candidate any more, or one too many
	Wake time.Duration // boot time
}

// Plan says what to do now, and when to ask again at the latest, where nothing happens before. Whom it says to dial counts
// as tried from then on, until Stands or Ended; what it says to drop counts no more, and is to be told of by Ended.
func (u *Uplinks) Plan(at time.Duration, candidates []UplinkCandidate) UplinkPlan {
	plan := UplinkPlan{Wake: at + maxUplinkWait}
	byID := make(map[fleet.ID]UplinkCandidate, len(candidates))
	for _, c := range candidates {
		byID[c.ID] = c
	}
	plan.Drop = u.drop(byID)
	for _, id := range plan.Drop {
		u.links[id].state = uplinkDropped
	}
	var chosen []UplinkCandidate // that count towards UplinkCount
	trials := 0
	for id, l := range u.links {
		c, known := byID[id]
		switch {
		case l.state == uplinkGone || l.state == uplinkDropped || !known:
		case l.state == uplinkStands:
			chosen = append(chosen, c)
		default:
			trials++
			if slow := l.since + uplinkPatience; at < slow {
				chosen = append(chosen, c)
				plan.Wake = min(plan.Wake, slow)
			}
		}
	}
	for len(chosen) < UplinkCount && trials < maxUplinkTrials {
		next, wake, ok := u.best(at, candidates, chosen)
		if !ok {
			plan.Wake = min(plan.Wake, wake)
			break
		}
		l := u.link(next.ID)
		l.state, l.since = uplinkTried, at
		plan.Dial = append(plan.Dial, next.ID)
		plan.Wake = min(plan.Wake, at+uplinkPatience)
		chosen, trials = append(chosen, next), trials+1
	}
	if id, ok := u.spread(at, candidates, chosen); ok && trials == 0 {
		l := u.link(id)
		l.state, l.since = uplinkTried, at
		plan.Dial = append(plan.Dial, id)
	}
	return plan
}

// spread picks a member of another zone, where both uplinks have stood in one zone for long: when the one in the other zone
// was lost, this zone was all there was.
func (u *Uplinks) spread(at time.Duration, candidates, chosen []UplinkCandidate) (fleet.ID, bool) {
	if len(chosen) != UplinkCount || chosen[0].Zone == "" || chosen[0].Zone != chosen[1].Zone {
		return fleet.ID{}, false
	}
	for _, c := range chosen {
		if l := u.links[c.ID]; l == nil || l.state != uplinkStands || at-l.since < spreadAfter {
			return fleet.ID{}, false
		}
	}
	elsewhere := slices.DeleteFunc(slices.Clone(candidates), func(c UplinkCandidate) bool {
		return !c.Online || c.Zone == "" || c.Zone == chosen[0].Zone || !u.steady(at, c.ID)
	})
	c, _, ok := u.best(at, elsewhere, chosen)
	return c.ID, ok
}

// drop lists the uplinks to end: to whom is no candidate, and what there is beyond UplinkCount. Who is forgotten by the
// roster is forgotten here, too.
func (u *Uplinks) drop(byID map[fleet.ID]UplinkCandidate) []fleet.ID {
	var out []fleet.ID
	for id, l := range u.links {
		if _, known := byID[id]; known {
			continue
		}
		switch l.state {
		case uplinkGone:
			delete(u.links, id)
		case uplinkTried, uplinkStands:
			out = append(out, id)
		case uplinkDropped:
		}
	}
	out = append(out, u.surplus(byID)...)
	slices.SortFunc(out, fleet.ID.Compare)
	return slices.Compact(out)
}

// surplus lists those of the uplinks that stand that are too many: kept are the oldest, and the oldest in another zone.
func (u *Uplinks) surplus(byID map[fleet.ID]UplinkCandidate) []fleet.ID {
	via := u.standing()
	if len(via) <= UplinkCount {
		return nil
	}
	second := 1
	for i := range via {
		if byID[via[i]].Zone != byID[via[0]].Zone {
			second = i
			break
		}
	}
	return append(slices.Clone(via[1:second]), via[second+1:]...)
}

// best picks the next member to try, or says when there will be one.
func (u *Uplinks) best(at time.Duration, candidates, chosen []UplinkCandidate) (best UplinkCandidate, wake time.Duration, ok bool) {
	wake = at + maxUplinkWait
	for _, c := range candidates {
		l, known := u.links[c.ID]
		if known && l.state != uplinkGone {
			continue
		}
		if known && at < l.after {
			wake = min(wake, l.after)
			continue
		}
		if !ok || u.better(at, c, best, chosen) {
			best, ok = c, true
		}
	}
	return best, wake, ok
}

// better reports whether a is to be tried before b: who is there, has not failed lately, is in another zone than those
// chosen, and is a server. Among equals each outbound-only node has an order of its own, so that they spread.
func (u *Uplinks) better(at time.Duration, a, b UplinkCandidate, chosen []UplinkCandidate) bool {
	rank := func(c UplinkCandidate) int {
		r := 0
		if c.Online {
			r += 8
		}
		if u.steady(at, c.ID) {
			r += 4
		}
		if !slices.ContainsFunc(chosen, func(o UplinkCandidate) bool { return o.Zone == c.Zone && o.Zone != "" }) {
			r += 2
		}
		if c.Server {
			r++
		}
		return r
	}
	if x, y := rank(a), rank(b); x != y {
		return x > y
	}
	return u.lot(a.ID, 0) < u.lot(b.ID, 0)
}

// steady reports whether nothing is known against a member as an uplink.
func (u *Uplinks) steady(at time.Duration, id fleet.ID) bool {
	l := u.links[id]
	return l == nil || l.failures == 0 || l.state == uplinkGone && at-l.since >= uplinkForgiven
}

// lot draws a number that differs from node to node, and is always the same.
func (u *Uplinks) lot(id fleet.ID, salt uint64) uint64 {
	data := binary.BigEndian.AppendUint64(nil, salt)
	sum := fleet.Sum(append(append(data, u.self[:]...), id[:]...))
	return binary.BigEndian.Uint64(sum[:])
}

func (u *Uplinks) link(id fleet.ID) *uplink {
	l, known := u.links[id]
	if !known {
		l = &uplink{}
		u.links[id] = l
	}
	return l
}

// Stands notes that an uplink stands.
func (u *Uplinks) Stands(at time.Duration, id fleet.ID) {
	l := u.link(id)
	if l.state != uplinkDropped {
		l.state, l.since = uplinkStands, at
	}
}

// Ended notes that an uplink is no more, or never was.
func (u *Uplinks) Ended(at time.Duration, id fleet.ID) {
	l := u.link(id)
	if l.state == uplinkDropped { // nothing was wrong with it
		l.state, l.since = uplinkGone, at
		return
	}
	if l.state == uplinkStands && at-l.since >= uplinkForgiven {
		l.failures = 0
	}
	tried := l.state == uplinkTried
	l.state, l.since = uplinkGone, at
	if tried && len(u.standing()) == 0 { // this host itself may be cut off: that says nothing against the other
		l.after = at + u.spreadOut(id, maxLonelyWait)
		return
	}
	l.failures++
	most := maxUplinkWait
	if len(u.standing()) == 0 {
		most = maxLonelyWait
		for _, other := range u.links { // they were put off while an uplink stood
			other.after = min(other.after, at+most)
		}
	}
	l.after = at + u.spreadOut(id, min(most, uplinkBackoff<<min(l.failures-1, 10)))
}

// spreadOut shortens a wait by up to a half, so that not all come at once when a relay is back.
func (u *Uplinks) spreadOut(id fleet.ID, wait time.Duration) time.Duration {
	return wait/2 + time.Duration(u.lot(id, uint64(u.links[id].failures))%uint64(wait/2))
}

// Via returns through whom this node is reached: the uplinks that stand, the oldest first.
func (u *Uplinks) Via() []fleet.ID {
	out := u.standing()
	return out[:min(len(out), UplinkCount)]
}

func (u *Uplinks) standing() []fleet.ID {
	var out []fleet.ID
	for id, l := range u.links {
		if l.state == uplinkStands {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b fleet.ID) int {
		return cmp.Or(cmp.Compare(u.links[a].since, u.links[b].since), a.Compare(b))
	})
	return out
}

// UplinkCandidates lists the members that an outbound-only node may choose from: who is enrolled, has not left, can be
// dialled, and is not outbound-only itself. addrs knows where members are, also those that gossip has not met since the
// start.
func UplinkCandidates(self fleet.ID, record auth.Record, seen map[fleet.ID]Sighting, addrs map[fleet.ID][]netip.AddrPort) []UplinkCandidate {
	var out []UplinkCandidate
	for entry := range record.Roster.All() {
		s := seen[entry.ID]
		if entry.ID == self || entry.Removed != 0 || s.Status == fleet.Left || len(s.Via) > 0 || len(addrs[entry.ID]) == 0 {
			continue
		}
		out = append(out, UplinkCandidate{ID: entry.ID, Zone: entry.Tags["zone"], Server: entry.Server, Online: s.Status == fleet.Online})
	}
	return out
}

// Way is how one packet gets to a node.
type Way struct {
	To    fleet.ID
	Addr  netip.AddrPort // where it is sent: the node's, or, with Relay, the relay's; invalid where Relay is this node itself
	Relay fleet.ID       // zero: none
}

// Ways lists how packets reach a node, the likeliest first; nil where nobody knows. One that can be dialled has one way. To
// an outbound-only node it is one by each relay, by its uplink to this node first, then by those who are there.
func Ways(self, to fleet.ID, seen map[fleet.ID]Sighting, addrs map[fleet.ID][]netip.AddrPort) []Way {
	relays := Relays(self, to, seen)
	if len(relays) == 0 {
		if at := addrs[to]; len(at) > 0 {
			return []Way{{To: to, Addr: at[0]}}
		}
		return nil
	}
	var out []Way
	for _, id := range relays {
		w := Way{To: to, Relay: id}
		if id != self {
			if len(addrs[id]) == 0 {
				continue
			}
			w.Addr = addrs[id][0]
		}
		out = append(out, w)
	}
	return out
}

// Relays lists the members through which an outbound-only node is reached, the likeliest first: this node itself, then
// who is online. Nil for all other nodes.
func Relays(self, to fleet.ID, seen map[fleet.ID]Sighting) []fleet.ID {
	rank := func(id fleet.ID) int {
		switch {
		case id == self:
			return 0
		case seen[id].Status == fleet.Online:
			return 1
		}
		return 2
	}
	out := slices.Clone(seen[to].Via)
	slices.SortStableFunc(out, func(a, b fleet.ID) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// UplinkWarnings says what the owner of an outbound-only host should know. why is why an uplink last ended, or could not be
// had; empty where that never was.
func UplinkWarnings(s Status, why string) []string {
	if !s.Outbound {
		return nil
	}
	var out []string
	if s.Self.Role != fleet.Plain && s.Self.Role != "" {
		out = append(out, "this host keeps the fleet's state, and nobody can dial it: start its agent without --outbound, or enrol hosts that can be dialled")
	}
	switch {
	case len(s.Uplinks) >= UplinkCount:
	case len(s.Uplinks) == 1:
		out = append(out, "1 uplink: without "+s.Uplinks[0].Name+" nobody reaches this host"+because(why))
	case why == "":
		out = append(out, "no uplink: nobody reaches this host, and it knows of no member that can be dialled")
	default:
		out = append(out, "no uplink: nobody reaches this host"+because(why)+"; it must be able to send UDP to the others' port, and get answers")
	}
	return out
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (last: " + why + ")"
}
