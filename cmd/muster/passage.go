package main

import (
	"context"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// comeBackEvery is how often a node that was lost is asked whether it still has the session.
const comeBackEvery = 2 * time.Second

// passage connects from a node to the places of one session of kind SessionForward. A session that the node no longer knows,
// as its agent was started again, is opened anew when somebody connects; one that was ended there stays so.
type passage struct {
	*visit
	session auth.Session
	ctx     context.Context // ends with the passage
	end     context.CancelCauseFunc
	watches sync.WaitGroup

	mu        sync.Mutex
	id        fleet.UUID // of the session that stands
	listening []string   // where the node listens for it
}

// openPassage opens the session, so that a refusal is known before anybody connects. Close it.
func openPassage(ctx context.Context, v *visit, s auth.Session) (*passage, error) {
	p := &passage{visit: v, session: s}
	p.ctx, p.end = context.WithCancelCause(ctx)
	if _, err := p.renew(ctx, fleet.UUID{}); err != nil {
		p.end(nil)
		return nil, err
	}
	return p, nil
}

// renew returns the session that stands, or opens one in the place of gone.
func (p *passage) renew(ctx context.Context, gone fleet.UUID) (fleet.UUID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id != gone { // somebody else was faster
		return p.id, nil
	}
	signed, id, err := p.sign(p.at, p.session)
	if err != nil {
		return id, err
	}
	s, opened, err := p.open(ctx, p.at, signed)
	if err != nil {
		return id, err
	}
	if len(opened.Listening) != len(p.session.Listen) {
		s.Close()
		return id, fleet.Errorf(fleet.Internal, "%s listens at %d places, not at %d", p.at.Name, len(opened.Listening), len(p.session.Listen))
	}
	p.id, p.listening = id, opened.Listening
	p.watches.Go(func() { p.watch(s, id) })
	return id, nil
}

// watch holds the session while nobody is connected by it, and ends the passage when the node has ended the session.
func (p *passage) watch(s *transport.Stream, id fleet.UUID) {
	for s != nil {
		stop := context.AfterFunc(p.ctx, func() { s.Close() })
		_, _, err := s.ReadFrame() // the node says nothing but why it ends
		stop()
		s.Close()
		switch {
		case p.ctx.Err() != nil:
			return
		case isOver(err):
			p.end(err)
			return
		}
		s = p.comeBack(id)
	}
}

// comeBack asks for a session until the node answers. Without a stream there is no more to watch.
func (p *passage) comeBack(id fleet.UUID) *transport.Stream {
	for {
		s, _, err := p.attach(p.ctx, p.at, id, 0)
		switch {
		case err == nil:
			return s
		case isOver(err):
			p.end(err)
			return nil
		case fleet.KindOf(err) != fleet.Unavailable: // NotFound: whoever connects next opens another
			return nil
		}
		select {
		case <-p.ctx.Done():
			return nil
		case <-time.After(comeBackEvery):
		}
	}
}

// isOver reports whether the node has ended the session, or would not have it any more.
func isOver(err error) bool {
	kind := fleet.KindOf(err)
	return err != nil && (kind == fleet.Expired || kind == fleet.Denied)
}

func (p *passage) current() fleet.UUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

// listens lists where the node listens, in the order of the session's Listen.
func (p *passage) listens() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listening
}

// accept waits for a connection that comes in for a session at the n-th of the places where the node listens.
func (p *passage) accept(ctx context.Context, id fleet.UUID, n uint16) (half, error) {
	open, cancel := context.WithTimeout(ctx, frameWait)
	defer cancel()
	s, err := p.quic.Open(open, p.at.ID, transport.Session)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	_, err = exchange(s, node.SessionAccept, node.EncodeSession(node.SessionAccepting{ID: id, N: n}))
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// reach connects from the node.
func (p *passage) reach(ctx context.Context, to string) (half, error) {
	id := p.current()
	s, err := p.dial(ctx, p.at, id, to)
	if err != nil && fleet.KindOf(err) == fleet.NotFound {
		if id, err = p.renew(ctx, id); err == nil {
			s, err = p.dial(ctx, p.at, id, to)
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the session.
func (p *passage) Close() {
	over := isOver(context.Cause(p.ctx))
	p.end(nil)
	if !over {
		p.leave(p.at, p.current())
	}
	p.watches.Wait()
}
