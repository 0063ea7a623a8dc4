package gossip

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Member is a node as gossip sees it.
type Member struct {
	ID     fleet.ID
	Addrs  []netip.AddrPort // signed by the node; the one it advertises first
	Via    []fleet.ID       // the same, of an outbound-only node, which has no Addrs
	Status fleet.Status
	Seq    uint64        // of what it signed
	RTT    time.Duration // of the last probe that it answered us; zero if none
}

// book holds what we verified and heard of the members. It grows with the roster only: entries begin with a tag that
// verified.
type book struct {
	mu     sync.Mutex
	byName map[string]*entry
	byAddr map[netip.AddrPort]*entry
	hints  map[string]netip.AddrPort // where a join was told to look for nodes not yet in the book
	digest uint64                    // XOR of the marks of all members that are there
}

type entry struct {
	id    fleet.ID
	raw   string // the signed tag as it came
	tag   tag
	met   bool // memberlist has taken it in at least once
	alive bool
	rtt   time.Duration
	heard [maxAddrs]time.Time // when a packet came from each address
	turn  int
}

const (
	maxHints = 256
	// freshFor is how long an address that sent us something is preferred over the others.
	freshFor = 30 * time.Second
)

func newBook() *book {
	return &book{
		byName: make(map[string]*entry), byAddr: make(map[netip.AddrPort]*entry), hints: make(map[string]netip.AddrPort),
	}
}

// mark stands for one member and what it signed in the digest.
func (e *entry) mark() uint64 {
	sum := fleet.Sum(binary.BigEndian.AppendUint64(e.id[:], e.tag.seq))
	return binary.BigEndian.Uint64(sum[:])
}

func (e *entry) present() bool { return e.met && e.alive }

func (e *entry) member() Member {
	return Member{ID: e.id, Addrs: slices.Clone(e.tag.addrs), Via: slices.Clone(e.tag.via), Status: e.status(), Seq: e.tag.seq, RTT: e.rtt}
}

// status says Left only where the member itself said so, from then on: one that is about to go does nothing more, and one whose
// key is used by two hosts stays that way.
func (e *entry) status() fleet.Status {
	switch {
	case e.tag.leaving:
		return fleet.Left
	case e.alive:
		return fleet.Online
	default:
		return fleet.ConnectionLost
	}
}

// holds reports whether raw is the tag that we hold of name: it needs no verifying again.
func (b *book) holds(name string, raw string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byName[name]
	return ok && e.raw == raw
}

// take judges a verified tag and keeps it if it is newer. It returns the member when one already met has moved, says goodbye or is
// back; and where it was before.
func (b *book) take(id fleet.ID, raw string, t tag) (v verdict, was []netip.AddrPort, moved *Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := id.Text()
	e, known := b.byName[name]
	if !known {
		e = &entry{id: id}
		b.byName[name] = e
		delete(b.hints, name)
	} else if v := judge(e.tag.seq, e.raw, t.seq, raw); v != newer {
		return v, nil, nil
	}
	before := e.tag.addrs
	stayed, stays := slices.Equal(before, t.addrs) && slices.Equal(e.tag.via, t.via), e.tag.leaving == t.leaving
	b.change(e, func() { e.raw, e.tag = raw, t })
	if !stayed {
		b.reindex(e, before)
	}
	if stayed && stays || !e.met {
		return newer, before, nil
	}
	m := e.member()
	return newer, before, &m
}

// reindex finds e by its new addresses instead of those before.
func (b *book) reindex(e *entry, before []netip.AddrPort) {
	b.unindex(e, before)
	e.heard, e.turn = [maxAddrs]time.Time{}, 0
	for _, a := range e.tag.addrs {
		b.byAddr[a] = e
	}
}

func (b *book) unindex(e *entry, addrs []netip.AddrPort) {
	for _, a := range addrs {
		if b.byAddr[a] == e {
			delete(b.byAddr, a)
		}
	}
}

// change keeps the digest right around a change of e.
func (b *book) change(e *entry, do func()) {
	if e.present() {
		b.digest ^= e.mark()
	}
	do()
	if e.present() {
		b.digest ^= e.mark()
	}
}

