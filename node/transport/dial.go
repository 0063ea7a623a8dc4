package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// Open opens a stream to a peer, over a connection there is or a new one. Callers who want the same connection share
// one dial; nobody waits for somebody else's. ctx bounds the opening, not the stream. Failures are not remembered.
func (e *Endpoint) Open(ctx context.Context, id fleet.ID, plane Plane) (*Stream, error) {
	if id == e.id {
		return nil, fleet.Errorf(fleet.Invalid, "%s is this node itself", id)
	}
	if err := e.gate.Allow(id, plane); err != nil {
		return nil, err
	}
	return e.open(ctx, destination{id: id, plane: plane}, nil)
}

// OpenAddr opens a stream to whoever is at addr: for joining, and first contact. The peer's ID is what its key proves,
// and Stream.Peer tells it; Gate.Admit judges it.
func (e *Endpoint) OpenAddr(ctx context.Context, addr netip.AddrPort, plane Plane) (*Stream, error) {
	return e.open(ctx, destination{addr: unmapped(addr), plane: plane}, nil)
}

// Request asks a peer one thing: open, write a frame, read a frame, close. An error frame comes back as a *fleet.Error.
// It never asks twice: whether a request that failed was carried out is for the caller to find out.
func (e *Endpoint) Request(ctx context.Context, id fleet.ID, plane Plane, kind byte, body []byte) (byte, []byte, error) {
	s, err := e.Open(ctx, id, plane)
	if err != nil {
		return 0, nil, err
	}
	return s.Ask(ctx, kind, body)
}

// destination is whom a dial wants: a peer by ID, or whoever is at an address.
type destination struct {
	id    fleet.ID
	addr  netip.AddrPort
	plane Plane
	// direct is set where a relay is of no use.
	direct bool
}

// flight is a dial that callers share.
type flight struct {
	done    chan struct{} // closed when link and err are set
	link    *link
	err     error
	waiting int
	cancel  context.CancelFunc
	first   *words // of whoever began it
}

// open opens a stream. If its first words have been said already, they are not said again, whatever comes of it.
func (e *Endpoint) open(ctx context.Context, to destination, first *words) (*Stream, error) {
	var s *Stream
	var err error
	for try := 0; try < 3; try++ { // a connection may end between choosing and using it
		var l *link
		if l, err = e.linkTo(ctx, to, first); err != nil {
			return nil, err
		}
		if s := first.taken(); s != nil {
			return s, nil
		}
		if err = e.gate.Allow(l.peer, to.plane); err != nil {
			return nil, err
		}
		if s, err = l.openStream(ctx); err == nil {
			return s, nil
		}
		if errors.Is(err, errFull) && ctx.Err() == nil {
			try-- // it is not chosen again; the peer bounds its connections, and so this
			continue
		}
		if ctx.Err() != nil || !l.dead() {
			return nil, err
		}
	}
	return nil, err
}

// standing returns the connection there is for new streams; nil if there is none, or one more would serve better.
func (e *Endpoint) standing(to destination) *link {
	l := e.pool.best(to.id, to.plane)
	if to.id.IsZero() {
		l = e.pool.at(to.addr, to.plane)
	}
	if l == nil || l.full() {
		return nil
	}
	if l.slowWrites.Load() > 0 && e.pool.count(l.peer, l.plane) < maxSlowLinks {
		return nil
	}
	return l
}

func (e *Endpoint) linkTo(ctx context.Context, to destination, first *words) (*link, error) {
	if l := e.standing(to); l != nil && l.alive(ctx) {
		e.straighten(l)
		return l, nil
	}
	l, err := e.fly(ctx, to, first)
	if err == nil || first.wereSaid() {
		return l, err
	}
	// Where only the peer can dial, it may have done so meanwhile.
	if l := e.standing(to); l != nil && !l.suspect.Load() {
		return l, nil
	}
	return nil, err
}

// straighten dials a peer directly, in the background and once, that has come through a relay: it cannot dial this node, or did
// not know its address, but this node may well dial it. What is opened later takes the better way.
func (e *Endpoint) straighten(l *link) {
	if l.pipe == nil || l.dialled || l.straight.Swap(true) || len(e.addrs(l.peer)) == 0 {
		return
	}
	go func() { // no task: it may be begun beside Close
		ctx, cancel := context.WithTimeout(e.ctx, 2*handshakeTimeout)
		defer cancel()
		_, _ = e.fly(ctx, destination{id: l.peer, plane: l.plane, direct: true}, nil)
	}()
}

