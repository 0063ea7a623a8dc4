package agent

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// apiDesk stands for the local API: it keeps every connection until the caller hangs up.
type apiDesk struct {
	mu     sync.Mutex
	open   int
	by     []fleet.ID
	stands func() error
	large  func(context.Context) (func(), bool)
	refuse error
}

func (d *apiDesk) admit(ctx context.Context, conn net.Conn, by fleet.ID, stands func() error, large func(context.Context) (func(), bool)) error {
	d.mu.Lock()
	d.by, d.stands, d.large = append(d.by, by), stands, large
	refuse := d.refuse
	d.open++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open--
	}()
	if refuse != nil {
		return refuse
	}
	defer conn.Close()
	b := make([]byte, 1)
	for {
		if _, err := conn.Read(b); err != nil {
			return nil
		}
		if _, err := conn.Write(b); err != nil {
			return nil
		}
	}
}

// A wireEnd is a net.Conn, as the transport's streams are.
func (e *wireEnd) LocalAddr() net.Addr  { return &net.UDPAddr{} }
func (e *wireEnd) RemoteAddr() net.Addr { return &net.UDPAddr{} }
func (e *wireEnd) SetDeadline(at time.Time) error {
	_ = e.SetWriteDeadline(at)
	return e.SetReadDeadline(at)
}

func TestTheAPIIsServedToOperators(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		d := &apiDesk{}
		l.Agent.sessions.api = d.admit
		s, answer, err := l.says(l.bob.ID(), node.SessionAPI, nil)
		if err != nil || len(answer) != 0 {
			t.Fatal(answer, err)
		}
		for _, b := range []byte("GET") {
			got := make([]byte, 1)
			if _, err := s.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Read(got); err != nil || got[0] != b {
				t.Fatal(got, err)
			}
		}
		if d.by[0] != l.bob.ID() || d.stands() != nil {
			t.Error(d.by, d.stands())
		}
		l.MustTake(l.DeleteOperator("bob", l.bob, false))
		l.learn()
		if fleet.KindOf(d.stands()) != fleet.Denied {
			t.Error("a removed operator stands")
		}
		s.Close()
		synctest.Wait()
		if d.open != 0 {
			t.Error(d.open, "open")
		}
	})
}

// TestRequestsOfAnOperatorAreBounded: whoever has too many open waits, then hears so; others are not held up.
func TestRequestsOfAnOperatorAreBounded(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		d := &apiDesk{}
		l.Agent.sessions.api = d.admit
		var first *wireEnd
		for range maxAPIStreams {
			s, _, err := l.says(l.bob.ID(), node.SessionAPI, nil)
			if err != nil {
				t.Fatal(err)
			}
			first = s
		}
		if _, _, err := l.says(l.Operator.ID(), node.SessionAPI, nil); err != nil {
			t.Error("others wait for it:", err)
		}
		began := time.Now()
		_, _, err := l.says(l.bob.ID(), node.SessionAPI, nil)
		wantKind(t, err, fleet.Exhausted, "requests open")
		if waited := time.Since(began); waited < apiWait || waited > 2*apiWait {
			t.Error("waited", waited)
		}
		time.AfterFunc(time.Second, func() { first.Close() })
		if _, _, err := l.says(l.bob.ID(), node.SessionAPI, nil); err != nil {
			t.Error(err)
		}
		synctest.Wait() // what answered has said who asks
		var leave []func()
		for range maxAPILarge {
			back, ok := d.large(t.Context())
			if !ok {
				t.Fatal("no room for a list")
			}
			leave = append(leave, back)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, ok := d.large(soon); ok {
			t.Error("one list too many")
		}
		for _, back := range leave {
			back()
		}
	})
}

func TestAHostThatServesNoAPISaysSo(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		_, _, err := l.says(l.bob.ID(), node.SessionAPI, nil)
		wantKind(t, err, fleet.Unavailable, "answers no requests from elsewhere")
		d := &apiDesk{refuse: fleet.Errorf(fleet.Exhausted, "full")}
		l.Agent.sessions.api = d.admit
		s, _, err := l.says(l.bob.ID(), node.SessionAPI, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("what was refused goes on")
		}
	})
}
