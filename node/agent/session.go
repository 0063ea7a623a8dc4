package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// SessionStream is one stream of the plane of sessions: a frame there, one back, and then bytes.
type SessionStream interface {
	Stream
	io.ReadWriter
	// ReadFrameOf is ReadFrame of a frame whose body has at most that many bytes.
	ReadFrameOf(most int) (kind byte, body []byte, err error)
	// SetReadDeadline ends reading at a time; zero: never.
	SetReadDeadline(at time.Time) error
	// SetWriteDeadline ends a Write at a time, with what was taken so far and os.ErrDeadlineExceeded; zero: never.
	SetWriteDeadline(at time.Time) error
	// CloseWrite tells the peer that nothing more comes; reading goes on.
	CloseWrite() error
	// Abort ends both directions at once, so that the peer cannot take it for an orderly end. Close is due all the same.
	Abort()
	// Addr returns where the peer is now.
	Addr() netip.AddrPort
}

// openWait bounds how long opening a session may take: a process is started, and an account may have to be made.
const openWait = 20 * time.Second

// Limits of what any operator can make this host hold before anything is judged.
const (
	firstFrameWait = 10 * time.Second
	maxFirstFrame  = auth.MaxSession + 8<<10 // bytes; a statement in its envelope
	maxBeginning   = 64                      // streams of one operator whose first frame is awaited; others wait for them
)

// sessions is what the agent keeps of them.
type sessions struct {
	shell Sessions // nil where none run
	dial  func(ctx context.Context, to string) (net.Conn, error)
	// listen listens at ADDRESS:PORT.
	listen func(at string) (net.Listener, error)
	host   func() node.SessionHost

	beginning turnstile
	archive   Archive // nil where no copies of recordings are kept
	wanting   wanting

	api        APIDoor
	apiStreams turnstile
	apiLarge   turnstile

	mu      sync.Mutex
	opening map[fleet.UUID]node.SessionState // judged, and not in any list yet
	tunnels tunnels
}

// sessionHost is what judging a session takes of this host.
func (a *Agent) sessionHost() node.SessionHost {
	var host node.SessionHost
	if a.sessions.host != nil {
		host = a.sessions.host()
	}
	host.Self, host.Consent = a.self, a.Consent()
	host.ClockOff = a.picture.Load().clock.Suspect(a.cfg.Clock()) != 0
	return host
}

// ServeSession answers one stream of an operator: the transport has proved the key, and AllowOperator has said that it is a
// current operator's.
func (a *Agent) ServeSession(s SessionStream) {
	defer s.Close()
	kind, body, err := a.firstFrame(s)
	if err != nil {
		_ = s.WriteError(err) // who sent none is gone, or hears why
		return
	}
	if err := a.serveSession(s, kind, body); err != nil {
		_ = s.WriteError(err)
	}
}

// firstFrame reads the frame that a stream begins with. Whoever may connect may send one, also without any right beyond that.
func (a *Agent) firstFrame(s SessionStream) (kind byte, body []byte, err error) {
	leave, ok := a.sessions.beginning.enter(s.Context(), s.Peer(), maxBeginning)
	if !ok {
		return 0, nil, fleet.Errorf(fleet.Unavailable, "gave up")
	}
	defer leave()
	_ = s.SetReadDeadline(time.Now().Add(firstFrameWait))
	if kind, body, err = s.ReadFrameOf(maxFirstFrame); err == nil {
		err = s.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fleet.Errorf(fleet.Expired, "a stream of the plane of sessions begins with a frame, within %s", firstFrameWait)
	}
	return kind, body, err
}

// serveSession returns only what may still be told by a frame: behind an answer come bytes.
func (a *Agent) serveSession(s SessionStream, kind byte, body []byte) error {
	switch kind {
	case node.SessionOpen:
		return a.openSession(s, body)
	case node.SessionAttach:
		return a.attachSession(s, body)
	case node.SessionDial:
		return a.dialSession(s, body)
	case node.SessionAccept:
		return a.acceptSession(s, body)
	case node.SessionAsk:
		return a.askSession(s, body)
	case node.SessionKill:
		return a.killSession(s, body)
	case node.SessionWatch:
		return a.serveLook(s, body)
	case node.SessionDocument:
		return a.giveDocument(s, body)
	case node.SessionAPI:
		return a.serveAPI(s)
	}
	return fleet.Errorf(fleet.Invalid, "request of kind %d is not understood by this version", kind)
}

