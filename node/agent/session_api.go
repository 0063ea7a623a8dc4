package agent

import (
	"context"
	"net"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// APIDoor serves this host's API to one operator on one connection, until either hangs up, and closes the connection. stands
// reports why the operator may not act any more; large waits for leave to be sent what is long. An error means that nothing was
// served.
type APIDoor func(ctx context.Context, conn net.Conn, by fleet.ID, stands func() error, large func(context.Context) (leave func(), ok bool)) error

// Limits of one operator's requests to the API here.
const (
	maxAPIStreams = 64 // open at a time; more wait for apiWait
	maxAPILarge   = 4  // answers of the size of the whole fleet that are written at a time; others wait
	apiWait       = 5 * time.Second
)

// serveAPI lets an operator who is at no host of the fleet ask this one.
func (a *Agent) serveAPI(s SessionStream) error {
	conn, ok := s.(net.Conn)
	if !ok || a.sessions.api == nil {
		return fleet.Errorf(fleet.Unavailable, "%s answers no requests from elsewhere", a.cfg.Name)
	}
	by := s.Peer()
	waiting, cancel := context.WithTimeout(s.Context(), apiWait)
	defer cancel()
	leave, ok := a.sessions.apiStreams.enter(waiting, by, maxAPIStreams)
	if !ok {
		return fleet.Errorf(fleet.Exhausted, "your key has %d requests open on %s, the most", maxAPIStreams, a.cfg.Name).Hinted("ask again when some have ended")
	}
	defer leave()
	if s.WriteFrame(node.SessionAPI, nil) != nil {
		return nil
	}
	err := a.sessions.api(s.Context(), conn, by, func() error { return a.AllowOperator(by) }, func(ctx context.Context) (func(), bool) {
		return a.sessions.apiLarge.enter(ctx, by, maxAPILarge)
	})
	if err != nil {
		a.log.Debug("an operator's request was not served", "operator", by, "err", err)
		s.Abort() // behind the answer come bytes of HTTP: there is no place for words
	}
	return nil
}
