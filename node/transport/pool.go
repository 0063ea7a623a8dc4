package transport

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// pool holds the connections that have said hello, by peer.
type pool struct {
	self   fleet.ID
	mu     sync.Mutex
	links  map[fleet.ID][]*link
	serial uint64
	closed bool
}

func newPool(self fleet.ID) *pool { return &pool{self: self, links: map[fleet.ID][]*link{}} }

// rank orders the connections of one peer and plane; the greatest carries new streams.
type rank struct {
	suspect bool
	full    bool   // where one more connection would help
	slow    bool   // the same
	piped   bool   // through a relay; both ends know
	plain   bool   // no uplink; both ends know
	byLower bool   // dialled by the lower of the two IDs: both ends agree on that
	serial  uint64 // newer
}

// before reports whether a link of rank r gives way to one of rank o.
func (r rank) before(o rank) bool {
	switch {
	case r.suspect != o.suspect:
		return r.suspect
	case r.full != o.full:
		return r.full
	case r.slow != o.slow:
		return r.slow
	case r.piped != o.piped:
		return r.piped
	case r.plain != o.plain:
		return r.plain
	case r.byLower != o.byLower:
		return o.byLower
	}
	return r.serial < o.serial
}

func (p *pool) rank(l *link) rank {
	return rank{
		suspect: l.suspect.Load(), full: l.full(), slow: l.slowWrites.Load() > 0,
		piped: l.pipe != nil, plain: !l.uplink.Load(), byLower: l.dialled == (p.self.Compare(l.peer) < 0), serial: l.serial,
	}
}

// add takes a new connection in. It returns those that the peer lost with an earlier life and those over the limit,
// for the caller to close, or why there is no place for it.
func (p *pool) add(l *link) (lost, over []*link, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, fleet.Errorf(fleet.Unavailable, "shutting down")
	}
	p.serial++
	l.serial = p.serial
	if l.limits.crowd != 0 {
		return nil, nil, p.addToCrowd(l)
	}
	for _, o := range p.links[l.peer] {
		if o.instance != l.instance {
			lost = append(lost, o)
		}
	}
	kept := slices.DeleteFunc(p.links[l.peer], func(o *link) bool { return o.instance != l.instance })
	for twins := twinsOf(kept, l); len(twins) >= l.limits.links; twins = twins[1:] {
		over = append(over, twins[0]) // the oldest: links are in order of registration
		kept = slices.DeleteFunc(kept, func(o *link) bool { return o == twins[0] })
	}
	p.links[l.peer] = append(kept, l)
	p.retireTwins(l)
	return lost, over, nil
}

// addToCrowd takes in a connection of a peer that is many processes, of which none ends another.
func (p *pool) addToCrowd(l *link) error {
	if err := p.crowdRoom(l); err != nil {
		return err
	}
	p.links[l.peer] = append(p.links[l.peer], l)
	p.retireTwins(l)
	return nil
}

// room reports why add will not take a connection, as far as that can be told before.
func (p *pool) room(l *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.crowdRoom(l)
}

func (p *pool) crowdRoom(l *link) error {
	if l.limits.crowd == 0 || len(onPlane(p.links[l.peer], l.plane)) < l.limits.links {
		return nil
	}
	return fleet.Errorf(fleet.Exhausted, "%d connections with one key are open already", l.limits.links).
		Hinted("end some of them, or wait half a minute if their hosts are gone")
}

func onPlane(links []*link, plane Plane) []*link {
	var out []*link
	for _, l := range links {
		if l.plane == plane {
			out = append(out, l)
		}
	}
	return out
}

// twinsOf returns those of the links that serve the same as l: its plane, with the same process.
func twinsOf(links []*link, l *link) []*link {
	return slices.DeleteFunc(onPlane(links, l.plane), func(o *link) bool { return o.instance != l.instance })
}

// count returns how many connections there are with a peer on a plane.
func (p *pool) count(peer fleet.ID, plane Plane) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(onPlane(p.links[peer], plane))
}

// streams counts the streams that a peer has opened on a plane, over all of its connections.
func (p *pool) streams(peer fleet.ID, plane Plane) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, l := range p.links[peer] {
		if l.plane == plane {
			n += int(l.incoming.Load())
		}
	}
	return n
}

func (p *pool) retireTwins(l *link) {
	twins := twinsOf(p.links[l.peer], l)
	best := p.greatest(twins)
	for _, o := range twins {
		if o != best {
			o.retireLater()
		}
	}
}

func (p *pool) greatest(links []*link) *link {
	var best *link
	for _, l := range links {
		if best == nil || p.rank(best).before(p.rank(l)) {
			best = l
		}
	}
	return best
}

// best returns the connection for new streams with a peer, nil if there is none.
func (p *pool) best(peer fleet.ID, plane Plane) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.greatest(slices.DeleteFunc(onPlane(p.links[peer], plane), (*link).dead))
}

// bestTwin returns the connection for new streams among those that serve the same as l, nil if there is none.
func (p *pool) bestTwin(l *link) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.greatest(slices.DeleteFunc(twinsOf(p.links[l.peer], l), (*link).dead))
}

// dialled returns the newest connection to a peer that was dialled here, nil if there is none.
func (p *pool) dialled(peer fleet.ID, plane Plane) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.greatest(slices.DeleteFunc(onPlane(p.links[peer], plane), func(l *link) bool { return l.dead() || !l.dialled }))
}

// uplink returns the uplink between a peer and this node, nil if there is none; ours is one that this node keeps.
func (p *pool) uplink(peer fleet.ID, ours bool) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.greatest(slices.DeleteFunc(onPlane(p.links[peer], Relay), func(l *link) bool {
		return l.dead() || !l.uplink.Load() || l.dialled != ours
	}))
}

// at returns a connection with whoever is at addr, nil if there is none.
func (p *pool) at(addr netip.AddrPort, plane Plane) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, links := range p.links {
		for _, l := range links {
			if l.plane == plane && addrPort(l.conn.RemoteAddr()) == addr && !l.dead() {
				return p.greatest(slices.DeleteFunc(onPlane(links, plane), (*link).dead))
			}
		}
	}
	return nil
}

func (p *pool) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(p.links[l.peer], func(o *link) bool { return o == l })
	if len(left) == 0 {
		delete(p.links, l.peer)
		return
	}
	p.links[l.peer] = left
}

// of returns all connections with a peer.
func (p *pool) of(peer fleet.ID) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.links[peer])
}

// shut takes no more connections and returns those there are.
func (p *pool) shut() (direct, piped []*link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, links := range p.links {
		for _, l := range links {
			if l.pipe != nil {
				piped = append(piped, l)
			} else {
				direct = append(direct, l)
			}
		}
	}
	return direct, piped
}

// closeAll closes links side by side: each waits for its last packet to be sent.
func closeAll(links []*link, code quic.ApplicationErrorCode, reason string) {
	var closing sync.WaitGroup
	for _, l := range links {
		closing.Go(func() { l.close(code, reason) })
	}
	closing.Wait()
}