// fly joins the dial to a destination, or begins one. The dial goes on while anybody waits for it.
func (e *Endpoint) fly(ctx context.Context, to destination, first *words) (*link, error) {
	e.mu.Lock()
	if !e.started || e.closing {
		e.mu.Unlock()
		return nil, fleet.Errorf(fleet.Unavailable, "the transport is not running")
	}
	f := e.flights[to]
	if f == nil {
		dialCtx, cancel := context.WithCancel(e.ctx)
		f = &flight{done: make(chan struct{}), cancel: cancel, first: first}
		e.flights[to] = f
		e.tasks.Go(func() { e.steer(dialCtx, to, f) })
	}
	f.waiting++
	e.mu.Unlock()

	select {
	case <-f.done:
		return f.link, f.err
	case <-ctx.Done():
	}
	first.giveUp()
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel()
		if e.flights[to] == f {
			delete(e.flights, to) // the next caller begins anew
		}
	}
	return nil, &fleet.Error{Kind: fleet.Unavailable, What: "no connection in time to " + to.String(), Err: context.Cause(ctx)}
}

func (to destination) String() string {
	if to.id.IsZero() {
		return to.addr.String() + "/udp"
	}
	return "node " + to.id.String()
}

func (e *Endpoint) steer(ctx context.Context, to destination, f *flight) {
	l, err := e.dial(ctx, to, f.first)
	f.cancel()
	f.first.over(l)
	e.mu.Lock()
	f.link, f.err = l, err
	if e.flights[to] == f {
		delete(e.flights, to)
	}
	e.mu.Unlock()
	close(f.done)
	if l != nil {
		l.run()
	}
}

func (e *Endpoint) dial(ctx context.Context, to destination, first *words) (*link, error) {
	if _, known := to.plane.limits(); !known {
		return nil, fleet.Errorf(fleet.Internal, "no plane %q", to.plane)
	}
	addrs, relays := e.ways(to)
	if len(addrs)+len(relays) == 0 {
		return nil, fleet.Errorf(fleet.Unavailable, "no address known of node %s", to.id).Hinted("see muster node show %s", to.id)
	}
	return e.race(ctx, to, first, addrs, relays)
}

// way is how a peer may be reached: an address, or a relay.
type way struct {
	addr  netip.AddrPort
	relay fleet.ID
}

// who names whoever is met there.
func (w way) who() string {
	if w.relay.IsZero() {
		return w.addr.String()
	}
	return "whoever is behind node " + w.relay.String()
}

func (w way) String() string {
	if w.relay.IsZero() {
		return w.addr.String() + "/udp"
	}
	return w.who()
}

// ways returns the addresses and the relays by which a peer may be reached, best first.
func (e *Endpoint) ways(to destination) (addrs, relays []way) {
	if to.id.IsZero() {
		return []way{{addr: to.addr}}, nil
	}
	for _, a := range e.addrs(to.id) {
		addrs = append(addrs, way{addr: a})
	}
	if !to.direct && slices.Contains(pipedALPNs(), string(to.plane)) {
		for _, r := range e.relays(to.id) {
			if r != to.id && !r.IsZero() {
				relays = append(relays, way{relay: r})
			}
		}
	}
	return addrs[:min(len(addrs), maxDialAddrs)], relays[:min(len(relays), maxRelays)]
}

// attempt is the outcome of one way: a connection with TLS done, or why not.
type attempt struct {
	way  way
	conn *quic.Conn
	err  error
}

// track is one kind of ways: the next is tried when the one before has failed or not answered for a while.
type track struct {
	left   []way
	flying int
	timer  *time.Timer
	every  time.Duration
}

func newTrack(ways []way, first, every time.Duration) *track {
	return &track{left: ways, timer: time.NewTimer(first), every: every}
}

// next takes the way that is tried now, if one is left.
func (t *track) next() (w way, some bool) {
	if len(t.left) == 0 {
		return way{}, false
	}
	t.timer.Reset(t.every)
	w, t.left, t.flying = t.left[0], t.left[1:], t.flying+1
	return w, true
}

// over reports whether nothing more is to be expected.
func (t *track) over() bool { return t.flying == 0 && len(t.left) == 0 }

