package transport

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// Frames of the control stream, which is a connection's first and lives as long as it.
const (
	controlHello byte = 1
	controlPing  byte = 2
	controlPong  byte = 3
	controlLeave byte = 4 // the sender has no use left for this connection, because a better one is there
	// controlUplink: the sender, who dialled, may be reached over this connection of the Relay plane, or (first byte 0) may
	// not any more.
	controlUplink byte = 5

	maxControl = 64 // body of a frame after the hello; unknown kinds are skipped, for newer peers
	// controlBody is the padding of every such frame: QUIC answers no packet below 43 bytes with a stateless reset, so a
	// bare ping would not find out that the peer has restarted.
	controlBody = 32
)

// link is one connection after both hellos. It serves both ways, whoever dialled.
type link struct {
	e        *Endpoint
	conn     *quic.Conn
	control  *quic.Stream
	plane    Plane
	limits   planeLimits
	peer     fleet.ID
	instance [saltSize]byte
	dialled  bool // by us
	leave    func()
	early    []*quic.Stream // that came while we said hello
	pipe     *pipe          // that carries it; nil: it is direct
	channels *channels      // on the Relay plane, else nil

	uplink   atomic.Bool  // whoever dialled is reached over it
	straight atomic.Bool  // see straighten
	unheard  atomic.Int32 // pings since something was heard

	lastHeard atomic.Int64 // nanoseconds since Endpoint.began
	left      atomic.Bool  // the peer sent controlLeave
	broke     atomic.Bool  // it takes no stream any more: QUIC says that before it ends the connection's context
	suspect   atomic.Bool  // it did not answer a ping; cleared by the next sign of life
	incoming  atomic.Int32

	slowWrites atomic.Int32 // that have not ended for slowWrite

	saying sync.Mutex // one writer at a time on control

	mu   sync.Mutex
	gone bool
	open int // streams not closed yet, of either side
	// starved is set when QUIC has no place for a stream although open says so: the peer is not done with those that were
	// closed here. It is tried again when another is closed.
	starved bool
	pong    chan struct{} // closed by the next pong; nil when none is awaited
	keeper  *time.Timer   // runs while streams are open
	retire  *time.Timer   // runs while a better connection is there
	holders int           // Uplinks that hold it
	serial  uint64        // of registration: higher is newer
}

func (l *link) who() string { return "node " + l.peer.String() }

func (l *link) heard() {
	l.lastHeard.Store(int64(time.Since(l.e.began)))
	l.suspect.Store(false)
	l.unheard.Store(0)
}

func (l *link) silent() time.Duration {
	return time.Since(l.e.began) - time.Duration(l.lastHeard.Load())
}

func (l *link) dead() bool { return l.broke.Load() || l.conn.Context().Err() != nil }

// close ends the connection; the peer learns code and reason, and every stream fails with them at once.
func (l *link) close(code quic.ApplicationErrorCode, reason string) {
	_ = l.conn.CloseWithError(code, reason)
}

// run serves the connection until it ends.
func (l *link) run() {
	l.e.tasks.Go(l.listen) // under the task that runs this
	if l.channels != nil {
		l.e.tasks.Go(l.readDatagrams)
		l.e.tasks.Go(l.writeDatagrams)
	}
	for _, s := range l.early {
		l.heard()
		l.serve(s)
	}
	l.early = nil
	for {
		s, err := l.conn.AcceptStream(l.conn.Context())
		if err != nil {
			break
		}
		l.heard()
		l.serve(s)
	}
	l.end()
}

// end lets go of everything that the link holds.
func (l *link) end() {
	l.e.pool.remove(l)
	if l.channels != nil {
		l.channels.close()
	}
	l.mu.Lock()
	l.gone = true
	stop(l.keeper)
	stop(l.retire)
	l.mu.Unlock()
	l.leave()
	l.e.log.Debug("connection ended", "peer", l.peer, "plane", l.plane, "err", context.Cause(l.conn.Context()))
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// serve gives an incoming stream to its handler, on a goroutine of its own, if the peer may open it.
func (l *link) serve(s *quic.Stream) {
	if l.incoming.Add(1) > int32(l.limits.incoming(l.dialled)) || l.crowded() {
		l.incoming.Add(-1)
		reset(s, streamBusy)
		return
	}
	handle := l.e.handler(l.plane)
	if handle == nil {
		l.incoming.Add(-1)
		reset(s, streamNotServed)
		return
	}
	stream := l.newStream(s)
	stream.incoming = true
	go func() { // no task: Close does not wait for handlers, they may be the ones who call it
		defer func() {
			if cause := recover(); cause != nil {
				l.e.log.Error("a stream handler failed", "plane", l.plane, "peer", l.peer, slog.Any("err", cause), "stack", string(debug.Stack()))
				reset(s, streamBroken)
				_ = stream.Close()
			}
		}()
		if err := l.e.gate.Allow(l.peer, l.plane); err != nil {
			l.e.log.Debug("stream refused", "peer", l.peer, "plane", l.plane, "err", err)
			reset(s, streamDenied)
			_ = stream.Close()
			return
		}
		handle(stream)
	}()
}

// crowded reports whether the peer has too many streams open over all of its connections.
func (l *link) crowded() bool {
	return l.limits.crowd != 0 && l.e.pool.streams(l.peer, l.plane) > l.limits.crowd
}

// full reports whether another connection would carry new streams better. It is seen by whoever opens them.
func (l *link) full() bool {
	if l.limits.crowd == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open >= l.limits.incoming(!l.dialled) || l.starved
}

// writing notices when a write takes long, until it is over.
func (l *link) writing() (over func()) {
	if l.limits.crowd == 0 || !l.dialled {
		return func() {}
	}
	slow := time.AfterFunc(slowWrite, func() { l.slowWrites.Add(1) })
	return func() {
		if !slow.Stop() {
			l.slowWrites.Add(-1)
		}
	}
}

// errFull says that a connection has no room for another stream, and that another connection would.
var errFull = errors.New("the connection is full")

// openStream opens a stream to the peer; it waits while the peer has no room for one, unless another connection has.
func (l *link) openStream(ctx context.Context) (*Stream, error) {
	if l.limits.crowd != 0 {
		s, err := l.conn.OpenStream()
		switch {
		case err == nil:
			return l.newStream(s), nil
		case isA[*quic.StreamLimitReachedError](err):
			l.mu.Lock()
			l.starved = true
			l.mu.Unlock()
			return nil, errFull
		}
		l.broke.Store(true)
		return nil, broken(err, l.who())
	}
	s, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, &fleet.Error{Kind: fleet.Unavailable, What: l.who() + " has no room for another stream", Err: context.Cause(ctx)}
		}
		l.broke.Store(true)
		return nil, broken(err, l.who())
	}
	return l.newStream(s), nil
}

