package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// ear is one place where this host listens for a tunnel. It takes one connection ahead of whoever waits for the next; the others
// wait in the kernel's queue.
type ear struct {
	addr  string // where it listens
	l     net.Listener
	conns chan net.Conn
	over  chan struct{} // closed with it
}

// listenAll opens all places where a session listens, or none.
func (a *Agent) listenAll(o node.SessionOrder) (ears []*ear, err error) {
	if len(o.Listen) > 0 && a.sessions.listen == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "%s listens for nobody", a.cfg.Name)
	}
	for _, at := range o.Listen {
		l, err := a.sessions.listen(at)
		if err != nil {
			closeEars(ears)
			return nil, a.cannotListen(at, err)
		}
		ears = append(ears, &ear{addr: l.Addr().String(), l: l, conns: make(chan net.Conn), over: make(chan struct{})})
	}
	return ears, nil
}

func closeEars(ears []*ear) {
	for _, e := range ears {
		e.close()
	}
}

func (e *ear) close() {
	e.l.Close()
	close(e.over)
}

// cannotListen says in one line why not, and who is there already if that is another tunnel.
func (a *Agent) cannotListen(at string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		for _, s := range a.sessions.tunnels.list() {
			for _, has := range s.Listening {
				if has == at {
					return fleet.Errorf(fleet.Conflict, "session %s of %s listens at %s already", s.ID, s.Operator, at).Hinted("muster session kill %s --node %s", s.ID, a.cfg.Name)
				}
			}
		}
		return fleet.Errorf(fleet.Conflict, "something else listens at %s of %s", at, a.cfg.Name).Hinted("another port; with 0 a free one is taken")
	case errors.Is(err, os.ErrPermission):
		return fleet.Errorf(fleet.Denied, "the agent of %s may not listen at %s", a.cfg.Name, at).Hinted("a port of 1024 or above")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fleet.Errorf(fleet.Invalid, "%s is no address of %s", at, a.cfg.Name).Hinted("127.0.0.1 is one of every node")
	}
	return fleet.Errorf(fleet.Unavailable, "%s cannot listen at %s: %w", a.cfg.Name, at, err)
}

// acceptPause is how long a listener rests that had no room for a connection.
const acceptPause = 100 * time.Millisecond

// serve takes connections, and gives each to whoever waits for one.
func (e *ear) serve(complain func(error)) {
	for fine := true; ; fine = true {
		conn, err := e.l.Accept()
		for ; err != nil; conn, err = e.l.Accept() {
			select {
			case <-e.over:
				return
			case <-time.After(acceptPause):
			}
			if fine {
				complain(err)
			}
			fine = false
		}
		e.give(conn)
	}
}

// give waits until somebody takes a connection; if none does before the end, it is reset.
func (e *ear) give(conn net.Conn) {
	select {
	case e.conns <- conn:
	case <-e.over:
		reset(conn)
	}
}

// reset ends a connection in a way that cannot be taken for an orderly end.
func reset(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0)
	}
	conn.Close()
}

// acceptSession gives the operator's end the next connection that comes in at a place where a session listens, and copies bytes
// both ways.
func (a *Agent) acceptSession(s SessionStream, body []byte) error {
	ask, err := node.DecodeSession[node.SessionAccepting](body)
	if err != nil {
		return err
	}
	state, err := a.mayAttach(s, ask.ID)
	if err == nil {
		err = state.MayAccept(ask.N)
	}
	if err == nil && state.Ended != 0 {
		err = endedError(state)
	}
	if err != nil {
		return err
	}
	x, err := a.sessions.tunnels.hold(ask.ID, false, a.now())
	if err != nil {
		return err
	}
	e := x.ears[ask.N]
	conn, err := a.awaitConnection(s, x, e)
	if err != nil {
		a.sessions.tunnels.release(x, false, a.now())
		return err
	}
	from := conn.RemoteAddr().String()
	if s.WriteFrame(node.SessionAccept, node.EncodeSession(node.SessionAccepted{From: from})) != nil {
		a.sessions.tunnels.unconnect(x)
		a.sessions.tunnels.release(x, false, a.now())
		e.give(conn) // nobody heard of it: whoever waits beside gets it
		return nil
	}
	defer a.sessions.tunnels.release(x, true, a.now())
	defer conn.Close()
	a.relay(s, conn, x, node.SessionConnection{To: e.addr, From: from})
	return nil
}

func (a *Agent) awaitConnection(s SessionStream, x *tunnel, e *ear) (net.Conn, error) {
	select {
	case conn := <-e.conns:
		if err := a.sessions.tunnels.connects(x, a.now()); err != nil {
			reset(conn)
			return nil, err
		}
		return conn, nil
	case <-x.over.Done():
		return nil, context.Cause(x.over)
	case <-s.Context().Done():
		return nil, fleet.Errorf(fleet.Unavailable, "gave up")
	}
}
