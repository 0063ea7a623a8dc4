package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestASessionIsOpenedAndItsBytesPass(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		s, id := l.open(auth.SessionExec)
		s.talk(t, "hello", "HELLO")
		long := strings.Repeat("abcdefgh", 40<<10)
		go func() { _, _ = s.Write([]byte(long)) }()
		got := make([]byte, len(long))
		if _, err := io.ReadFull(s, got); err != nil || string(got) != strings.ToUpper(long) {
			t.Fatalf("320 KiB come back wrong: %v", err)
		}
		o := l.shell.orders[0]
		if o.ID != id || o.By != l.Operator.ID() || o.Operator != "ada" || o.From != "10.9.9.9:40000" || o.User != node.DefaultSessionUser || o.Argv[0] != "cat" {
			t.Errorf("%+v", o)
		}
		if said := l.notes.of(id); !strings.Contains(said, "policy ada may have a session of kind exec as muster-user: cat - here, by policy0") || !strings.Contains(said, "opened from 10.9.9.9") {
			t.Errorf("decided:\n%s", said)
		}
		s.Close()
		synctest.Wait() // the way to the supervisor is let go of, or the bubble does not end
	})
}

func TestWhoMayNotOpenASession(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		ada, bob := l.Operator, l.bob
		twice := l.signed(ada, auth.ForSession, l.asks(auth.SessionExec))
		if _, _, err := l.says(ada.ID(), node.SessionOpen, twice); err != nil {
			t.Fatal(err)
		}
		elsewhere := l.asks(auth.SessionExec)
		elsewhere.Node = l.bob.ID()
		late := l.asks(auth.SessionExec)
		late.Header.Issued -= time.Hour.Milliseconds()
		late.Header.Expires -= time.Hour.Milliseconds()
		forged := ada.Sign(auth.ForSession, l.ID(), l.asks(auth.SessionExec))
		forged.Signature[3]++
		for name, c := range map[string]struct {
			by   fleet.ID
			body []byte
			kind fleet.Kind
			says string
		}{
			"one opened before":          {ada.ID(), twice, fleet.Conflict, "opened before"},
			"another's, on my line":      {bob.ID(), l.signed(ada, auth.ForSession, l.asks(auth.SessionExec)), fleet.Denied, "connection is that of key"},
			"for another node":           {ada.ID(), l.signed(ada, auth.ForSession, elsewhere), fleet.Denied, "another node"},
			"expired":                    {ada.ID(), l.signed(ada, auth.ForSession, late), fleet.Expired, ""},
			"forged":                     {ada.ID(), node.EncodeSession(forged), fleet.Denied, ""},
			"signed for something else":  {ada.ID(), l.signed(ada, auth.ForCommand, l.asks(auth.SessionExec)), fleet.Denied, ""},
			"no rule for it":             {bob.ID(), l.signed(bob, auth.ForSession, l.asks(auth.SessionExec)), fleet.Denied, "bob"},
			"no statement":               {ada.ID(), []byte{0xc0}, fleet.Invalid, ""},
			"a statement beyond measure": {ada.ID(), make([]byte, 300<<10), fleet.Exhausted, ""},
		} {
			_, _, err := l.says(c.by, node.SessionOpen, c.body)
			if err == nil || fleet.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v (%s)", name, err, fleet.KindOf(err))
			}
		}
		if n := len(l.shell.orders); n != 1 {
			t.Errorf("%d sessions were opened", n)
		}
		if n := len(l.notes.all); n != 1 {
			t.Errorf("decisions were noted under %d IDs: whoever is refused writes into what others see", n)
		}
		if _, _, err := l.says(bob.ID(), node.SessionOpen, l.signed(bob, auth.ForSession, l.asks(auth.SessionShell))); err != nil {
			t.Errorf("a shell that a rule permits: %v", err)
		}
		if _, _, err := l.says(ada.ID(), 0x33, nil); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("a frame that means nothing: %v", err)
		}
	})
}