func (l *link) newStream(s *quic.Stream) *Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open++; l.open == 1 && !l.gone {
		l.keeper = time.AfterFunc(l.limits.ping, l.keep)
	}
	return &Stream{quic: s, link: l}
}

func (l *link) streamClosed(incoming bool) {
	if incoming {
		l.incoming.Add(-1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starved = false
	if l.open--; l.open == 0 {
		stop(l.keeper)
	}
}

// keep says something when streams are open and nothing is to be heard: a shell may be quiet for longer than a
// connection may be idle. The acknowledgement alone keeps both ends.
func (l *link) keep() {
	next, silent := l.limits.ping, l.silent()
	hasty := l.limits.pings != 0
	switch {
	case silent < l.limits.ping && hasty:
		next -= silent
	case silent < l.limits.ping:
	case hasty && l.unheard.Add(1) > l.limits.pings:
		l.close(closePipeBroke, "")
		return
	default:
		_ = l.say(controlPing) // a failure ends the connection, and that is noticed elsewhere
		if hasty {
			next = relayAgain
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open > 0 && !l.gone {
		l.keeper = time.AfterFunc(next, l.keep)
	}
}

func (l *link) say(kind byte) error {
	l.saying.Lock()
	defer l.saying.Unlock()
	return l.write(kind, 0)
}

// sayUplink says whether the connection is an uplink now; of two that say so, the last says what holds.
func (l *link) sayUplink() error {
	l.saying.Lock()
	defer l.saying.Unlock()
	if l.uplink.Load() {
		return l.write(controlUplink, 1)
	}
	return l.write(controlUplink, 0)
}

func (l *link) write(kind, what byte) error {
	body := make([]byte, controlBody)
	body[0] = what
	_ = l.control.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	_, err := l.control.Write(appendFrame(nil, kind, body))
	return broken(err, l.who())
}

// listen answers the peer's control frames until the connection ends.
func (l *link) listen() {
	for {
		kind, body, err := readFrame(l.control, maxControl)
		if err != nil {
			// Whoever ends the control stream, or talks nonsense on it, ends the connection.
			l.close(closeRefused+quic.ApplicationErrorCode(fleet.Invalid), "the control stream broke")
			return
		}
		l.heard()
		switch kind {
		case controlPing:
			if l.say(controlPong) != nil {
				l.close(closeGone, "")
				return
			}
		case controlPong:
			l.mu.Lock()
			if l.pong != nil {
				close(l.pong)
				l.pong = nil
			}
			l.mu.Unlock()
		case controlLeave:
			l.left.Store(true)
		case controlUplink:
			if l.plane == Relay && !l.dialled {
				l.uplink.Store(len(body) > 0 && body[0] != 0)
			}
		}
	}
}

// alive reports whether the peer is still there. It asks only a connection that has been silent for a while: then a
// peer that was killed, or has moved, costs one round trip or pongWait, and never a request that may have arrived.
func (l *link) alive(ctx context.Context) bool {
	if l.dead() || l.suspect.Load() {
		return false
	}
	return l.silent() < freshFor || l.answers(ctx)
}

// answers pings the peer; false when no pong comes in time.
func (l *link) answers(ctx context.Context) bool {
	l.mu.Lock()
	pong, first := l.pong, l.pong == nil
	if first {
		pong = make(chan struct{})
		l.pong = pong
	}
	l.mu.Unlock()
	if first && l.say(controlPing) != nil {
		return false
	}
	patience := time.NewTimer(pongWait)
	defer patience.Stop()
	select {
	case <-pong:
		return true
	case <-l.conn.Context().Done():
		return false
	case <-ctx.Done():
		return true // not its fault; the caller sees its own ctx
	case <-patience.C:
		l.suspect.Store(true)
		return false
	}
}

// retireLater closes the link once both ends are done with it, because a better one is there. One end cannot tell: the
// other may have opened a stream and not written to it yet.
func (l *link) retireLater() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retire == nil && !l.gone {
		l.retire = time.AfterFunc(supersededAfter, l.retireIfIdle)
	}
}

func (l *link) retireIfIdle() {
	better := l.e.pool.bestTwin(l) != l
	l.mu.Lock()
	l.retire = nil
	idle := l.open == 0
	l.mu.Unlock()
	switch {
	case !better:
		return
	case idle && l.left.Load():
		l.close(closeSuperseded, "")
		return
	case idle:
		_ = l.say(controlLeave) // a failure ends the connection, and that is noticed elsewhere
	}
	l.retireLater()
}
