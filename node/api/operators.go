package api

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Operators is a second door of the API, beside the socket: for operators who come over the network with their key alone. It
// opens nothing itself: whoever has proved the key at the other end of a connection hands it in. Pass it to Serve once.
type Operators struct {
	came   chan *knownConn
	gone   chan struct{} // closed with the door
	shut   sync.Once
	places chan struct{}
}

// Operator is who is at the other end of a connection.
type Operator struct {
	Key fleet.ID // of the operator's signing key, as it was proved
	// Stands reports why the key is no operator's any more. It is asked at every request, for connections outlive requests.
	Stands func() error
	// Large waits until this operator may be given one more answer that takes the memory of a whole list; leave gives the
	// place back. It reports false when ctx ended before.
	Large func(ctx context.Context) (leave func(), ok bool)
}

// NewOperators makes a door.
func NewOperators() *Operators {
	return &Operators{came: make(chan *knownConn), gone: make(chan struct{}), places: make(chan struct{}, maxOperatorConnections)}
}

// Admit serves the API on conn, until the caller hangs up or ctx or the door ends, and closes it. An error means that nothing
// was served, and conn is not closed.
func (d *Operators) Admit(ctx context.Context, conn net.Conn, who Operator) error {
	select {
	case d.places <- struct{}{}:
		defer func() { <-d.places }()
	default:
		return fleet.Errorf(fleet.Exhausted, "%d requests of operators are open here, the most", maxOperatorConnections).Hinted("ask another host, or again in a moment")
	}
	closed := make(chan struct{})
	c := &knownConn{
		Conn: pacedConn{conn}, caller: caller{operator: &who},
		close: sync.OnceValue(func() error {
			defer close(closed)
			return conn.Close()
		}),
	}
	select {
	case d.came <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.gone:
		return fleet.Errorf(fleet.Unavailable, "the agent is stopping")
	}
	select {
	case <-closed:
	case <-ctx.Done():
		c.Close()
	}
	return nil
}

// Accept returns the next connection.
func (d *Operators) Accept() (net.Conn, error) {
	select {
	case c := <-d.came:
		return c, nil
	case <-d.gone:
		return nil, net.ErrClosed
	}
}

// Close shuts the door. Who is inside stays until Serve ends.
func (d *Operators) Close() error {
	d.shut.Do(func() { close(d.gone) })
	return nil
}

// Addr names the door.
func (d *Operators) Addr() net.Addr { return operatorsAddr{} }

type operatorsAddr struct{}

func (operatorsAddr) Network() string { return "muster" }
func (operatorsAddr) String() string  { return "operators" }

// pacedConn gives up an answer of which nothing is taken for a while: what it holds in memory is this host's.
type pacedConn struct{ net.Conn }

// Write writes all of p, in pieces that each have lineTime.
func (c pacedConn) Write(p []byte) (n int, err error) {
	for first := true; first || len(p) > 0; first = false {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(lineTime)); err != nil {
			return n, err
		}
		size := min(len(p), operatorPiece)
		wrote, err := c.Conn.Write(p[:size])
		n, p = n+wrote, p[size:]
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
