package main

import (
	"bytes"
	"net/netip"
	"sync"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/transport"
)

// operatorGate lets an operator's end through to those whom the person means, and says where they are.
type operatorGate interface {
	transport.Gate
	addrs(fleet.ID) []netip.AddrPort
	relays(fleet.ID) []fleet.ID
}

// viaGate lets through to one host of the fleet, and by that to the nodes that were asked for. Whoever answers at the host's
// address is let in to give the record, and nothing but the question for it is sent before that record has judged the host.
type viaGate struct {
	kept auth.Record // of earlier contacts; empty: this is the first

	mu     sync.Mutex
	end    *transport.Endpoint
	proofs map[fleet.ID][]byte // what those showed who answered
	peer   fleet.ID            // who was met
	at     netip.AddrPort
	judged bool
	nodes  places
}

func newViaGate(kept auth.Record) *viaGate {
	return &viaGate{kept: kept, proofs: map[fleet.ID][]byte{}, nodes: newPlaces()}
}

// Prove shows nothing: a node knows operators by the charter.
func (*viaGate) Prove(transport.Plane) []byte { return nil }

// Admit lets in whoever answers first, unless the record that is kept knows better.
func (g *viaGate) Admit(peer fleet.ID, plane transport.Plane, proof []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peer.IsZero() && plane == transport.Session {
		if err := removedHost(g.kept, peer); err != nil {
			return err
		}
		g.proofs[peer] = bytes.Clone(proof)
		return nil
	}
	return g.allow(peer, plane)
}

// Allow lets streams through to the host and to the nodes that were asked for.
func (g *viaGate) Allow(peer fleet.ID, plane transport.Plane) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allow(peer, plane)
}

func (g *viaGate) allow(peer fleet.ID, plane transport.Plane) error {
	_, showed := g.proofs[peer]
	switch {
	case peer == g.peer && plane == transport.Session, peer == g.peer && plane == transport.Relay && g.judged:
		return nil
	case g.peer.IsZero() && showed && plane == transport.Session:
		return nil
	}
	return g.nodes.Allow(peer, plane)
}

// use says which end this is the gate of.
func (g *viaGate) use(end *transport.Endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.end = end
}

// meet settles on the one that was reached.
func (g *viaGate) meet(peer fleet.ID, at netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peer, g.at = peer, at
}

func (g *viaGate) met() (*transport.Endpoint, fleet.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.end, g.peer
}

func (g *viaGate) proof(peer fleet.ID) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proofs[peer]
}

// admit notes that the host was judged: others may be reached through it.
func (g *viaGate) admit(peer fleet.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.judged = g.peer == peer
}

// add lets through to more nodes.
func (g *viaGate) add(more places) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes.add(more)
}

func (g *viaGate) addrs(id fleet.ID) []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	if id == g.peer {
		return []netip.AddrPort{g.at}
	}
	return g.nodes.addrs(id)
}

// relays returns the host first: where somebody has to name it, it is often the only one that can be reached.
func (g *viaGate) relays(id fleet.ID) []fleet.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	if id == g.peer || !g.judged {
		return nil
	}
	out := []fleet.ID{g.peer}
	for _, r := range g.nodes.relays(id) {
		if r != g.peer {
			out = append(out, r)
		}
	}
	return out
}

// removedHost refuses a host that was removed from the fleet, as far as a record knows.
func removedHost(record auth.Record, peer fleet.ID) error {
	if record.Charter == nil {
		return nil
	}
	if entry, known := record.Roster.Node(peer); known && entry.Removed != 0 {
		_, err := record.Roster.Enrolled(peer)
		return err
	}
	return nil
}

// judgeHost reports why a host is not in the fleet by a record, or nil. One that is newer than the record shows its enrolment.
func judgeHost(record auth.Record, peer fleet.ID, proof []byte) error {
	if _, known := record.Roster.Node(peer); known {
		_, err := record.Roster.Enrolled(peer)
		return err
	}
	var shown auth.Enrolment
	if err := wire.Unmarshal(proof, &shown); err != nil {
		return fleet.Errorf(fleet.Denied, "its key %s is not enrolled, and it shows no enrolment", peer)
	}
	admitted, err := record.VerifyEnrolment(shown)
	if err == nil && admitted.ID != peer {
		err = fleet.Errorf(fleet.Denied, "it shows the enrolment of another")
	}
	return err
}