// TestLimitsHoldBesideEachOther opens many at once: none passes between the counting and the opening.
func TestLimitsHoldBesideEachOther(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.shell.slow = time.Second
		type outcome struct {
			s   *wireEnd
			err error
		}
		const tries = node.MaxOperatorSessions + 40
		done := make(chan outcome, tries)
		for range tries {
			body := l.signed(l.Operator, auth.ForSession, l.asks(auth.SessionExec))
			go func() {
				near, far := newWire(l.Operator.ID())
				go l.ServeSession(far)
				_ = near.WriteFrame(node.SessionOpen, body)
				_, _, err := near.ReadFrame()
				done <- outcome{near, err}
			}()
		}
		opened := 0
		for range tries {
			o := <-done
			if o.err == nil {
				opened++
			} else if fleet.KindOf(o.err) != fleet.Exhausted {
				t.Error(o.err)
			}
			o.s.Close()
		}
		if opened != node.MaxOperatorSessions {
			t.Errorf("%d sessions of one operator", opened)
		}
		if _, _, err := l.says(l.bob.ID(), node.SessionOpen, l.signed(l.bob, auth.ForSession, l.asks(auth.SessionShell))); err != nil {
			t.Errorf("another operator has no place: %v", err)
		}
	})
}

func TestASessionThatDoesNotStartLeavesItsPlace(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.shell.fails = fleet.Errorf(fleet.NotFound, "no such account")
		for range node.MaxOperatorSessions + 1 {
			_, _, err := l.says(l.Operator.ID(), node.SessionOpen, l.signed(l.Operator, auth.ForSession, l.asks(auth.SessionExec)))
			wantKind(t, err, fleet.NotFound, "no such account")
		}
		if len(l.Agent.sessions.opening) != 0 {
			t.Error("places are kept for nobody")
		}
	})
}

func TestAttach(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		first, id := l.open(auth.SessionShell)
		first.talk(t, "a", "A")
		second, theirs, err := l.attach(l.Operator.ID(), id, 5)
		if err != nil || theirs != 12 || l.shell.have != 5 {
			t.Fatal(theirs, l.shell.have, err)
		}
		second.talk(t, "b", "B")
		if _, err := first.Read(make([]byte, 1)); err == nil {
			t.Error("the older attachment goes on")
		}
		_, _, err = l.attach(l.bob.ID(), id, 0)
		wantKind(t, err, fleet.NotFound, "no session")
		_, _, err = l.attach(l.Operator.ID(), l.NewID(), 0)
		wantKind(t, err, fleet.NotFound, "no session")
		_ = second.CloseWrite() // gone
		if _, err := second.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the way stays open to nobody: %v", err)
		}
	})
}

func TestKill(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		s, id := l.open(auth.SessionShell)
		_, err := l.kills(l.bob, id, "")
		wantKind(t, err, fleet.Denied, "bob")
		state, err := l.kills(l.Operator, id, "enough")
		if err != nil || state.Ended == 0 || l.shell.why(id) != "ended by ada: enough" {
			t.Fatal(state, l.shell.why(id), err)
		}
		if _, err := io.ReadAll(s); err != nil {
			t.Error(err)
		}
		_, err = l.kills(l.Operator, id, "")
		wantKind(t, err, fleet.NotFound, "")
		if !strings.Contains(l.notes.of(id), "kill ended by ada: enough") {
			t.Error(l.notes.of(id))
		}
	})
}

