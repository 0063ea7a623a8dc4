package transport

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// newLink wraps a connection whose TLS handshake is done; it is not in use before both hellos.
func (e *Endpoint) newLink(conn *quic.Conn, dialled bool) (*link, error) {
	state := conn.ConnectionState().TLS
	peer, err := provenID(state)
	if err != nil {
		return nil, err
	}
	if peer == e.id {
		return nil, fleet.Errorf(fleet.Invalid, "%s is this node itself", addrPort(conn.RemoteAddr()))
	}
	plane := Plane(state.NegotiatedProtocol)
	limits, known := plane.limits()
	if !known {
		return nil, fleet.Errorf(fleet.Invalid, "no plane %q", state.NegotiatedProtocol)
	}
	l := &link{e: e, conn: conn, plane: plane, limits: limits, peer: peer, dialled: dialled, leave: func() {}}
	if l.pipe, err = e.pipeOf(conn); err != nil {
		return nil, err
	}
	if l.pipe != nil && l.pipe.peer != peer {
		return nil, fleet.Errorf(fleet.Denied, "the pipe is with node %s, and not with %s", l.pipe.peer, peer)
	}
	if l.pipe != nil && !dialled {
		l.pipe.carry(conn)
	}
	if plane == Relay {
		if !conn.ConnectionState().SupportsDatagrams.Remote {
			return nil, fleet.Errorf(fleet.Invalid, "%s takes no datagrams", l.who())
		}
		l.channels = newChannels(&e.patrons.all)
	}
	return l, nil
}

// welcome is the hello of the side that was dialled: it hears first, so that strangers learn nothing.
func (e *Endpoint) welcome(conn *quic.Conn) (*link, error) {
	l, err := e.newLink(conn, false)
	if err != nil {
		return nil, err
	}
	guest := guestOf(conn)
	if l.plane == Join {
		leaveJoin, err := e.door.join(time.Now(), addrPort(conn.RemoteAddr()).Addr())
		if err != nil {
			return nil, err
		}
		l.leave = leaveJoin
		// Anybody can be here: its place among strangers is kept, and its time is bounded.
		expiry := time.AfterFunc(joinLifetime, func() {
			l.close(closeRefused+quic.ApplicationErrorCode(fleet.Expired), "joining takes too long")
		})
		context.AfterFunc(conn.Context(), func() { expiry.Stop(); leaveJoin() })
	}
	ctx, cancel := context.WithTimeout(e.ctx, handshakeTimeout)
	defer cancel()
	if l.control, err = conn.AcceptStream(ctx); err != nil {
		return nil, broken(err, l.who())
	}
	defer watch(ctx, l.control)()
	early := l.watchEarly(ctx)
	defer early.stop()
	defer e.watchDatagrams(ctx, conn)()
	if err := l.hear(); err != nil {
		return nil, err
	}
	early.welcome.Store(true)
	if err := e.pool.room(l); err != nil { // said before the hello, it is what the peer hears first
		return nil, err
	}
	if err := l.sayHello(); err != nil {
		return nil, err
	}
	if err := e.enrol(l); err != nil {
		return nil, err
	}
	if l.plane != Join {
		guest.leave()
	}
	guest.crowd.Store(l.limits.crowd != 0)
	l.early = early.over()
	return l, nil
}

// early takes the streams of a peer that dialled which come while the hellos are said. Before it has heard ours it may open
// one, whose bytes wait in QUIC's first window until it is admitted (words): with more, a stranger could fill the windows of all
// while nobody reads them.
type early struct {
	welcome atomic.Bool
	stop    context.CancelFunc
	came    chan []*quic.Stream // gets one value
}

func (l *link) watchEarly(ctx context.Context) *early {
	x := &early{came: make(chan []*quic.Stream, 1)}
	ctx, x.stop = context.WithCancel(ctx)
	l.e.tasks.Go(func() { // under the task that welcomes
		var came []*quic.Stream
		for len(came) < 2 {
			s, err := l.conn.AcceptStream(ctx)
			if err != nil {
				break
			}
			came = append(came, s)
			if x.welcome.Load() {
				break
			}
		}
		if len(came) == 2 && !x.welcome.Load() {
			l.close(closeRefused+quic.ApplicationErrorCode(fleet.Invalid), "a second stream before the hello")
		}
		x.came <- came
	})
	return x
}

// over ends the watch and returns the streams that came meanwhile, in order.
func (x *early) over() []*quic.Stream {
	x.stop()
	return <-x.came
}

// introduce is the hello of the side that dialled. What is to be said first goes out behind it.
func (e *Endpoint) introduce(ctx context.Context, conn *quic.Conn, first *words) (*link, error) {
	l, err := e.newLink(conn, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if l.control, err = conn.OpenStreamSync(ctx); err != nil {
		return nil, broken(err, l.who())
	}
	defer watch(ctx, l.control)()
	// When the peer refuses, writing may fail first; reading tells why.
	said := l.sayHello()
	if said == nil {
		first.say(ctx, l)
	}
	if err := l.hear(); err != nil {
		return nil, err
	}
	if said != nil {
		return nil, said
	}
	if err := e.enrol(l); err != nil {
		return nil, err
	}
	return l, nil
}

// watch ends reads and writes on s when ctx does, until the returned function is called.
func watch(ctx context.Context, s *quic.Stream) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
}

