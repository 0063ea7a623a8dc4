package api

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// elsewhere is an operator at the other end of a pipe, whose key stands until it is removed.
type elsewhere struct {
	door    *Operators
	removed atomic.Bool
	large   atomic.Int64 // lists that are written now
	most    atomic.Int64
}

func (e *elsewhere) who() Operator {
	return Operator{
		Key: id("ann"),
		Stands: func() error {
			if e.removed.Load() {
				return fleet.Errorf(fleet.Denied, "operator ann was removed from the charter")
			}
			return nil
		},
		Large: func(context.Context) (func(), bool) {
			e.most.Store(max(e.most.Load(), e.large.Add(1)))
			return func() { e.large.Add(-1) }, true
		},
	}
}

func (e *elsewhere) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		if e.door.Admit(context.WithoutCancel(ctx), far, e.who()) != nil {
			far.Close()
		}
	}()
	return near, nil
}

func fromElsewhere(t *testing.T, b Backend) (*elsewhere, *Client) {
	t.Helper()
	e := &elsewhere{door: NewOperators()}
	serveWith(t, b, Options{Version: "1.2.3", Operators: e.door})
	c := Over("web01", e.dial)
	t.Cleanup(c.Close)
	return e, c
}

// TestOperatorsReach: an operator elsewhere may what an account that looks at the fleet may, and acts as nobody of this host.
func TestOperatorsReach(t *testing.T) {
	t.Parallel()
	_, c := fromElsewhere(t, &stub{nodes: []Node{{Member: aMember("web01"), Seq: 3}}})
	ctx := t.Context()
	if nodes, err := c.Nodes(ctx); err != nil || len(nodes) != 1 || nodes[0].Name != "web01" {
		t.Error(nodes, err)
	}
	for what, ask := range map[string]func() error{
		"leave":               func() error { return c.Leave(ctx) },
		"sessions":            func() error { _, err := c.Sessions(ctx); return err },
		"a secret as host":    func() error { _, err := c.OpenParam(ctx, node.SecretRef{Name: "/a"}); return err },
		"parameters as host":  func() error { _, err := c.ReadParams(ctx, asks("a")); return err },
		"news as host":        func() error { return c.WatchParams(ctx, ParamsWatch{}, func(ParamsNews) error { return nil }) },
		"parameters by lane":  func() error { return unsignedByLane(t, c) },
		"what there is not":   func() error { return c.get(ctx, "/v2/status", &struct{}{}) },
		"a path it cannot be": func() error { return c.get(ctx, "/v1/record?from=x", &struct{}{}) },
	} {
		err := ask()
		want := fleet.Denied
		switch what {
		case "what there is not":
			want = fleet.NotFound
		case "a path it cannot be":
			want = fleet.Invalid
		}
		if fleet.KindOf(err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func unsignedByLane(t *testing.T, c *Client) error {
	lane, err := c.Lane(t.Context())
	if err != nil {
		return nil // it must be let in
	}
	defer lane.Close()
	_, err = lane.ReadParams(t.Context(), asks("a"))
	return err
}

// TestOperatorsAreAskedAbout: a connection outlives what its operator may.
func TestOperatorsAreAskedAbout(t *testing.T) {
	t.Parallel()
	e, c := fromElsewhere(t, &stub{})
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.removed.Store(true)
	if _, err := c.Version(t.Context()); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "removed") {
		t.Error(err)
	}
}

// TestOperatorsBounds: the door takes so many, and leaves the socket alone; who is let in and goes gives the place back.
func TestOperatorsBounds(t *testing.T) {
	t.Parallel()
	e, c := fromElsewhere(t, &stub{})
	for range maxOperatorConnections {
		e.door.places <- struct{}{}
	}
	_, far := net.Pipe()
	if err := e.door.Admit(t.Context(), far, e.who()); fleet.KindOf(err) != fleet.Exhausted {
		t.Error(err)
	}
	for range maxOperatorConnections {
		<-e.door.places
	}
	if _, err := c.Version(t.Context()); err != nil || len(e.door.places) != 1 {
		t.Error(err, len(e.door.places))
	}
	c.Close()
	for deadline := time.Now().Add(5 * time.Second); len(e.door.places) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("a place was not given back")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Nodes(t.Context()); err != nil || e.most.Load() != 1 || e.large.Load() != 0 {
		t.Error(err, e.most.Load(), e.large.Load())
	}
}

// TestOperatorsDoorShut: nobody waits at a door that is shut.
func TestOperatorsDoorShut(t *testing.T) {
	t.Parallel()
	e := &elsewhere{door: NewOperators()}
	_, far := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.door.Admit(ctx, far, e.who()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	e.door.Close()
	e.door.Close()
	if err := e.door.Admit(t.Context(), far, e.who()); fleet.KindOf(err) != fleet.Unavailable {
		t.Error(err)
	}
	if _, err := e.door.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// slowConn takes what is written by half, and then nothing before its deadline.
type slowConn struct {
	net.Conn
	pieces    []int
	deadlines int
	full      int
}

func (c *slowConn) SetWriteDeadline(time.Time) error { c.deadlines++; return nil }
func (c *slowConn) Write(p []byte) (int, error) {
	if len(c.pieces) == c.full {
		return len(p) / 2, os.ErrDeadlineExceeded
	}
	c.pieces = append(c.pieces, len(p))
	return len(p), nil
}

// TestPaced: what is written goes out in pieces that each have their time.
func TestPaced(t *testing.T) {
	t.Parallel()
	const size = 3*operatorPiece + 7
	whole := &slowConn{full: 10}
	if n, err := (pacedConn{whole}).Write(make([]byte, size)); n != size || err != nil || whole.deadlines != 4 || whole.pieces[3] != 7 {
		t.Error(n, err, whole)
	}
	stuck := &slowConn{full: 1}
	if n, err := (pacedConn{stuck}).Write(make([]byte, size)); n != operatorPiece+operatorPiece/2 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(n, err, stuck)
	}
	if n, err := (pacedConn{&slowConn{full: 1}}).Write(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// TestOverWords: what the way says is what people hear.
func TestOverWords(t *testing.T) {
	t.Parallel()
	said := fleet.Errorf(fleet.Denied, "no operator").Hinted("ask")
	for _, c := range []struct {
		err  error
		kind fleet.Kind
		what string
	}{
		{said, fleet.Denied, "no operator"},
		{io.ErrUnexpectedEOF, fleet.Unavailable, "the agent at web01"},
	} {
		client := Over("web01", func(context.Context) (net.Conn, error) { return nil, c.err })
		_, err := client.Version(t.Context())
		if fleet.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.what) {
			t.Error(err)
		}
		if _, err = client.Lane(t.Context()); fleet.KindOf(err) != c.kind {
			t.Error(err)
		}
	}
}

// TestNeeds: which paths an operator elsewhere is let in to.
func TestNeeds(t *testing.T) {
	t.Parallel()
	e := &elsewhere{}
	who := e.who()
	for n, want := range map[need]bool{anyone: true, member: true, owner: false} {
		err := caller{operator: &who}.admit(n, 0, func() (uint32, bool) { return 0, true })
		if (err == nil) != want {
			t.Errorf("need %d: %v", n, err)
		}
	}
}