func TestReadingSessions(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		_, id := l.open(auth.SessionShell)
		_, tunnel := l.open(auth.SessionForward)
		_, answer, err := l.reads(l.Operator, node.ReadSessions, fleet.UUID{})
		if err != nil || len(answer.Sessions) != 2 {
			t.Fatal(answer, err)
		}
		if _, answer, err = l.reads(l.bob, node.ReadSessions, fleet.UUID{}); err != nil || len(answer.Sessions) != 0 {
			t.Errorf("bob sees sessions of others: %v %v", answer, err)
		}
		_, answer, err = l.reads(l.Operator, node.ReadSession, tunnel)
		if err != nil || answer.Sessions[0].Kind != auth.SessionForward {
			t.Fatal(answer, err)
		}
		l.shell.mu.Lock()
		l.shell.recorded = strings.Repeat("o", 100_000)
		state := l.shell.states[id]
		state.Recording.Bytes = 100_000
		l.shell.states[id] = state
		l.shell.mu.Unlock()
		s, _, err := l.reads(l.Operator, node.ReadRecording, id)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(s); err != nil || string(raw) != l.shell.recorded {
			t.Errorf("%d bytes of a recording: %v", len(raw), err)
		}
		l.shell.recordingFails = errors.New("the disk is gone")
		if s, _, err = l.reads(l.Operator, node.ReadRecording, id); err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(s); !errors.Is(err, errAborted) {
			t.Errorf("%d bytes of a recording that breaks off pass for all of it: %v", len(raw), err)
		}
		_, _, err = l.reads(l.bob, node.ReadRecording, id)
		wantKind(t, err, fleet.NotFound, "no session")
		_, _, err = l.reads(l.Operator, node.ReadRecording, tunnel)
		wantKind(t, err, fleet.NotFound, "no recording")
		if got := l.Sessions(); len(got) != 2 {
			t.Error(got)
		}
	})
}

func TestATunnelCarriesBothWaysAndEachEnds(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		hold, id := l.open(auth.SessionForward)
		s, err := l.dials(id, "10.0.0.5:5432")
		if err != nil {
			t.Fatal(err)
		}
		far := l.far.last()
		s.talkTo(t, far, "question")
		_ = s.CloseWrite()
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the end of what was said does not arrive: %v", err)
		}
		far.talkTo(t, s, "a long answer")
		_ = far.Close()
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the end of the answer does not arrive: %v", err)
		}
		synctest.Wait()
		state, _ := l.session(id)
		if state.In != 8 || state.Out != 13 || !state.Attached || state.Ended != 0 {
			t.Errorf("%+v", state)
		}
		if said := l.notes.of(id); !strings.Contains(said, "connection 10.0.0.5:5432, ") || !strings.Contains(said, "8 bytes in, 13 out") {
			t.Error(said)
		}
		if s, err = l.dials(id, "10.0.0.5:5432"); err != nil { // the far end says all first
			t.Fatal(err)
		}
		far = l.far.last()
		_ = far.CloseWrite()
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("%v", err)
		}
		s.talkTo(t, far, "still here")
		_ = s.CloseWrite()
		_, err = l.dials(id, "10.0.0.5:22")
		wantKind(t, err, fleet.Denied, "may connect to 10.0.0.5:5432 only")
		if slices.Contains(l.far.asked, "10.0.0.5:22") {
			t.Error("it was tried all the same")
		}
		hold.Close()
	})
}

// talkTo says something at one end that must be heard at another.
func (e *wireEnd) talkTo(t *testing.T, far io.Reader, text string) {
	t.Helper()
	go func() { _, _ = e.Write([]byte(text)) }()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestABrokenTunnelIsNoOrderlyEnd: nobody may take half of a file for all of it.
func TestABrokenTunnelIsNoOrderlyEnd(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		_, id := l.open(auth.SessionForward)
		dial := func() (*wireEnd, *tcpEnd) {
			s, err := l.dials(id, "10.0.0.5:5432")
			if err != nil {
				t.Fatal(err)
			}
			far := l.far.last()
			s.talkTo(t, far, "half of ")
			return s, far
		}
		s, far := dial()
		s.Abort()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, errAborted) {
			t.Errorf("the operator broke off, and the far end hears %v", err)
		}
		s, far = dial()
		far.Abort()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, errAborted) {
			t.Errorf("the far end broke off, and the operator hears %v", err)
		}
		s, far = dial()
		s.Close() // reads no more, either, and the far end says nothing
		if _, err := io.ReadAll(far); err != nil && !errors.Is(err, errAborted) {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := far.Write([]byte("x")); err == nil {
			t.Error("a connection is kept that nobody reads")
		}
		s, far = dial()
		if _, err := l.kills(l.Operator, id, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, errAborted) {
			t.Errorf("killed, the operator hears %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, errAborted) {
			t.Errorf("killed, the far end hears %v", err)
		}
	})
}

