package agent

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// dialWait bounds how long a connection from this node may take to stand.
const dialWait = 10 * time.Second

// openTunnel opens a session of kind SessionForward. The stream need not stay: while it does, the operator is connected.
func (a *Agent) openTunnel(s SessionStream, order node.SessionOrder) error {
	x, err := a.beginTunnel(order)
	if err != nil {
		a.note(order.ID, "start", "not opened: %v", err)
		return err
	}
	a.opened(order.ID)
	a.note(order.ID, "start", "%s", openedText(order, x.state.Listening))
	if _, err := a.sessions.tunnels.hold(order.ID, false, a.now()); err != nil {
		return err
	}
	defer func() { a.sessions.tunnels.release(x, false, a.now()) }()
	if s.WriteFrame(node.SessionOpen, a.openedBody(order, x.state.Listening)) == nil {
		a.stay(s, x)
	}
	return nil
}

func openedText(o node.SessionOrder, listening []string) string {
	if len(listening) == 0 {
		return "opened from " + o.From
	}
	return "opened from " + o.From + ", listens at " + strings.Join(listening, " ")
}

// beginTunnel listens where a tunnel is to, and begins it.
func (a *Agent) beginTunnel(order node.SessionOrder) (*tunnel, error) {
	ears, err := a.listenAll(order)
	if err != nil {
		return nil, err
	}
	var keep tunnelKeeper
	if a.sessions.shell != nil {
		if err := a.sessions.shell.OpenTunnel(order); err != nil {
			closeEars(ears)
			return nil, err
		}
		keep = a.sessions.shell
	}
	x, err := a.sessions.tunnels.open(order, ears, keep, a.now, a.SessionEnded)
	if err != nil {
		closeEars(ears)
		if keep != nil {
			state := order.State()
			state.Ended, state.Why, state.Code = a.now().UnixMilli(), err.Error(), tunnelLost
			keep.EndTunnel(state)
		}
		return nil, err
	}
	for _, e := range ears {
		go e.serve(func(err error) {
			a.log.Warn("a tunnel's listener has no room", "session", order.ID, "at", e.addr, "err", err)
		})
	}
	return x, nil
}

// holdTunnel is openTunnel for a tunnel that there is, or was.
func (a *Agent) holdTunnel(s SessionStream, state node.SessionState) error {
	if state.Ended != 0 {
		return endedError(state)
	}
	x, err := a.sessions.tunnels.hold(state.ID, false, a.now())
	if err != nil {
		return err
	}
	defer func() { a.sessions.tunnels.release(x, false, a.now()) }()
	if s.WriteFrame(node.SessionAttach, node.EncodeSession(node.SessionAttached{})) == nil {
		a.stay(s, x)
	}
	return nil
}

// stay waits until the operator ends the stream, or the tunnel ends, of which the stream tells.
func (a *Agent) stay(s SessionStream, x *tunnel) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = s.Read(make([]byte, 1)) // nothing is to come
	}()
	select {
	case <-left:
	case <-x.over.Done():
		_ = s.WriteError(context.Cause(x.over))
		s.Close()
		<-left
	}
}

// dialSession connects from this node to a place that the session was signed for, and copies bytes both ways.
func (a *Agent) dialSession(s SessionStream, body []byte) error {
	ask, err := node.DecodeSession[node.SessionDialling](body)
	if err != nil {
		return err
	}
	state, err := a.mayAttach(s, ask.ID)
	if err == nil {
		err = state.MayDial(ask.To)
	}
	if err == nil && state.Ended != 0 {
		err = endedError(state)
	}
	if err != nil {
		return err
	}
	x, err := a.sessions.tunnels.hold(ask.ID, true, a.now())
	if err != nil {
		return err
	}
	defer func() { a.sessions.tunnels.release(x, true, a.now()) }()
	c := node.SessionConnection{To: ask.To, Began: a.now().UnixMilli()}
	conn, err := a.dialOut(s, x, ask.To)
	if err != nil {
		c.Why = err.Error()
		a.connected(x, c)
		return err
	}
	defer conn.Close()
	if s.WriteFrame(node.SessionDial, node.EncodeSession(node.SessionDialled{Addr: conn.RemoteAddr().String()})) != nil {
		c.Why = operatorGone
		a.connected(x, c)
		return nil
	}
	a.relay(s, conn, x, c)
	return nil
}

