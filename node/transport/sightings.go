package transport

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// sightings is what peers say of our own address: one word per peer, so that a liar counts once.
type sightings struct {
	mu   sync.Mutex
	said []sighting // newest last
}

type sighting struct {
	by   fleet.ID
	addr netip.AddrPort
}

func (s *sightings) note(by fleet.ID, addr netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = slices.DeleteFunc(s.said, func(o sighting) bool { return o.by == by })
	if len(s.said) >= maxSeers {
		s.said = s.said[1:]
	}
	s.said = append(s.said, sighting{by, addr})
}

// newest returns the addresses that peers named, the latest word first.
func (s *sightings) newest() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.AddrPort
	for _, o := range slices.Backward(s.said) {
		if len(addrs) < maxSeenAddrs && !slices.Contains(addrs, o.addr) {
			addrs = append(addrs, o.addr)
		}
	}
	return addrs
}