func TestWhatIsSaidOfAConnectionThatFails(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 5432}
	for _, c := range []struct {
		err  error
		says string
	}{
		{&net.OpError{Op: "dial", Addr: addr, Err: syscall.ECONNREFUSED}, "connection refused by 10.0.0.5:5432"},
		{&net.OpError{Op: "dial", Addr: addr, Err: context.DeadlineExceeded}, "no answer from 10.0.0.5:5432 within 10s"},
		{&net.OpError{Op: "dial", Addr: addr, Err: syscall.EHOSTUNREACH}, "no connection to 10.0.0.5:5432: no route to host"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "db", IsNotFound: true}}, "no such host: db"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "db", Err: "server misbehaving"}}, "db could not be looked up on the node: server misbehaving"},
		{context.DeadlineExceeded, "no answer from db:5432 within 10s"},
		{errors.New("odd"), "no connection to db:5432: odd"},
	} {
		wantKind(t, notConnected("db:5432", c.err), fleet.Unavailable, c.says)
	}
	inLobby(t, func(t *testing.T, l *lobby) {
		_, id := l.open(auth.SessionForward)
		l.far.err = &net.OpError{Op: "dial", Addr: addr, Err: syscall.ECONNREFUSED}
		_, err := l.dials(id, "10.0.0.5:5432")
		wantKind(t, err, fleet.Unavailable, "connection refused by 10.0.0.5:5432")
		if !strings.Contains(l.notes.of(id), "connection refused") {
			t.Error(l.notes.of(id))
		}
	})
}

func TestHowATunnelEnds(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		hold, id := l.open(auth.SessionForward)
		time.Sleep(10 * node.PlainGrace)
		if s, _ := l.session(id); s.Ended != 0 || !s.Attached {
			t.Fatal("it ended before its operator's eyes")
		}
		hold.Close()
		synctest.Wait()
		time.Sleep(node.PlainGrace - time.Second)
		again, _, err := l.attach(l.Operator.ID(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if s, _ := l.session(id); s.Ended != 0 {
			t.Fatal("whoever comes back within the grace finds nothing")
		}
		_, _, err = l.attach(l.bob.ID(), id, 0)
		wantKind(t, err, fleet.NotFound, "no session")
		again.Close()
		synctest.Wait()
		time.Sleep(node.PlainGrace + time.Second)
		if s, _ := l.session(id); s.Ended == 0 || s.Why != "nobody was connected for 1m0s" {
			t.Fatalf("%+v", s)
		}
		_, err = l.dials(id, "10.0.0.5:5432")
		wantKind(t, err, fleet.NotFound, "no session") // another is opened then
		if !strings.Contains(l.notes.of(id), "end exit code -1: nobody was connected") {
			t.Error(l.notes.of(id))
		}

		hold, id = l.open(auth.SessionForward)
		if _, err := l.kills(l.Operator, id, "enough"); err != nil {
			t.Fatal(err)
		}
		_, _, err = hold.ReadFrame()
		wantKind(t, err, fleet.Expired, "has ended: ended by ada: enough")
		_, err = l.dials(id, "10.0.0.5:5432")
		wantKind(t, err, fleet.Expired, "has ended: ended by ada: enough")

		hold, _ = l.open(auth.SessionForward)
		time.Sleep(auth.DefaultSessionMost + time.Second)
		_, _, err = hold.ReadFrame()
		wantKind(t, err, fleet.Expired, "its time is over")
	})
}