func (l *link) sayHello() error {
	h := hello{Fleet: l.e.fleet, Instance: l.e.instance}
	if l.pipe == nil {
		h.Seen = addrPort(l.conn.RemoteAddr()).String()
	}
	if l.plane != Join || !l.dialled {
		h.Proof = l.e.gate.Prove(l.plane)
	}
	if len(h.Proof) > MaxProof {
		return fleet.Errorf(fleet.Internal, "this node's proof has %d bytes; at most %d", len(h.Proof), MaxProof)
	}
	_, err := l.control.Write(appendFrame(nil, controlHello, h.encode()))
	return broken(err, l.who())
}

// hear reads the peer's hello and judges it.
func (l *link) hear() error {
	kind, body, err := readFrame(l.control, maxHello)
	if err != nil {
		return broken(err, l.who())
	}
	if kind != controlHello {
		return fleet.Errorf(fleet.Invalid, "%s does not begin with a hello", l.who())
	}
	h, err := decodeHello(body)
	if err != nil {
		return err
	}
	if h.Fleet != l.e.fleet {
		return ErrAnotherFleet
	}
	if err := l.e.gate.Admit(l.peer, l.plane, h.Proof); err != nil {
		return err
	}
	l.instance = h.Instance
	if seen, ok := h.seenAt(); ok && l.pipe == nil {
		l.e.seen.note(l.peer, seen)
	}
	return nil
}

// enrol puts a link that has said hello to use.
func (e *Endpoint) enrol(l *link) error {
	l.heard()
	lost, over, err := e.pool.add(l)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		e.log.Info("peer has restarted", "peer", l.peer)
	}
	closeAll(lost, closeGone, "")
	closeAll(over, closeSuperseded, "")
	// The peer may have been removed, and dropped, between Admit and here.
	if err := e.gate.Allow(l.peer, l.plane); err != nil {
		e.pool.remove(l)
		return err
	}
	return nil
}

// refusedFor turns what stopped a dial into an error for people. final says that it was the right peer who said no, so
// that its other addresses need not be tried.
func refusedFor(err error, w way) (e *fleet.Error, final bool) {
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok {
		return closed(app, w.who()), true
	}
	if tls, ok := errors.AsType[*quic.TransportError](err); ok {
		return refusedByTLS(tls, w), false
	}
	if ours, ok := errors.AsType[*fleet.Error](err); ok && !w.relay.IsZero() { // why there is no pipe
		return &fleet.Error{Kind: ours.Kind, What: "through node " + w.relay.String() + ": " + ours.What, Hint: ours.Hint}, false
	}
	switch {
	case isA[*quic.HandshakeTimeoutError](err), isA[*quic.IdleTimeoutError](err), errors.Is(err, os.ErrDeadlineExceeded):
		return noAnswer([]way{w}), false
	case isA[*quic.VersionNegotiationError](err):
		return fleet.Errorf(fleet.Invalid, "%s speaks another version of QUIC; is it muster?", w), false
	}
	return &fleet.Error{Kind: fleet.Unavailable, What: "cannot reach " + w.String(), Err: err}, false
}

// TLS alerts (RFC 8446, 6) as QUIC carries them: 0x100 plus the alert.
const (
	alertBadCertificate = 0x100 + 42
	alertNoALPN         = 0x100 + 120
)

func refusedByTLS(e *quic.TransportError, w way) *fleet.Error {
	if ours, ok := errors.AsType[*fleet.Error](e); ok { // from VerifyConnection
		return &fleet.Error{Kind: ours.Kind, What: w.String() + ": " + ours.What, Hint: ours.Hint}
	}
	switch {
	case e.ErrorCode == quic.ConnectionRefused:
		return fleet.Errorf(fleet.Unavailable, "%s has too much to do; try again in a moment", w)
	case e.ErrorCode == alertNoALPN:
		return fleet.Errorf(fleet.Invalid, "%s is no muster of this version", w)
	case e.Remote && e.ErrorCode == alertBadCertificate:
		return fleet.Errorf(fleet.Denied, "%s does not accept this node's key", w)
	}
	return &fleet.Error{Kind: fleet.Unavailable, What: "no connection to " + w.String(), Err: e}
}

func noAnswer(ways []way) *fleet.Error {
	what := "no answer from "
	for i, w := range ways {
		if i > 0 {
			what += ", "
		}
		what += w.String()
	}
	return &fleet.Error{Kind: fleet.Unavailable, What: what + " (firewall?)", Hint: "check that the agent runs there and that UDP passes both ways"}
}
