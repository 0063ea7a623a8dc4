package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

const (
	// frameWait is how long a node may take for the one frame that begins a stream. Opening a session starts a process
	// there, and may wait until the node has caught up with the record.
	frameWait = 30 * time.Second
	// leaveWait is how long a session that is given up is asked to end; what is not heard ends by the node's own grace.
	leaveWait = 2 * time.Second
)

// sessionEnd is the operator's own end of QUIC: its key is the operator's, so that no agent stands between a person and the
// node that they talk to. The local agent only told where the nodes are.
type sessionEnd struct {
	pen    *pen
	quic   *transport.Endpoint
	shared bool // with the way to the host that --via names, through which nodes are reached that cannot be dialled from here
}

// newSessionEnd makes an end that reaches some nodes. Close it.
func newSessionEnd(ctx context.Context, p *pen, nodes ...api.Node) (*sessionEnd, error) {
	found := findPlaces(ctx, p.client, nodes...)
	if p.via != nil {
		end, err := p.via.reach(ctx, found)
		if err != nil {
			return nil, err
		}
		return &sessionEnd{pen: p, quic: end, shared: true}, nil
	}
	end, err := newOperatorEnd(p.who, found)
	if err != nil {
		return nil, err
	}
	return &sessionEnd{pen: p, quic: end}, nil
}

// quietBuffers keeps quic-go's line about small buffers off the person's terminal.
func quietBuffers() {
	if os.Getenv(noBufferLine) == "" {
		_ = os.Setenv(noBufferLine, "true")
	}
}

const noBufferLine = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"

// Close ends all streams, where the end is this one's alone.
func (e *sessionEnd) Close() {
	if !e.shared {
		_ = e.quic.Close()
	}
}

// begin opens a stream to a node, says one frame and hears the answer, which is of the same kind.
func (e *sessionEnd) begin(ctx context.Context, at api.Node, kind byte, body []byte) (*transport.Stream, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, frameWait)
	defer cancel()
	s, err := e.quic.OpenSaying(ctx, at.ID, transport.Session, kind, body)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	answer, err := answered(s, kind)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return s, answer, nil
	}
	s.Close()
	if ctx.Err() != nil {
		return nil, nil, fleet.Errorf(fleet.Unavailable, "no answer in time from %s", at.Name)
	}
	return nil, nil, err
}

// exchange says a frame on a stream that is open, and hears the answer.
func exchange(s *transport.Stream, kind byte, body []byte) ([]byte, error) {
	wrote := s.WriteFrame(kind, body)
	answer, err := answered(s, kind) // also if it could not be written: a node that refuses early says why
	if err == errNoAnswer && wrote != nil {
		return nil, wrote
	}
	return answer, err
}

var errNoAnswer = fleet.Errorf(fleet.Unavailable, "the node ended the stream without an answer")

// answered hears the answer to a frame, which is of the same kind.
func answered(s *transport.Stream, kind byte) ([]byte, error) {
	got, answer, err := s.ReadFrame()
	switch {
	case err == io.EOF:
		return nil, errNoAnswer
	case err != nil:
		return nil, err
	case got != kind:
		return nil, fleet.Errorf(fleet.Internal, "the node answers a frame of kind %d with one of kind %d", kind, got)
	}
	return answer, nil
}

// sign signs a session's statement. It is the session's proof for as long as it may be opened; its ID is the session's.
func (e *sessionEnd) sign(at api.Node, s auth.Session) (auth.Envelope, fleet.UUID, error) {
	s.Header, s.Node = e.pen.header(auth.DefaultSessionLife), at.ID
	s.Header.Mode = auth.Direct
	if err := s.Check(); err != nil {
		return auth.Envelope{}, s.Header.ID, err
	}
	return e.pen.sign(auth.ForSession, s), s.Header.ID, nil
}

// open opens a signed session; the stream goes on with it.
func (e *sessionEnd) open(ctx context.Context, at api.Node, signed auth.Envelope) (*transport.Stream, node.SessionOpened, error) {
	s, answer, err := e.begin(ctx, at, node.SessionOpen, node.EncodeSession(signed))
	if err != nil {
		return nil, node.SessionOpened{}, err
	}
	opened, err := node.DecodeSession[node.SessionOpened](answer)
	if err != nil {
		s.Close()
	}
	return s, opened, err
}

// attach goes on with a session that is open, behind what was consumed; theirs is what the node has consumed.
func (e *sessionEnd) attach(ctx context.Context, at api.Node, id fleet.UUID, have uint64) (s *transport.Stream, theirs uint64, err error) {
	s, answer, err := e.begin(ctx, at, node.SessionAttach, node.EncodeSession(node.SessionAttaching{ID: id, Have: have}))
	if err != nil {
		return nil, 0, err
	}
	attached, err := node.DecodeSession[node.SessionAttached](answer)
	if err != nil {
		s.Close()
	}
	return s, attached.Have, err
}

// dial connects from the node to a place that the session may connect to.
func (e *sessionEnd) dial(ctx context.Context, at api.Node, id fleet.UUID, to string) (*transport.Stream, error) {
	s, _, err := e.begin(ctx, at, node.SessionDial, node.EncodeSession(node.SessionDialling{ID: id, To: to}))
	return s, err
}

// ask reads what a node knows of sessions. Of a recording, its bytes follow in the stream, which is the caller's to close.
func (e *sessionEnd) ask(ctx context.Context, at api.Node, what node.ReadWhat, id fleet.UUID) (node.SessionAnswer, *transport.Stream, error) {
	signed := e.pen.requestAt(at.ID, what, id)
	return e.answer(e.begin(ctx, at, node.SessionAsk, node.EncodeSession(signed)))
}

// kill ends a session.
func (e *sessionEnd) kill(ctx context.Context, at api.Node, id fleet.UUID, reason string) (node.SessionAnswer, error) {
	h := e.pen.header(node.ReadLife)
	h.Mode = auth.Direct
	signed := e.pen.sign(auth.ForSessionKill, auth.SessionKill{Header: h, Node: at.ID, Session: id, Reason: reason})
	answer, s, err := e.answer(e.begin(ctx, at, node.SessionKill, node.EncodeSession(signed)))
	if err == nil {
		s.Close()
	}
	return answer, err
}

func (e *sessionEnd) answer(s *transport.Stream, body []byte, err error) (node.SessionAnswer, *transport.Stream, error) {
	if err != nil {
		return node.SessionAnswer{}, nil, err
	}
	answer, err := node.DecodeSession[node.SessionAnswer](body)
	if err != nil {
		s.Close()
	}
	return answer, s, err
}

// leave ends a session whose person goes away. Nobody hears of it if it cannot be said: the node notices by itself, later.
func (e *sessionEnd) leave(at api.Node, id fleet.UUID) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
	defer cancel()
	_, _ = e.kill(ctx, at, id, "its operator has left")
}