func TestConnectionsOfATunnelAreBounded(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		_, id := l.open(auth.SessionForward)
		var open []*wireEnd
		for n := range maxTunnelDials {
			s, err := l.dials(id, "10.0.0.5:5432")
			if err != nil {
				t.Fatal(n, err)
			}
			open = append(open, s)
		}
		_, err := l.dials(id, "10.0.0.5:5432")
		wantKind(t, err, fleet.Exhausted, fmt.Sprintf("%d connections", maxTunnelDials))
		open[7].Close()
		l.far.conns[7].Close()
		synctest.Wait()
		if _, err := l.dials(id, "10.0.0.5:5432"); err != nil {
			t.Errorf("a place that was given back is lost: %v", err)
		}
	})
}

// TestWhoIsRemovedLosesSessions: neither a grace nor a connection that stands outlives a removal from the charter.
func TestWhoIsRemovedLosesSessions(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go l.watchSessions(ctx)
		synctest.Wait() // it has seen the charter
		_, kept := l.open(auth.SessionShell)
		_, answer, err := l.says(l.bob.ID(), node.SessionOpen, l.signed(l.bob, auth.ForSession, l.asks(auth.SessionShell)))
		if err != nil {
			t.Fatal(err)
		}
		id := decoded[node.SessionOpened](t, answer).ID
		l.MustTake(l.DeleteOperator("bob", l.bob, false))
		l.learn()
		synctest.Wait()
		if why := l.shell.why(id); !strings.Contains(why, "removed from the charter") {
			t.Errorf("bob's session goes on: %q", why)
		}
		time.Sleep(lastWords)
		synctest.Wait()
		if !l.peers.has(l.bob.ID()) || l.peers.has(l.Operator.ID()) {
			t.Error("whose connections were ended?", l.peers.dropped)
		}
		if l.shell.why(kept) != "" {
			t.Error("ada's session was ended, too")
		}
		wantKind(t, l.AllowOperator(l.bob.ID()), fleet.Denied, "removed")
	})
}

// TestAKeyThatExpiresEndsItsSessions, without anybody doing anything.
func TestAKeyThatExpiresEndsItsSessions(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		cy, p := l.NewOperator("cy", time.Hour, "web")
		l.MustTake(p)
		l.learn()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go l.watchSessions(ctx)
		synctest.Wait() // it has seen the charter
		_, answer, err := l.says(cy.ID(), node.SessionOpen, l.signed(cy, auth.ForSession, l.asks(auth.SessionShell)))
		if err != nil {
			t.Fatal(err)
		}
		id := decoded[node.SessionOpened](t, answer).ID
		time.Sleep(time.Hour - time.Minute)
		if l.shell.why(id) != "" {
			t.Fatal("it ended early")
		}
		time.Sleep(2*time.Minute + time.Second)
		if why := l.shell.why(id); !strings.Contains(why, "expired") {
			t.Errorf("it goes on: %q", why)
		}
	})
}

// TestWhoSignedUnderANewerRecordWaitsForIt: an operator who was approved a moment ago is let in by a node that has not
// heard of it.
func TestWhoSignedUnderANewerRecordWaitsForIt(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.AddOperator("dee", "web")
		act := l.Fleet.Acts[len(l.Fleet.Acts)-1]
		server := fleet.Sum([]byte("server"))
		p := *l.picture.Load()
		p.beacon.Voters, p.beacon.Leader = []fleet.ID{server}, server
		l.picture.Store(&p)
		l.seen[server] = node.Sighting{ID: server, Status: fleet.Online}
		l.peers.answer = func(kind byte) (byte, []byte, error) {
			if kind != askActs {
				return 0, nil, fleet.Errorf(fleet.Invalid, "no")
			}
			return done, wire.Marshal(actsBody{Acts: []auth.Act{act}}), nil
		}
		go func() { // the loop
			if _, ok := (<-l.queue).(node.ActsFetched); ok {
				l.learn()
			}
		}()
		s := l.asks(auth.SessionExec) // names the newest head
		if _, _, err := l.says(l.Operator.ID(), node.SessionOpen, l.signed(l.Operator, auth.ForSession, s)); err != nil {
			t.Fatal(err)
		}
		// A head that nobody has is refused, in time.
		s = l.asks(auth.SessionExec)
		s.Header.Act += 100
		l.peers.answer = nil
		began := time.Now()
		_, _, err := l.says(l.Operator.ID(), node.SessionOpen, l.signed(l.Operator, auth.ForSession, s))
		wantKind(t, err, fleet.Unavailable, "signed at act")
		if waited := time.Since(began); waited > catchUpWait {
			t.Errorf("refused after %s", waited)
		}
	})
}

