package gossip

import (
	"encoding/binary"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/muster-fleet/muster/node/fleet"
)

// tagKey is the one serf tag that a node has.
const tagKey = "m"

// gate answers what serf and memberlist ask. Its methods run under memberlist's lock: they must not call back.
type gate struct{ g *Gossip }

// NotifyMerge is asked before memberlist takes an alive message, with that one member, and before a join's exchange,
// with all members of the other side. The whole list is let through: its members come one by one afterwards, and one
// that was removed meanwhile must not spoil the join. Of this node itself the others may hold what says that it is gone, and
// that comes no other way.
func (a gate) NotifyMerge(members []*serf.Member) error {
	if len(members) == 1 {
		return a.g.admitMember(members[0])
	}
	for _, m := range members {
		if m.Name == a.g.cfg.Self.Text() {
			a.g.hearGoodbye(m)
		}
	}
	return nil
}

// hearGoodbye hears what others hold of this node where it is a goodbye. Anything else comes with the members one by one, and is
// heard then: an answer given before memberlist knows what it is about would have an incarnation that nobody follows.
func (g *Gossip) hearGoodbye(m *serf.Member) {
	t, err := openTag(g.cfg.Fleet, g.public, []byte(m.Tags[tagKey]))
	if err == nil && t.leaving {
		g.hearSelf(t)
	}
}

// AckPayload adds the digest of the members that we see to every ack.
func (a gate) AckPayload() []byte {
	return binary.BigEndian.AppendUint64(nil, a.g.book.summary())
}

// NotifyPingComplete takes the answer to a probe.
func (a gate) NotifyPingComplete(other *memberlist.Node, rtt time.Duration, payload []byte) {
	a.g.book.measured(other.Name, rtt)
	if len(payload) != 8 || !a.g.drift.compare(time.Now(), a.g.book.summary(), binary.BigEndian.Uint64(payload)) {
		return
	}
	select {
	case a.g.exchange <- other.Name:
	default:
	}
}

// ReconnectTimeout ends serf's calling of lost members that said goodbye or were removed.
func (a gate) ReconnectTimeout(m *serf.Member, otherwise time.Duration) time.Duration {
	if leaving, known := a.g.book.leaving(m.Name); leaving || !known {
		return 0
	}
	return otherwise
}

// admitMember decides whether a member may be taken in, as what it says of itself.
func (g *Gossip) admitMember(m *serf.Member) error {
	if m.Addr.String() != everywhere || m.Port != everywherePort {
		return fleet.Errorf(fleet.Denied, "it has an address of its own in memberlist")
	}
	id, err := fleet.ParseID(m.Name)
	if err != nil {
		return err
	}
	raw, ok := m.Tags[tagKey]
	if !ok || len(m.Tags) != 1 {
		return fleet.Errorf(fleet.Denied, "it has no signed tag, or others beside it")
	}
	key, ok := g.trusted(id)
	if !ok {
		return fleet.Errorf(fleet.Denied, "it is not enrolled, or was removed")
	}
	if g.book.holds(m.Name, raw) {
		return nil
	}
	t, err := openTag(g.cfg.Fleet, key, []byte(raw))
	if err != nil {
		return err
	}
	if id == g.cfg.Self {
		g.hearSelf(t)
		return nil // memberlist answers it with what we say now
	}
	v, was, moved := g.book.take(id, raw, t)
	if v == stale {
		return fleet.Errorf(fleet.Denied, "its tag is older than the one we hold")
	}
	g.echoMoved(id, raw, was, t.addrs)
	if moved != nil {
		g.feed.put(Event{changeTo(*moved), *moved})
	}
	return nil
}

// trusted is Config.Trusted, and ourselves.
func (g *Gossip) trusted(id fleet.ID) (key []byte, ok bool) {
	if id == g.cfg.Self {
		return g.public, true
	}
	return g.cfg.Trusted(id)
}

// hearSelf notes a tag of ours that comes back. If it is not older than what we say now, others would refuse us: we have
// to go beyond it. That happens when the clock went back, and when two hosts run with one key.
func (g *Gossip) hearSelf(t tag) {
	g.cfg.Echo(t.seq)
	for {
		highest := g.echoed.Load()
		if t.seq <= highest || g.echoed.CompareAndSwap(highest, t.seq) {
			break
		}
	}
	if t.seq < g.said.Load() || g.cfg.Yield && t.leaving { // the other one yields too: both are heard
		return
	}
	select {
	case g.outrun <- struct{}{}:
	default:
	}
}

// onSerf turns serf's events into ours.
func (g *Gossip) onSerf(e serf.Event) {
	change, ok := e.(serf.MemberEvent)
	if !ok {
		return
	}
	for i := range change.Members {
		g.onMember(change.Type, change.Members[i].Name)
	}
}

func (g *Gossip) onMember(kind serf.EventType, name string) {
	var alive bool
	switch kind {
	case serf.EventMemberJoin:
		alive = true
	case serf.EventMemberFailed, serf.EventMemberLeave:
	default: // updates come from the tags; a member that serf forgets stays until it is removed from the fleet
		return
	}
	m, ok := g.book.turned(name, alive)
	if !ok || m.ID == g.cfg.Self {
		return
	}
	switch m.Status {
	case fleet.Online:
		g.feed.put(Event{Joined, m})
	case fleet.Left:
		g.feed.put(Event{Left, m})
	case fleet.ConnectionLost:
		g.feed.put(Event{Failed, m})
	}
}
