package host

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/node/transport"
)

// peers lets the agent speak over the transport.
type peers struct{ end *transport.Endpoint }

func (p peers) Request(ctx context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	return p.end.Request(ctx, id, transport.Peer, kind, body)
}

func (p peers) Open(ctx context.Context, id fleet.ID) (agent.Stream, error) {
	s, err := p.end.Open(ctx, id, transport.Peer)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// OpenBulk opens a stream for what is large, so that it delays no bell and no heartbeat.
func (p peers) OpenBulk(ctx context.Context, id fleet.ID) (agent.Stream, error) {
	s, err := p.end.Open(ctx, id, transport.Bulk)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p peers) Ring(by node.Way, bell []byte) { p.send(by, transport.KindBell, bell) }

func (p peers) Note(by node.Way, beacon []byte) { p.send(by, transport.KindBeacon, beacon) }

func (p peers) send(by node.Way, kind transport.Kind, payload []byte) {
	if by.Relay.IsZero() {
		_ = p.end.SendPacket(by.Addr, kind, payload)
		return
	}
	_ = p.end.SendPacketVia(by.Addr, by.To, kind, payload)
}

func (p peers) Drop(id fleet.ID, why string) { p.end.Drop(id, why) }

func (p peers) UseKeys(send uint32, accept map[uint32][32]byte) {
	p.end.SetKeys(transport.Keys{Send: send, Accept: accept})
}

func (p peers) Observed() []netip.AddrPort { return p.end.Observed() }

// gate lets the agent judge who may speak.
type gate struct{ agent *agent.Agent }

func (g gate) Prove(transport.Plane) []byte { return g.agent.Prove() }

func (g gate) Admit(peer fleet.ID, plane transport.Plane, proof []byte) error {
	switch plane {
	case transport.Join:
		return nil // the join secret's signature is verified behind it
	case transport.Session:
		return g.agent.AllowOperator(peer)
	case transport.Relay:
		return g.agent.AllowRelay(peer)
	}
	return g.agent.Admit(peer, proof)
}

func (g gate) Allow(peer fleet.ID, plane transport.Plane) error {
	switch plane {
	case transport.Join:
		return nil
	case transport.Session:
		return g.agent.AllowOperator(peer)
	case transport.Relay:
		return g.agent.AllowRelay(peer)
	}
	return g.agent.Allow(peer, plane == transport.Raft || plane == transport.RaftBulk)
}

var _ transport.Carrier = gate{}

func (g gate) MayCarry(peer fleet.ID) error { return g.agent.MayCarry(peer) }

// carrier lets gossip speak over the transport.
type carrier struct{ end *transport.Endpoint }

func (c carrier) SendPacket(to netip.AddrPort, payload []byte) error {
	return c.end.SendPacket(to, transport.KindGossip, payload)
}

func (c carrier) SendVia(relay netip.AddrPort, to fleet.ID, payload []byte) error {
	return c.end.SendPacketVia(relay, to, transport.KindGossip, payload)
}

func (c carrier) Open(ctx context.Context, id fleet.ID, _ netip.AddrPort) (net.Conn, error) {
	return c.end.Open(ctx, id, transport.Gossip)
}

func (c carrier) MaxPayload() int { return transport.MaxRelayed }

func (c carrier) LocalAddr() netip.AddrPort { return c.end.LocalAddr() }

// members lets the agent see gossip's picture.
type members struct {
	gossip  *gossip.Gossip
	changed chan struct{}
	now     func() time.Time
	heard   map[fleet.ID]time.Time
}

func newMembers(g *gossip.Gossip, now func() time.Time) *members {
	m := &members{gossip: g, changed: make(chan struct{}, 1), now: now, heard: map[fleet.ID]time.Time{}}
	go func() {
		defer close(m.changed)
		for range g.Events() {
			select {
			case m.changed <- struct{}{}:
			default:
			}
		}
	}()
	return m
}

// Members is called from one goroutine of the agent.
func (m *members) Members() []node.Sighting {
	var out []node.Sighting
	now := m.now()
	for _, g := range m.gossip.Members() {
		if g.Status == fleet.Online {
			m.heard[g.ID] = now
		}
		s := node.Sighting{ID: g.ID, Addrs: g.Addrs, Via: g.Via, Seq: g.Seq, Status: g.Status}
		if at, ok := m.heard[g.ID]; ok {
			s.LastSeen = at.UnixMilli()
		}
		out = append(out, s)
	}
	return out
}

func (m *members) Changed() <-chan struct{} { return m.changed }

func (m *members) Join(ctx context.Context, peers map[fleet.ID][]netip.AddrPort) int {
	var list []gossip.Peer
	for id, addrs := range peers {
		for _, addr := range addrs[:min(1, len(addrs))] {
			list = append(list, gossip.Peer{ID: id, Addr: addr})
		}
	}
	if len(list) == 0 {
		return 0
	}
	n, _ := m.gossip.Join(ctx, list)
	return n
}

// announceAfter is when a host that was just enrolled tells gossip of itself again: members that did not know its enrolment
// yet have refused it so far, and know it by then.
var announceAfter = []time.Duration{3 * time.Second, 10 * time.Second, 30 * time.Second}

// lookEvery is how often the host's addresses are looked at.
const lookEvery = 15 * time.Second

// youngFor is how long after its enrolment a host is taken to be one that not everybody knows.
const youngFor = 2 * time.Minute

// young reports whether this host was enrolled a moment ago, as far as it knows.
func (h *Host) young() bool {
	entry, known := h.Agent.Record().Roster.Node(h.ID)
	return !known || h.Agent.Now().Sub(time.UnixMilli(entry.Enrolled)) < youngFor
}

// keepAddrs tells the fleet where this host is: a young one several times, any whenever its addresses change.
func keepAddrs(ctx context.Context, g *gossip.Gossip, young bool, find func() []netip.AddrPort) {
	began, told := time.Now(), find()
	var announce []time.Duration
	if young {
		announce = announceAfter
	}
	for {
		next := lookEvery
		if len(announce) > 0 {
			next = min(next, max(0, announce[0]-time.Since(began)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		addrs := find()
		due := len(announce) > 0 && time.Since(began) >= announce[0]
		if due {
			announce = announce[1:]
		}
		if (due || !slices.Equal(addrs, told)) && g.SetAddrs(addrs) == nil {
			told = addrs
		}
	}
}

func (m *members) Evict(id fleet.ID) { m.gossip.Evict(id) }

func (m *members) Leave(ctx context.Context) error { return m.gossip.Leave(ctx) }