func (a *Agent) openSession(s SessionStream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionOpen, body)
	if err != nil {
		return err
	}
	order, err := a.judgeSession(s, signed)
	if err == nil {
		order.From = a.whence(s)
		err = a.admitSession(order)
	}
	if err != nil {
		a.logRefusal(s.Peer(), signed, err)
		return err
	}
	defer a.opened(order.ID)
	a.note(order.ID, "policy", "%s may have %s here, by %s", order.Operator, a.wordOf(order), order.Rule)
	if order.Kind == auth.SessionForward {
		return a.openTunnel(s, order)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), openWait) // whoever hangs up leaves no half of one
	defer cancel()
	if err := a.sessions.shell.Open(ctx, order); err != nil {
		a.note(order.ID, "start", "not opened: %v", err)
		return err
	}
	a.opened(order.ID)
	a.note(order.ID, "start", "opened from %s", order.From)
	return a.goOn(s, node.SessionOpen, order.ID, 0, func(uint64) []byte { return a.openedBody(order, nil) })
}

// judgeSession judges a statement by the newest record; where that is older than the signer's, it is fetched first.
func (a *Agent) judgeSession(s SessionStream, signed auth.Envelope) (order node.SessionOrder, err error) {
	err = a.caughtUp(s.Context(), func(record auth.Record) error {
		host := a.sessionHost()
		needs, err := node.SessionNeeds(signed, record, s.Peer(), host, a.now())
		if err != nil {
			return err
		}
		order, err = node.JudgeSessionBy(signed, a.publicationsFor(s.Context(), needs), record, s.Peer(), host, a.now())
		return err
	})
	return order, err
}

// admitSession takes the place of a session among those of this host; opened gives it back, once a list has it or it came
// to nothing.
func (a *Agent) admitSession(o node.SessionOrder) error {
	switch {
	case o.Kind == auth.SessionForward && a.sessions.dial == nil, o.Kind != auth.SessionForward && a.sessions.shell == nil:
		return fleet.Errorf(fleet.Unavailable, "%s takes no sessions of that kind", a.cfg.Name)
	}
	if err := a.idleRefusal(); err != nil {
		return err
	}
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	have := a.knownSessions()
	for _, s := range a.sessions.opening {
		have = append(have, s)
	}
	if err := node.AdmitSession(o, have, node.SessionLimitsOf(a.record().Settings, a.sessionHost().Limits)); err != nil {
		return err
	}
	if a.sessions.opening == nil {
		a.sessions.opening = map[fleet.UUID]node.SessionState{}
	}
	a.sessions.opening[o.ID] = o.State()
	return nil
}

func (a *Agent) opened(id fleet.UUID) {
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	delete(a.sessions.opening, id)
}

func (a *Agent) openedBody(o node.SessionOrder, listening []string) []byte {
	return node.EncodeSession(node.SessionOpened{
		ID: o.ID, Node: a.cfg.Name, User: o.User, Idle: o.Idle, Most: o.Most, Grace: o.Grace,
		Recorded: o.Record != node.RecordNone, Input: o.Input, Listening: listening,
	})
}

func (a *Agent) attachSession(s SessionStream, body []byte) error {
	ask, err := node.DecodeSession[node.SessionAttaching](body)
	if err != nil {
		return err
	}
	state, err := a.mayAttach(s, ask.ID)
	if err != nil {
		return err
	}
	if state.Kind == auth.SessionForward {
		return a.holdTunnel(s, state)
	}
	return a.goOn(s, node.SessionAttach, ask.ID, ask.Have, func(theirs uint64) []byte {
		return node.EncodeSession(node.SessionAttached{Have: theirs})
	})
}

// mayAttach returns the session that a peer may go on with.
func (a *Agent) mayAttach(s SessionStream, id fleet.UUID) (node.SessionState, error) {
	state, ok := a.session(id)
	if !ok {
		return state, node.NoSession(id)
	}
	if err := node.JudgeAttach(state, s.Peer(), a.record(), a.sessionHost(), a.now()); err != nil {
		return state, err
	}
	return state, a.idleRefusal() // what was opened before ends by itself, or is killed
}

// goOn brings a stream and a session's supervisor together: the answer is written, and from then on both only see each
// other's bytes, until either ends. The supervisor keeps what was lost on the way.
func (a *Agent) goOn(s SessionStream, kind byte, id fleet.UUID, have uint64, answer func(theirs uint64) []byte) error {
	conn, theirs, err := a.sessions.shell.Attach(s.Context(), id, s.Peer(), have)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.WriteFrame(kind, answer(theirs)); err != nil {
		return nil // the peer is gone, and with it whom to tell
	}
	var in sync.WaitGroup
	in.Go(func() {
		_ = pour(conn, s, nil)
		conn.Close() // whoever ends the stream is gone: the supervisor waits for the next one
	})
	if err := pour(&patient{s, func() bool { return isGone(conn) }}, conn, nil); errors.Is(err, errStuck) {
		a.log.Debug("an operator's end took nothing of a session that is over", "session", id)
		s.Abort()
	}
	s.Close() // what was written before arrives
	in.Wait()
	return nil
}