// turned notes that memberlist sees name come or go, and returns it if it is in the book.
func (b *book) turned(name string, alive bool) (Member, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byName[name]
	if !ok {
		return Member{}, false
	}
	b.change(e, func() { e.met, e.alive = e.met || alive, alive })
	return e.member(), e.met
}

// evict forgets id.
func (b *book) evict(id fleet.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := id.Text()
	delete(b.hints, name)
	e, ok := b.byName[name]
	if !ok {
		return
	}
	b.change(e, func() { e.alive = false })
	b.unindex(e, e.tag.addrs)
	delete(b.byName, name)
}

// hint notes where to look for a node that a join names.
func (b *book) hint(id fleet.ID, addr netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.hints) < maxHints {
		b.hints[id.Text()] = addr
	}
}

// way is where a packet for a node goes: to an address of its own, or to the relay's.
type way struct {
	addr    netip.AddrPort // invalid with relayed: this node itself is the relay
	relayed bool
}

// route returns where to send the next packet for name, and where else if that is known not to have left.
func (b *book) route(name string, self fleet.ID, now time.Time) []way {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byName[name]
	if !ok {
		if addr, ok := b.hints[name]; ok {
			return []way{{addr: addr}}
		}
		return nil
	}
	e.turn++
	if len(e.tag.via) > 0 {
		return b.relays(e, self, now)
	}
	if len(e.tag.addrs) == 0 {
		return nil // this node itself, while it has no uplink
	}
	return []way{{addr: e.tag.addrs[choose(e.heard[:len(e.tag.addrs)], now, e.turn-1)]}}
}

// relays lists the ways to an outbound-only node. Its uplink to this node is the surest. Of two other relays that are
// there each has its turn: where one has lost the uplink and does not know it yet, the next packet finds the other.
func (b *book) relays(e *entry, self fleet.ID, now time.Time) []way {
	var own, online, other []way
	for i := range e.tag.via {
		id := e.tag.via[(e.turn+i)%len(e.tag.via)]
		r, known := b.byName[id.Text()]
		switch {
		case id == self:
			own = append(own, way{relayed: true})
		case !known || len(r.tag.addrs) == 0:
		default:
			w := way{addr: r.tag.addrs[choose(r.heard[:len(r.tag.addrs)], now, e.turn)], relayed: true}
			if r.alive {
				online = append(online, w)
			} else {
				other = append(other, w)
			}
		}
	}
	return slices.Concat(own, online, other)
}

// choose takes the address heard from last, if that is not long ago; else each in turn, until one is heard from.
func choose(heard []time.Time, now time.Time, turn int) int {
	best := 0
	for i := range heard {
		if heard[i].After(heard[best]) {
			best = i
		}
	}
	if now.Sub(heard[best]) <= freshFor {
		return best
	}
	return turn % len(heard)
}

// routes returns every address to try for a stream to name, the likeliest first; the invalid address for a node that has
// none and is reached through relays.
func (b *book) routes(name string, now time.Time) []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []netip.AddrPort
	e, ok := b.byName[name]
	switch {
	case !ok:
	case len(e.tag.via) > 0:
		return []netip.AddrPort{{}}
	case len(e.tag.addrs) > 0:
		at := choose(e.heard[:len(e.tag.addrs)], now, 0)
		out = append(out, e.tag.addrs[at])
		out = append(out, slices.Delete(slices.Clone(e.tag.addrs), at, at+1)...)
	}
	if addr, ok := b.hints[name]; ok && !slices.Contains(out, addr) {
		out = append(out, addr)
	}
	return out
}

// heardFrom notes that a packet came from addr.
func (b *book) heardFrom(addr netip.AddrPort, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byAddr[addr]
	if !ok {
		return
	}
	if i := slices.Index(e.tag.addrs, addr); i >= 0 {
		e.heard[i] = at
	}
}

func (b *book) measured(name string, rtt time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.byName[name]; ok {
		e.rtt = rtt
	}
}

func (b *book) summary() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.digest
}

// leaving reports whether name said goodbye, and whether it is in the book at all.
func (b *book) leaving(name string) (leaving, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byName[name]
	return ok && e.tag.leaving, ok
}

func (b *book) members() []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Member, 0, len(b.byName))
	for _, e := range b.byName {
		if e.met {
			out = append(out, e.member())
		}
	}
	slices.SortFunc(out, func(x, y Member) int { return x.ID.Compare(y.ID) })
	return out
}
