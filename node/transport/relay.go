package transport

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Frames on a stream of the Relay plane. Its opener says one, the other side accepts or says why not, and then nothing more
// is said: the stream's end is the pipe's.
const (
	relayAsk    byte = 1 // body: whom a pipe is wanted to; to a relay
	relayOffer  byte = 2 // body: who wants it; from a relay. Whoever gets one is the pipe's end: it is carried no further
	relayAccept byte = 3
	relayAskFor byte = 4 // body: whom a pipe is wanted to, and who wants it; from a relay to the next, which is the last
)

// patrons are those for whom this node carries pipes.
type patrons struct {
	all tally // packets that wait here, for all of them

	mu      sync.Mutex
	pipes   places
	tallies map[party]*tally // of those who have pipes
}

func newPatrons() *patrons {
	return &patrons{all: tally{limit: maxCarried}, pipes: places{}, tallies: map[party]*tally{}}
}

// admit takes a place for one more pipe that by asks for: for itself, or as a relay in the name of from, who may be made up.
// leave gives it back.
func (p *patrons) admit(by, from fleet.ID) (t *tally, leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, asker, relay := party{}, party{by, from}, party{by: by}
	claims := []claim{{all, maxPipes}, {asker, maxPipesFor}}
	if by != from {
		claims = append(claims, claim{relay, maxPipesBy}, claim{party{from: from}, maxPipesNamed})
	}
	if full, ok := p.pipes.take(claims); !ok {
		return nil, nil, p.refusal(full)
	}
	t = &p.all
	if by != from {
		t = p.tally(relay, maxCarriedBy, t)
	}
	t = p.tally(asker, maxCarriedFor, t)
	return t, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pipes.give(claims)
		for _, c := range claims {
			if p.pipes[c.party] == 0 {
				delete(p.tallies, c.party) // what still waits gives back to all
			}
		}
	}), nil
}

func (p *patrons) tally(of party, limit int64, all *tally) *tally {
	t := p.tallies[of]
	if t == nil {
		t = &tally{limit: limit, all: all}
		p.tallies[of] = t
	}
	return t
}

func (p *patrons) refusal(full party) error {
	n := p.pipes[full]
	switch {
	case full == party{}:
		return fleet.Errorf(fleet.Exhausted, "%d pipes pass through this node already", n)
	case full.from.IsZero():
		return fleet.Errorf(fleet.Exhausted, "%d pipes of those for whom %s asks pass through this node already", n, full.by)
	}
	return fleet.Errorf(fleet.Exhausted, "%d pipes of %s pass through this node already", n, full.from)
}

// serveRelay answers whoever wants a pipe through this node, or offers one that ends here.
func (e *Endpoint) serveRelay(s *Stream) {
	ctx, cancel := context.WithTimeout(s.Context(), handshakeTimeout)
	defer cancel()
	if err := e.beginPipe(ctx, s); err != nil {
		e.log.Debug("no pipe", "peer", s.Peer(), "err", err)
		_ = s.SetWriteDeadline(time.Now().Add(handshakeTimeout))
		_ = s.WriteError(err)
		_ = s.Close()
	}
}

func (e *Endpoint) beginPipe(ctx context.Context, s *Stream) error {
	_ = s.SetReadDeadline(time.Now().Add(handshakeTimeout))
	kind, body, err := s.ReadFrame()
	if err != nil {
		return err
	}
	ids, err := idsOf(kind, body)
	if err != nil {
		return err
	}
	if kind == relayAsk {
		return e.carryPipe(ctx, s, ids[0], s.Peer(), false)
	}
	if err := e.mayCarry(s.Peer()); err != nil {
		return err
	}
	if kind == relayAskFor {
		return e.carryPipe(ctx, s, ids[0], ids[1], true)
	}
	return e.takePipe(s, ids[0])
}

// mayCarry judges who says that others want something of this node.
func (e *Endpoint) mayCarry(peer fleet.ID) error {
	if gate, ok := e.gate.(Carrier); ok {
		return gate.MayCarry(peer)
	}
	return nil
}

