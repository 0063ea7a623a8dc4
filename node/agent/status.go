package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Status returns what this host says of itself.
func (a *Agent) Status(ctx context.Context) node.Status {
	p := a.picture.Load()
	at := a.cfg.Clock()
	s := node.Status{
		Version: a.cfg.Version, Fleet: a.cfg.Fleet, Now: p.clock.Now(at), ClockOff: p.clock.Suspect(at),
		Act: p.record.Act, RecordLen: p.record.Length, Observed: a.peers.Observed(), Quorum: a.quorumStatus(),
	}
	if c := p.record.Charter; c != nil {
		s.FleetName, s.CharterHead, s.CharterLen = c.Name(), c.Head(), c.Len()
	}
	for _, m := range a.nodes(p, nil) {
		switch m.Status {
		case fleet.Online:
			s.Online++
		case fleet.Left:
			s.Left++
		case fleet.ConnectionLost:
			s.Lost++
		}
		if m.ID == a.self {
			s.Self = m
		}
	}
	s.Self.ID, s.Self.Name, s.Self.Facts, s.Self.Plight = a.self, a.cfg.Name, a.cfg.Facts, a.Plight()
	s.Outbound = a.Outbound()
	for _, id := range a.Via() {
		s.Uplinks = append(s.Uplinks, a.serverStatus(id))
	}
	s.Warnings = a.warnings(p, s)
	return s
}

func (a *Agent) warnings(p *picture, s node.Status) []string {
	var out []string
	a.mu.Lock()
	gone := a.gone
	sightings := make([]node.Sighting, 0, len(a.seen))
	for _, m := range a.seen {
		sightings = append(sightings, m)
	}
	a.mu.Unlock()
	if gone != "" {
		out = append(out, "peers refuse this node: "+gone)
	}
	if a.cfg.Idle != "" {
		out = append(out, node.CloneText)
	}
	if s.ClockOff != 0 {
		out = append(out, fmt.Sprintf("this host's clock is off by %s: commands wait until it is set (timedatectl set-ntp true)", s.ClockOff.Round(1e9)))
	}
	out = append(out, a.uplinkWarnings(s)...)
	if s.Quorum.Danger != "" {
		out = append(out, s.Quorum.Danger)
	}
	if a.quorum != nil {
		if trouble := a.quorum.Status().Trouble; trouble != "" {
			out = append(out, trouble)
		}
	}
	out = append(out, a.levelWarnings()...)
	return append(out, node.SameAddresses(sightings, a.nameOf)...)
}

func (a *Agent) quorumStatus() node.QuorumStatus {
	b := a.newest(a.picture.Load())
	q := node.QuorumStatus{Leader: b.Leader, Term: b.Term, Level: a.levelStatus()}
	for _, id := range b.Voters {
		q.Voters = append(q.Voters, a.serverStatus(id))
	}
	for _, id := range b.Spares {
		q.Spares = append(q.Spares, a.serverStatus(id))
	}
	for entry := range a.record().Roster.All() {
		if entry.Server && entry.Removed == 0 && a.isOutbound(entry.ID) {
			q.Outbound = append(q.Outbound, a.serverStatus(entry.ID))
		}
	}
	q.Danger = node.Danger(q.Voters)
	return q
}

// newest returns the newest beacon, with what this host's own replica knows better.
func (a *Agent) newest(p *picture) auth.Beacon {
	b := p.beacon
	if a.quorum != nil {
		if s := a.quorum.Status(); s.Member {
			b.Leader, b.Term = s.Leader, s.Term
			b.Voters, b.Spares = firstSorted(s.Voters, auth.MaxVoters), firstSorted(s.Spares, auth.MaxSpares)
		}
	}
	return b
}

// CountedOn reports whether the servers count on this host's replica, by what they say: who is removed from the quorum is
// not told so by raft. True while nobody has said anything.
func (a *Agent) CountedOn() bool {
	b := a.picture.Load()
	return b.envelope.Format == 0 || slices.Contains(b.beacon.Voters, a.self) || slices.Contains(b.beacon.Spares, a.self)
}

func (a *Agent) serverStatus(id fleet.ID) node.ServerStatus {
	return node.ServerStatus{ID: id, Name: a.nameOf(id), Online: a.alive(id)}
}

// Nodes lists the fleet's members: the roster joined with gossip and with what nodes say of themselves.
func (a *Agent) Nodes(ctx context.Context) []fleet.Member {
	out, plights := a.nodes(a.picture.Load(), a.allFacts(ctx)), a.allPlights(ctx)
	for i := range out {
		out[i].Plight = plights[out[i].ID]
	}
	return out
}

func (a *Agent) nodes(p *picture, facts map[fleet.ID]fleet.Facts) []fleet.Member {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []fleet.Member
	now := a.cfg.Clock().Wall.UnixMilli()
	b := a.newest(p)
	for entry := range p.record.Roster.All() {
		seen := a.seen[entry.ID]
		seen.Via = node.Relays(a.self, entry.ID, a.seen) // who is there first: command lines try them in this order
		if entry.ID == a.self {
			seen.Status, seen.LastSeen, seen.Via = fleet.Online, now, a.Via()
		}
		if seen.Status == fleet.Online {
			seen.LastSeen = now
		}
		if len(seen.Addrs) == 0 && len(seen.Via) == 0 {
			seen.Addrs = a.hints[entry.ID]
		}
		out = append(out, node.Describe(entry, seen, facts[entry.ID], b))
	}
	return out
}

// Operators lists those who may sign.
func (a *Agent) Operators(context.Context) []auth.Operator {
	if c := a.record().Charter; c != nil {
		return c.Operators()
	}
	return nil
}

// Leave says goodbye to the fleet and ends Run. The host stays enrolled.
func (a *Agent) Leave(ctx context.Context) error {
	if a.quorum != nil && a.quorum.Status().Leading {
		a.complain("hand the lead over", a.quorum.StepDown(ctx))
	}
	err := a.gossip.Leave(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.leave:
	default:
		close(a.leave)
	}
	return err
}

// SelfAddrs returns where this host tells others it is: what it was told to advertise, then what it found.
func SelfAddrs(advertise, found []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, addr := range slices.Concat(advertise, found) {
		if !slices.Contains(out, addr) && len(out) < 4 {
			out = append(out, addr)
		}
	}
	return out
}

// Record returns the newest record of this host.
func (a *Agent) Record() auth.Record { return a.record() }

// Now returns the time that statements are judged by on this host.
func (a *Agent) Now() time.Time { return a.now() }