func (a *Agent) dialOut(s SessionStream, x *tunnel, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.Context(), dialWait)
	defer cancel()
	defer context.AfterFunc(x.over, cancel)()
	conn, err := a.sessions.dial(ctx, to)
	switch {
	case err == nil:
		return conn, nil
	case x.over.Err() != nil:
		return nil, context.Cause(x.over)
	}
	return nil, notConnected(to, err)
}

// notConnected says in one line why there is no connection.
func notConnected(to string, err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return fleet.Errorf(fleet.Unavailable, "no such host: %s", dns.Name).Hinted("the name is looked up on the node")
		}
		return fleet.Errorf(fleet.Unavailable, "%s could not be looked up on the node: %s", dns.Name, dns.Err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		to = op.Addr.String()
	}
	slow, isNet := errors.AsType[net.Error](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fleet.Errorf(fleet.Unavailable, "connection refused by %s", to)
	case errors.Is(err, context.DeadlineExceeded), isNet && slow.Timeout():
		return fleet.Errorf(fleet.Unavailable, "no answer from %s within %s", to, dialWait)
	case isErrno:
		return fleet.Errorf(fleet.Unavailable, "no connection to %s: %s", to, errno.Error())
	}
	return fleet.Errorf(fleet.Unavailable, "no connection to %s: %w", to, err)
}

// half is the end of one direction of a connection.
type half struct {
	out bool // to the operator
	err error
}

// relay copies both ways until both have ended, and each keeps its own end: whoever has said all may still hear. When one
// breaks, both are broken off, so that nobody takes half of something for all of it.
func (a *Agent) relay(s SessionStream, conn net.Conn, x *tunnel, c node.SessionConnection) {
	c.Began = a.now().UnixMilli()
	var said atomic.Bool // all that is to be written to the stream
	defer context.AfterFunc(x.over, func() { breakOff(s, conn) })()
	defer context.AfterFunc(s.Context(), func() {
		if !said.Load() { // the operator reads no more, and a connection that is quiet would never find out
			breakOff(s, conn)
		}
	})()
	halves := make(chan half, 2)
	go func() {
		halves <- half{err: pour(conn, s, func(n int) { c.In += int64(n); x.in.Add(int64(n)) })}
	}()
	go func() {
		halves <- half{out: true, err: pour(s, conn, func(n int) { c.Out += int64(n); x.out.Add(int64(n)) })}
	}()
	for range 2 {
		switch h := <-halves; {
		case h.err != nil:
			if c.Why == "" {
				c.Why = brokenBy(h, x, s)
			}
			breakOff(s, conn)
		case h.out:
			said.Store(true)
			_ = s.CloseWrite()
		default:
			closeWrite(conn)
		}
	}
	a.connected(x, c)
}

// operatorGone is why a connection broke whose operator's end did.
const operatorGone = "the operator's end is gone"

// brokenBy says why a connection broke off, by the half that broke first.
func brokenBy(h half, x *tunnel, s SessionStream) string {
	switch {
	case x.over.Err() != nil:
		return "the session ended"
	case s.Context().Err() != nil:
		return operatorGone
	}
	if errno, ok := errors.AsType[syscall.Errno](h.err); ok {
		return errno.Error()
	}
	return "broken off"
}

// connected keeps what became of a connection.
func (a *Agent) connected(x *tunnel, c node.SessionConnection) {
	c.Ended = max(a.now().UnixMilli(), c.Began)
	if len(c.Why) > maxConnectionText {
		c.Why = strings.ToValidUTF8(c.Why[:maxConnectionText], "")
	}
	a.note(x.state.ID, "connection", "%s", c.Text())
	a.sessions.tunnels.record(x, c)
}

// maxConnectionText bounds why a connection came to nothing, in bytes.
const maxConnectionText = 256

// breakOff ends both in a way that cannot be taken for an orderly end.
func breakOff(s SessionStream, conn net.Conn) {
	reset(conn)
	s.Abort()
}

// closeWrite ends what is written to a connection; one that cannot end it alone ends whole.
func closeWrite(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
		return
	}
	conn.Close()
}