// idsOf reads the body of a frame that begins a pipe: the IDs that it names.
func idsOf(kind byte, body []byte) ([]fleet.ID, error) {
	want := 1
	switch kind {
	case relayAskFor:
		want = 2
	case relayAsk, relayOffer:
	default:
		return nil, fleet.Errorf(fleet.Invalid, "a relay knows no frame %d", kind)
	}
	const size = len(fleet.ID{})
	if len(body) != want*size {
		return nil, fleet.Errorf(fleet.Invalid, "frame %d of a relay has %d bytes, not %d", kind, len(body), want*size)
	}
	var ids []fleet.ID
	for ; len(body) > 0; body = body[size:] {
		ids = append(ids, fleet.ID(body[:size]))
	}
	return ids, nil
}

// takePipe makes this node the end of a pipe.
func (e *Endpoint) takePipe(s *Stream, from fleet.ID) error {
	if e.dialOnly || from == e.id || from.IsZero() {
		return fleet.Errorf(fleet.Denied, "node %s takes no pipe from there", e.id)
	}
	p, err := e.offered(s, from)
	if err != nil {
		return err
	}
	p.leave() // unless a connection comes by it
	return s.WriteFrame(relayAccept, nil)
}

// carryPipe joins a stream with one to whom its opener wants. The packets are copied blindly between the two; the asker
// answers for what waits here of either way. last: another relay asks, and this one has to reach the end itself.
func (e *Endpoint) carryPipe(ctx context.Context, s *Stream, to, from fleet.ID, last bool) error {
	switch {
	case e.noRelay || e.dialOnly:
		return fleet.Errorf(fleet.Denied, "node %s carries nothing for others", e.id)
	case to == e.id || to == s.Peer() || to == from || from == e.id || from.IsZero():
		return fleet.Errorf(fleet.Invalid, "no pipe is needed to node %s", to)
	}
	t, leave, err := e.patrons.admit(s.Peer(), from)
	if err != nil {
		return err
	}
	far, err := e.reach(ctx, to, from, s.Peer(), last)
	if err != nil {
		leave()
		return err
	}
	end := sync.OnceFunc(func() {
		_ = s.Close()
		_ = far.Close()
		leave()
	})
	if err = splice(s, far, t); err == nil {
		err = s.WriteFrame(relayAccept, nil)
	}
	if err != nil {
		_ = far.Close()
		leave()
		return err
	}
	context.AfterFunc(s.Context(), end)
	context.AfterFunc(far.Context(), end)
	return nil
}

// reach opens a stream for a pipe to its far end, or, where that keeps its uplinks elsewhere, to a relay that has one. That
// one reaches no further, so that a pipe has two relays at most, and no round trips.
func (e *Endpoint) reach(ctx context.Context, to, from, asker fleet.ID, last bool) (*Stream, error) {
	var relays []fleet.ID
	if !last {
		relays = onward(e.relays(to), e.id, to, from, asker)
	}
	here := e.pool.best(to, Relay) != nil
	if !here && len(e.addrs(to)) == 0 && len(relays) == 0 {
		return nil, e.unreachable(to)
	}
	var err error
	if here || len(e.addrs(to)) > 0 {
		patience := handshakeTimeout
		if len(relays) > 0 {
			patience = relayFirst
		}
		near, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var s *Stream
		if s, err = e.offerPipe(near, to, from); err == nil {
			return s, nil
		}
	}
	for _, relay := range relays {
		var s *Stream
		if s, err = e.Open(ctx, relay, Relay); err == nil {
			err = s.agree(ctx, relayAskFor, to, from)
		}
		if err == nil {
			return s, nil
		}
	}
	return nil, err
}

// onward picks the relays to which a pipe may lead from here.
func onward(relays []fleet.ID, not ...fleet.ID) []fleet.ID {
	var out []fleet.ID
	for _, r := range relays {
		if !r.IsZero() && !slices.Contains(not, r) && len(out) < maxOnward {
			out = append(out, r)
		}
	}
	return out
}

// offerPipe opens a stream for a pipe to its far end: over the uplink that it keeps here, or one that this node may dial.
func (e *Endpoint) offerPipe(ctx context.Context, to, from fleet.ID) (*Stream, error) {
	if err := e.gate.Allow(to, Relay); err != nil {
		return nil, err
	}
	if l := e.standing(destination{id: to, plane: Relay}); l != nil && !l.suspect.Load() {
		if s, err := l.offerPipe(ctx, from); err == nil || !l.dead() && !l.suspect.Load() {
			return s, err
		}
	}
	s, err := e.Open(ctx, to, Relay)
	if err != nil {
		return nil, err
	}
	return s, s.agree(ctx, relayOffer, from)
}

