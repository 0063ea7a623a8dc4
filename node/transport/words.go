package transport

import (
	"context"
	"errors"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// OpenSaying is Open, and a frame written to the stream. Where a connection must be dialled, and the plane allows for it, the frame goes
// out right behind this end's hello, before the peer's is heard: a round trip less. The peer has proved its key by then; it has
// shown no proof, so say nothing that whoever has the key may not hear. It is not said twice: after an error it may or may not
// have arrived, unless the peer refused. A frame may be refused for its length.
func (e *Endpoint) OpenSaying(ctx context.Context, id fleet.ID, plane Plane, kind byte, body []byte) (*Stream, error) {
	limits, _ := plane.limits()
	if err := limits.fits(body, plane); err != nil {
		return nil, err
	}
	frame := appendFrame(make([]byte, 0, frameHeader+len(body)), kind, body)
	if id == e.id {
		return nil, fleet.Errorf(fleet.Invalid, "%s is this node itself", id)
	}
	if err := e.gate.Allow(id, plane); err != nil {
		return nil, err
	}
	var first *words
	if limits.eager && len(frame) <= maxWords {
		first = &words{frame: frame}
	}
	s, err := e.open(ctx, destination{id: id, plane: plane}, first)
	if err != nil || first.wereSaid() {
		return s, err
	}
	_, _ = s.Write(frame) // a peer that refuses early says why to who reads
	return s, nil
}

// words are what whoever begins a dial has to say. nil: nothing.
type words struct {
	frame []byte

	mu     sync.Mutex
	said   *quic.Stream // nil: not yet, or it was refused
	stream *Stream      // the same, when the connection is in use
	gone   bool         // whoever has them waits no more
}

// say says them over a connection on which our hello was said. What does not work is not said, and may be later.
func (w *words) say(ctx context.Context, l *link) {
	if w == nil || l.e.gate.Allow(l.peer, l.plane) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.said != nil {
		return
	}
	s, err := l.conn.OpenStream()
	if err != nil {
		return
	}
	w.said = s
	defer watch(ctx, s)()
	_, _ = s.Write(w.frame) // it fits into the stream's window; if the connection has ended, its other streams say why
}

// unheard reports that a connection which did not come to be in use has not served them: they were not said over it, or the peer
// refused its hello. They may be said over another one then.
func (w *words) unheard(conn *quic.Conn) bool {
	if w == nil {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == nil {
		return true
	}
	why, ok := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context()))
	if ok && why.Remote && (why.ErrorCode >= closeRefused || why.ErrorCode == closeAnotherFleet) {
		w.said = nil
		return true
	}
	return false
}

// wereSaid reports whether they must not be said any more.
func (w *words) wereSaid() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said != nil
}

// over makes a stream of the connection out of theirs, once it is in use; nil: there is none.
func (w *words) over(l *link) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.said == nil || l == nil:
	case w.gone:
		reset(w.said, streamCancelled) // others have the connection
	default:
		w.stream = l.newStream(w.said)
	}
}

// giveUp says that nobody waits for their stream.
func (w *words) giveUp() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	if w.stream != nil {
		w.stream.Abort()
		_ = w.stream.Close()
		w.stream = nil
	}
}

// taken returns the stream on which they were said, once.
func (w *words) taken() *Stream {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stream
	w.stream = nil
	return s
}