// race tries addresses, and relays when those do not answer at once. Only one connection at a time says hello, so that a peer
// never sees two of one race in use.
func (e *Endpoint) race(ctx context.Context, to destination, first *words, addrs, relays []way) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the attempts that lost
	attempts := make(chan attempt)
	direct, piped := newTrack(addrs, 0, nextAddrAfter), newTrack(relays, relayFirst, relayFirst)
	defer direct.timer.Stop()
	defer piped.timer.Stop()
	start := func(t *track) {
		if w, some := t.next(); some {
			e.tasks.Go(func() { e.attempt(ctx, to, w, attempts) }) // under a task: Close waits for that already
		}
	}
	var failed failures
	for !direct.over() || !piped.over() {
		if direct.over() && piped.flying == 0 {
			start(piped) // there is nobody to wait for
		}
		select {
		case <-ctx.Done():
			return nil, fleet.Errorf(fleet.Unavailable, "nobody waits for the connection any more")
		case <-direct.timer.C:
			start(direct)
		case <-piped.timer.C:
			start(piped)
		case a := <-attempts:
			t := direct
			if !a.way.relay.IsZero() {
				t = piped
			}
			t.flying--
			l, final := e.finish(ctx, a, first, &failed)
			if l != nil || final {
				return l, failed.err(l)
			}
			start(t)
		}
	}
	return nil, failed.err(nil)
}

// attempt goes one way, and hands the outcome over unless the race is over.
func (e *Endpoint) attempt(ctx context.Context, to destination, w way, out chan<- attempt) {
	var conn *quic.Conn
	var err error
	if w.relay.IsZero() {
		limits, _ := to.plane.limits()
		conn, err = e.transport.Dial(ctx, net.UDPAddrFromAddrPort(w.addr), clientTLS(e.leaf, to.plane, to.id), clientQUIC(to.plane, limits))
	} else {
		conn, err = e.dialPipe(ctx, w.relay, to)
	}
	select {
	case out <- attempt{w, conn, err}:
	case <-ctx.Done():
		if conn != nil {
			_ = conn.CloseWithError(closeSuperseded, "")
		}
	}
}

// finish says hello over a connection that an attempt made. final: the peer we want, or we, said no.
func (e *Endpoint) finish(ctx context.Context, a attempt, first *words, failed *failures) (l *link, final bool) {
	if a.err != nil {
		why, final := refusedFor(a.err, a.way)
		failed.add(a.way, why)
		return nil, final
	}
	l, err := e.introduce(ctx, a.conn, first)
	if err == nil {
		return l, true
	}
	unheard := first.unheard(a.conn)
	_ = a.conn.CloseWithError(closing(err))
	why, ok := err.(*fleet.Error)
	if !ok {
		why, _ = refusedFor(err, a.way)
	}
	failed.add(a.way, why)
	return nil, ok && why.Kind != fleet.Unavailable || !unheard
}

// failures gathers why ways did not do.
type failures struct {
	silent []way
	said   *fleet.Error // the most telling so far
	behind *fleet.Error // the same, of relays
	relays int
}

func (f *failures) add(w way, why *fleet.Error) {
	if why.What == noAnswer([]way{w}).What && w.relay.IsZero() {
		f.silent = append(f.silent, w)
		return
	}
	said := &f.said
	if !w.relay.IsZero() {
		said = &f.behind
		f.relays++
	}
	if *said == nil || (*said).Kind == fleet.Unavailable && (w.relay.IsZero() || why.Kind != fleet.Unavailable) {
		*said = why // of relays, the best one's word
	}
}

func (f *failures) err(l *link) error {
	switch {
	case l != nil:
		return nil
	case f.behind == nil && f.said != nil:
		return f.said
	case f.behind != nil && f.said != nil:
		return &fleet.Error{Kind: f.said.Kind, What: f.said.What + "; " + f.behind.What, Hint: cmp.Or(f.said.Hint, f.behind.Hint), Err: f.said.Err}
	case f.behind != nil && len(f.silent) > 0:
		silence := noAnswer(f.silent)
		return &fleet.Error{Kind: f.behind.Kind, What: silence.What + "; " + f.behind.What, Hint: cmp.Or(f.behind.Hint, silence.Hint), Err: f.behind.Err}
	case f.behind != nil && f.relays > 1 && f.behind.Kind == fleet.Unavailable:
		return &fleet.Error{Kind: fleet.Unavailable, What: fmt.Sprintf("none of %d relays reaches it; %s", f.relays, f.behind.What), Hint: f.behind.Hint, Err: f.behind.Err}
	case f.behind != nil:
		return f.behind
	}
	return noAnswer(f.silent)
}