// offerPipe offers a pipe over a connection that stands. That is as good a question as a ping whether the peer is there: see
// alive.
func (l *link) offerPipe(ctx context.Context, from fleet.ID) (*Stream, error) {
	soon, cancel := context.WithTimeout(ctx, pongWait)
	defer cancel()
	s, err := l.openStream(soon)
	if err != nil {
		return nil, err
	}
	if err = s.agree(soon, relayOffer, from); err != nil && soon.Err() != nil && ctx.Err() == nil {
		l.suspect.Store(true)
	}
	return s, err
}

// askPipe opens a stream for a pipe through a relay, which may be this node itself.
func (e *Endpoint) askPipe(ctx context.Context, relay, to fleet.ID) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if relay == e.id {
		if e.pool.uplink(to, false) == nil {
			return nil, e.unreachable(to)
		}
		return e.offerPipe(ctx, to, e.id)
	}
	s, err := e.Open(ctx, relay, Relay)
	if err != nil {
		return nil, err
	}
	return s, s.agree(ctx, relayAsk, to)
}

func noUplink(of fleet.ID) error {
	return fleet.Errorf(fleet.NotFound, "node %s keeps no uplink to this node", of)
}

// unreachable is what whoever wants a pipe is told of that.
func (e *Endpoint) unreachable(to fleet.ID) error {
	return fleet.Errorf(fleet.Unavailable, "node %s keeps no uplink to node %s", to, e.id).
		Hinted("it comes back by itself once its host can send UDP to its relays: muster node show %s", to)
}

// agree says the first frame of a pipe and hears that it is accepted; else it closes the stream.
func (s *Stream) agree(ctx context.Context, kind byte, ids ...fleet.ID) error {
	stop := context.AfterFunc(ctx, s.Abort)
	var body []byte
	for _, id := range ids {
		body = append(body, id[:]...)
	}
	err := s.WriteFrame(kind, body)
	if err == nil {
		kind, _, err = s.ReadFrame()
	}
	if !stop() {
		err = fleet.Errorf(fleet.Unavailable, "no answer in time from %s", s.link.who())
	}
	if err == nil && kind != relayAccept {
		err = fleet.Errorf(fleet.Invalid, "%s answers with frame %d", s.link.who(), kind)
	}
	if err != nil {
		_ = s.Close()
	}
	return err
}

// half of a passage: what comes in on one channel goes out on another.
type passage struct {
	out     *outbox
	lane    lane
	channel uint32
}

func (p *passage) take(d []byte) {
	putHead(d, whole, p.channel)
	p.out.push(&p.lane, d) // full or closed: the network's loss
}

// splice leads what comes on either stream's channel to the other's, until the streams end.
func splice(a, b *Stream, t *tally) error {
	if err := lead(a, b, t); err != nil {
		return err
	}
	return lead(b, a, t)
}

func lead(from, to *Stream, t *tally) error {
	in, err := channelOf(from)
	if err != nil {
		return err
	}
	out, err := channelOf(to)
	if err != nil {
		return err
	}
	p := &passage{out: to.link.channels.out, channel: out, lane: lane{limit: carryQueue, tally: t}}
	if !from.link.channels.add(in, p) {
		return fleet.Errorf(fleet.Unavailable, "the connection to %s has ended", from.link.who())
	}
	context.AfterFunc(from.Context(), func() {
		from.link.channels.remove(in)
		p.out.drop(&p.lane)
	})
	return nil
}

// passOn gives a sealed packet that names another node to it, over the uplink that it keeps here.
func (e *Endpoint) passOn(from netip.AddrPort, packet []byte, at time.Time) {
	to, kind, payload, ok := parseRelayPayload(packet)
	switch {
	case !ok || e.noRelay:
	case to == e.id:
		e.deliver(kind, from, payload, at)
	default:
		_ = e.pass(to, passed{from, kind, payload})
	}
}

// pass sends a packet over the uplink that a node keeps here.
func (e *Endpoint) pass(to fleet.ID, p passed) error {
	l := e.pool.uplink(to, false)
	if l == nil {
		return noUplink(to)
	}
	l.channels.out.push(&l.channels.sealed, p.datagram())
	return nil
}
