package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// places is which nodes an operator's end reaches, where they are, and through whom those that nobody can dial. It lets through
// to them, as their keys prove them, and to nobody else.
type places struct {
	at      map[fleet.ID][]netip.AddrPort // of nodes that were asked for
	through map[fleet.ID][]fleet.ID
	relayAt map[fleet.ID][]netip.AddrPort
}

func newPlaces() places {
	return places{map[fleet.ID][]netip.AddrPort{}, map[fleet.ID][]fleet.ID{}, map[fleet.ID][]netip.AddrPort{}}
}

// findPlaces makes places of nodes, and asks where those are through whom some are reached.
func findPlaces(ctx context.Context, c *api.Client, nodes ...api.Node) places {
	p := newPlaces()
	for _, n := range nodes {
		p.at[n.ID], p.through[n.ID] = n.Addrs, n.Via
		for _, r := range n.Via {
			if _, known := p.relayAt[r]; known {
				continue
			}
			relay, err := c.Node(ctx, r.Text())
			if err != nil { // whoever else carries for it will do
				relay.Addrs = nil
			}
			p.relayAt[r] = relay.Addrs
		}
	}
	return p
}

func (p *places) add(more places) {
	maps.Copy(p.at, more.at)
	maps.Copy(p.through, more.through)
	maps.Copy(p.relayAt, more.relayAt)
}

// Prove shows nothing: a node knows operators by the charter.
func (places) Prove(transport.Plane) []byte { return nil }

// Admit admits those that were asked for, as their keys prove them.
func (p places) Admit(peer fleet.ID, plane transport.Plane, _ []byte) error {
	return p.Allow(peer, plane)
}

// Allow is Admit for each stream.
func (p places) Allow(peer fleet.ID, plane transport.Plane) error {
	_, node := p.at[peer]
	_, relay := p.relayAt[peer]
	if node && plane == transport.Session || relay && plane == transport.Relay {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "%s was not asked for", peer)
}

func (p places) addrs(id fleet.ID) []netip.AddrPort {
	if addrs, known := p.at[id]; known {
		return addrs
	}
	return p.relayAt[id]
}

// relays returns through whom a node is reached, as far as it is known where those are.
func (p places) relays(id fleet.ID) []fleet.ID {
	return slices.DeleteFunc(slices.Clone(p.through[id]), func(r fleet.ID) bool { return len(p.relayAt[r]) == 0 })
}