func TestAHostWithoutSessionsSaysSo(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.Agent.sessions.shell, l.Agent.sessions.dial = nil, nil
		for _, kind := range auth.SessionKinds {
			_, _, err := l.says(l.Operator.ID(), node.SessionOpen, l.signed(l.Operator, auth.ForSession, l.asks(kind)))
			wantKind(t, err, fleet.Unavailable, "takes no sessions of that kind")
		}
		if _, answer, err := l.reads(l.Operator, node.ReadSessions, fleet.UUID{}); err != nil || len(answer.Sessions) != 0 {
			t.Error(answer, err)
		}
	})
}

// TestWhoSaysNothingHoldsNothing: an operator without any right opens streams, and says half of something on each.
func TestWhoSaysNothingHoldsNothing(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		var open []*wireEnd
		for range 3 * maxBeginning {
			near, far := newWire(l.bob.ID())
			l.all = append(l.all, near)
			open = append(open, near)
			go l.ServeSession(far)
			go func() { _, _ = near.Write([]byte{node.SessionOpen, 0, 0, 0x10, 0, 1, 2, 3}) }()
		}
		synctest.Wait()
		if n := len(l.Agent.sessions.beginning.gates[l.bob.ID()].places); n != maxBeginning {
			t.Errorf("%d first frames are awaited", n)
		}
		if _, _, err := l.says(l.Operator.ID(), node.SessionOpen, l.signed(l.Operator, auth.ForSession, l.asks(auth.SessionExec))); err != nil {
			t.Errorf("others wait for it: %v", err)
		}
		for _, s := range open {
			_, _, err := s.ReadFrame()
			wantKind(t, err, fleet.Expired, "begins with a frame")
		}
		synctest.Wait()
		if n := len(l.Agent.sessions.beginning.gates); n != 0 {
			t.Errorf("%d turnstiles are left", n)
		}
		s, id := l.open(auth.SessionShell)
		time.Sleep(time.Hour) // what was said in time may be followed by silence
		s.talk(t, "a", "A")
		if _, err := l.kills(l.Operator, id, ""); err != nil {
			t.Error(err)
		}
	})
}

// TestIdleHostLetsNobodyBackIn: on a host in quarantine nobody goes on with a shell or a tunnel that was open before: nobody knows
// which of two hosts it is. It can still be killed.
func TestIdleHostLetsNobodyBackIn(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		near, id := l.open(auth.SessionShell)
		_, tunnel := l.open(auth.SessionForward)
		near.Close()
		l.cfg.Idle = "twice"
		if _, _, err := l.attach(l.Operator.ID(), id, 0); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "twice") {
			t.Errorf("a shell: %v", err)
		}
		if _, err := l.dials(tunnel, "10.0.0.5:5432"); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "twice") {
			t.Errorf("a tunnel: %v", err)
		}
		if _, _, err := l.attach(fleet.Sum([]byte("eve")), id, 0); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("a stranger: %v", err)
		}
		if _, err := l.kills(l.Operator, id, "twice"); err != nil {
			t.Error(err)
		}
	})
}
