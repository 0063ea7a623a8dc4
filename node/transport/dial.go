package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
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
	return e.open(ctx, destination{id: id, plane: plane})
}

// OpenAddr opens a stream to whoever is at addr: for joining, and first contact. The peer's ID is what its key proves,
// and Stream.Peer tells it; Gate.Admit judges it.
func (e *Endpoint) OpenAddr(ctx context.Context, addr netip.AddrPort, plane Plane) (*Stream, error) {
	return e.open(ctx, destination{addr: unmapped(addr), plane: plane})
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
}

// flight is a dial that callers share.
type flight struct {
	done    chan struct{} // closed when link and err are set
	link    *link
	err     error
	waiting int
	cancel  context.CancelFunc
}

func (e *Endpoint) open(ctx context.Context, to destination) (*Stream, error) {
	var s *Stream
	var err error
	for try := 0; try < 3; try++ { // a connection may end between choosing and using it
		var l *link
		if l, err = e.linkTo(ctx, to); err != nil {
			return nil, err
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

func (e *Endpoint) linkTo(ctx context.Context, to destination) (*link, error) {
	if l := e.standing(to); l != nil && l.alive(ctx) {
		return l, nil
	}
	l, err := e.fly(ctx, to)
	if err == nil {
		return l, nil
	}
	// Where only the peer can dial, it may have done so meanwhile.
	if l := e.standing(to); l != nil && !l.suspect.Load() {
		return l, nil
	}
	return nil, err
}

// fly joins the dial to a destination, or begins one. The dial goes on while anybody waits for it.
func (e *Endpoint) fly(ctx context.Context, to destination) (*link, error) {
	e.mu.Lock()
	if !e.started || e.closing {
		e.mu.Unlock()
		return nil, fleet.Errorf(fleet.Unavailable, "the transport is not running")
	}
	f := e.flights[to]
	if f == nil {
		dialCtx, cancel := context.WithCancel(e.ctx)
		f = &flight{done: make(chan struct{}), cancel: cancel}
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
	l, err := e.dial(ctx, to)
	f.cancel()
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

func (e *Endpoint) dial(ctx context.Context, to destination) (*link, error) {
	if _, known := to.plane.limits(); !known {
		return nil, fleet.Errorf(fleet.Internal, "no plane %q", to.plane)
	}
	addrs := []netip.AddrPort{to.addr}
	if !to.id.IsZero() {
		addrs = e.addrs(to.id)
	}
	if len(addrs) == 0 {
		return nil, fleet.Errorf(fleet.Unavailable, "no address known of node %s", to.id).Hinted("see muster node show %s", to.id)
	}
	return e.race(ctx, to, addrs[:min(len(addrs), maxDialAddrs)])
}

// attempt is the outcome of one address: a connection with TLS done, or why not.
type attempt struct {
	addr netip.AddrPort
	conn *quic.Conn
	err  error
}

// race tries addresses one after the other, each when the one before has failed or not answered for a moment. Only one
// connection at a time says hello, so that a peer never sees two of one race in use.
func (e *Endpoint) race(ctx context.Context, to destination, addrs []netip.AddrPort) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the attempts that lost
	attempts := make(chan attempt)
	next, flying := 0, 0
	start := func() {
		addr := addrs[next]
		next, flying = next+1, flying+1
		e.tasks.Go(func() { e.attempt(ctx, to, addr, attempts) }) // under a task: Close waits for that already
	}
	start()
	var failed failures
	timer := time.NewTimer(nextAddrAfter)
	defer timer.Stop()
	for flying > 0 {
		select {
		case <-ctx.Done():
			return nil, fleet.Errorf(fleet.Unavailable, "nobody waits for the connection any more")
		case <-timer.C:
		case a := <-attempts:
			flying--
			l, final := e.finish(ctx, a, &failed)
			if l != nil || final {
				return l, failed.err(l)
			}
		}
		if next < len(addrs) {
			start()
			timer.Reset(nextAddrAfter)
		}
	}
	return nil, failed.err(nil)
}

// attempt dials one address, and hands the outcome over unless the race is over.
func (e *Endpoint) attempt(ctx context.Context, to destination, addr netip.AddrPort, out chan<- attempt) {
	limits, _ := to.plane.limits()
	conn, err := e.transport.Dial(ctx, net.UDPAddrFromAddrPort(addr), clientTLS(e.leaf, to.plane, to.id), clientQUIC(limits))
	select {
	case out <- attempt{addr, conn, err}:
	case <-ctx.Done():
		if conn != nil {
			_ = conn.CloseWithError(closeSuperseded, "")
		}
	}
}

// finish says hello over a connection that an attempt made. final: the peer we want, or we, said no.
func (e *Endpoint) finish(ctx context.Context, a attempt, failed *failures) (l *link, final bool) {
	if a.err != nil {
		why, final := refusedFor(a.err, a.addr)
		failed.add(a.addr, why)
		return nil, final
	}
	l, err := e.introduce(ctx, a.conn)
	if err == nil {
		return l, true
	}
	_ = a.conn.CloseWithError(closing(err))
	why, ok := err.(*fleet.Error)
	if !ok {
		why, _ = refusedFor(err, a.addr)
	}
	failed.add(a.addr, why)
	return nil, ok && why.Kind != fleet.Unavailable
}

// failures gathers why addresses did not do.
type failures struct {
	silent []netip.AddrPort
	said   *fleet.Error // the most telling so far
}

func (f *failures) add(addr netip.AddrPort, why *fleet.Error) {
	if why.What == noAnswer([]netip.AddrPort{addr}).What {
		f.silent = append(f.silent, addr)
		return
	}
	if f.said == nil || f.said.Kind == fleet.Unavailable {
		f.said = why
	}
}

func (f *failures) err(l *link) error {
	switch {
	case l != nil:
		return nil
	case f.said != nil:
		return f.said
	}
	return noAnswer(f.silent)
}
