package agent

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// listens opens a session as somebody for which the host listens.
func (l *lobby) listens(by auth.Signer, at ...string) (*wireEnd, node.SessionOpened, error) {
	l.t.Helper()
	s := l.asks(auth.SessionForward)
	s.Forward, s.Listen = nil, at
	near, answer, err := l.says(by.ID(), node.SessionOpen, l.signed(by, auth.ForSession, s))
	if err != nil {
		return near, node.SessionOpened{}, err
	}
	return near, decoded[node.SessionOpened](l.t, answer), nil
}

// accepts waits for a connection, as ada.
func (l *lobby) accepts(id fleet.UUID, n uint16) (*wireEnd, string, error) {
	l.t.Helper()
	near, answer, err := l.says(l.Operator.ID(), node.SessionAccept, node.EncodeSession(node.SessionAccepting{ID: id, N: n}))
	if err != nil {
		return near, "", err
	}
	return near, decoded[node.SessionAccepted](l.t, answer).From, nil
}

func TestConnectionsComeInWhereTheHostListens(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		hold, opened, err := l.listens(l.Operator, "127.0.0.1:8080", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(opened.Listening, " "); got != "127.0.0.1:8080 127.0.0.1:40001" {
			t.Fatalf("listens at %s", got)
		}
		if s, _ := l.session(opened.ID); len(s.Listening) != 2 || s.Text() != "←127.0.0.1:8080 ←127.0.0.1:40001" {
			t.Errorf("%+v", s)
		}
		client := l.far.connects("127.0.0.1:40001") // before anybody waits for it
		s, from, err := l.accepts(opened.ID, 1)
		if err != nil || from != "10.0.0.5:5432" {
			t.Fatal(from, err)
		}
		go func() { _, _ = client.Write([]byte("GET")) }()
		s.talk(t, "", "GET")
		go func() { _, _ = s.Write([]byte("200 OK")) }()
		client.talk(t, "", "200 OK")
		_ = client.CloseWrite() // each direction ends by itself
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("an end that was said is heard as %v", err)
		}
		go func() { _, _ = s.Write([]byte("and more")) }()
		more := make([]byte, 8)
		if _, err := io.ReadFull(client, more); err != nil || string(more) != "and more" {
			t.Fatalf("%q %v", more, err)
		}
		_ = s.CloseWrite()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("an end that was said is heard as %v", err)
		}
		synctest.Wait()
		state, _ := l.session(opened.ID)
		if len(state.Recent) != 1 || state.Dials != 1 || state.In != 14 || state.Out != 3 {
			t.Fatalf("%+v", state)
		}
		c := state.Recent[0]
		if c.To != "127.0.0.1:40001" || c.From != "10.0.0.5:5432" || c.In != 14 || c.Out != 3 || c.Why != "" || c.Ended < c.Began || len(l.shell.connections()) != 1 {
			t.Errorf("%+v", c)
		}
		hold.Close()
	})
}

// Who waits for a connection and goes away takes none with him, and who comes later gets the one that came meanwhile.
func TestNoConnectionIsLostToWhoLeft(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		_, opened, err := l.listens(l.Operator, "127.0.0.1:8080")
		if err != nil {
			t.Fatal(err)
		}
		left, right := newWire(l.Operator.ID())
		go l.ServeSession(right)
		if err := left.WriteFrame(node.SessionAccept, node.EncodeSession(node.SessionAccepting{ID: opened.ID})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		deaf, right := newWire(l.Operator.ID())
		go l.ServeSession(right)
		if err := deaf.WriteFrame(node.SessionAccept, node.EncodeSession(node.SessionAccepting{ID: opened.ID})); err != nil {
			t.Fatal(err)
		}
		_ = left.Close()
		_ = deaf.r.Close() // it hears nothing, and nobody has noticed yet
		synctest.Wait()
		client := l.far.connects("127.0.0.1:8080")
		synctest.Wait()
		s, _, err := l.accepts(opened.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = client.Write([]byte("hello")) }()
		s.talk(t, "", "hello")
		if state, _ := l.session(opened.ID); state.Dials != 1 {
			t.Errorf("%d connections are counted", state.Dials)
		}
	})
}

// Nothing listens behind the end of a session, whatever ended it, and whoever is connected sees a failure.
func TestNothingListensBehindTheEnd(t *testing.T) {
	for name, end := range map[string]struct {
		by  func(l *lobby, hold *wireEnd, id fleet.UUID)
		why string
	}{
		"killed":           {func(l *lobby, _ *wireEnd, id fleet.UUID) { _, _ = l.kills(l.Operator, id, "enough") }, "ended by ada: enough"},
		"its time is over": {func(*lobby, *wireEnd, fleet.UUID) { time.Sleep(auth.DefaultSessionMost + time.Second) }, "its time is over"},
		"the agent stops":  {func(l *lobby, _ *wireEnd, _ fleet.UUID) { l.sessions.tunnels.close(time.Now()) }, "the agent stopped"},
		"policy says no": {func(l *lobby, _ *wireEnd, _ fleet.UUID) {
			l.SetPolicy(`permit (principal, action == Action::"session", resource) when { context.kind == "forward" };`)
			l.learn()
			l.endFallen(l.record())
		}, "policy"},
		"its operator left": {func(l *lobby, hold *wireEnd, _ fleet.UUID) { l.closeAll(); time.Sleep(node.PlainGrace + time.Second) }, "nobody was connected"},
	} {
		inLobby(t, func(t *testing.T, l *lobby) {
			hold, opened, err := l.listens(l.Operator, "127.0.0.1:8080")
			if err != nil {
				t.Fatal(err)
			}
			client := l.far.connects("127.0.0.1:8080")
			s, _, err := l.accepts(opened.ID, 0)
			if err != nil {
				t.Fatal(err)
			}
			waiting := l.far.connects("127.0.0.1:8080") // nobody waits for it
			synctest.Wait()
			if name == "its operator left" {
				client.Close()
			}
			end.by(l, hold, opened.ID)
			synctest.Wait()
			if l.far.connects("127.0.0.1:8080") != nil {
				t.Errorf("%s: it listens", name)
			}
			for who, c := range map[string]*wireEnd{"who was connected": client.wireEnd, "who waited to be": waiting.wireEnd} {
				if _, err := c.Read(make([]byte, 1)); name != "its operator left" && err != errAborted || err == nil {
					t.Errorf("%s: %s hears %v", name, who, err)
				}
			}
			if state, ok := l.session(opened.ID); !ok || state.Ended == 0 || !strings.Contains(state.Why, end.why) || state.Listening != nil {
				t.Errorf("%s: %+v", name, state)
			}
			if all := l.shell.connections(); len(all) != 1 || all[0].Why == "" && name != "its operator left" {
				t.Errorf("%s: recorded are %+v", name, all)
			}
			_, _, err = l.accepts(opened.ID, 0)
			if err == nil {
				t.Errorf("%s: it gives connections", name)
			}
			s.Close()
		})
	}
}

func (l *lobby) closeAll() {
	for _, s := range l.all {
		s.Close()
	}
}

func TestWhoMayNotListen(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.SetPolicy(lobbyPolicy + `
			@id("dials") permit (principal in Team::"web", action == Action::"session", resource) when { context.kind == "forward" };
			@id("loop") permit (principal in Team::"web", action == Action::"session", resource) when { context.kind == "listen" && context.listen like "127.0.0.1:8*" };`)
		l.learn()
		for at, c := range map[string]struct {
			kind fleet.Kind
			says string
		}{
			"127.0.0.1:8081":      {0, ""},
			"127.0.0.1:80":        {fleet.Denied, "no rule permits"}, // root's
			"0.0.0.0:8081":        {fleet.Denied, "no rule permits"},
			"10.0.0.5:8081":       {fleet.Denied, "no rule permits"},
			"[::]:8081":           {fleet.Denied, "no rule permits"},
			"127.0.0.1:9000":      {fleet.Denied, "no rule permits"},
			"127.0.0.1:0":         {fleet.Denied, "no rule permits"},
			"localhost:8081":      {fleet.Invalid, "can listen at"},
			"127.1:8081":          {fleet.Invalid, "can listen at"},
			"/run/x.sock":         {fleet.Invalid, "can listen at"},
			"127.0.0.1:08081":     {fleet.Invalid, "canonical"},
			"[::ffff:7f00:1]:808": {fleet.Invalid, "canonical"},
			"127.0.0.1:99999":     {fleet.Invalid, "can listen at"},
			"224.0.0.1:8081":      {fleet.Invalid, "can listen at"},
			"[fe80::1%eth0]:8081": {fleet.Invalid, "can listen at"},
		} {
			_, _, err := l.listens(l.bob, at)
			if c.says == "" {
				if err != nil {
					t.Errorf("%s: %v", at, err)
				}
				continue
			}
			wantKind(t, err, c.kind, c.says)
			if len(l.far.ports) > 1 {
				t.Fatalf("%s: something listens", at)
			}
		}
		_, _, err := l.listens(l.Operator, "127.0.0.1:9000", "127.0.0.1:8081") // all, or none
		wantKind(t, err, fleet.Conflict, "of bob listens at 127.0.0.1:8081 already")
		if len(l.far.ports) != 1 {
			t.Error("half of a session listens")
		}
		l.far.err = syscall.EACCES
		_, _, err = l.listens(l.Operator, "127.0.0.1:9000")
		wantKind(t, err, fleet.Denied, "may not listen")
		l.far.err = syscall.EADDRNOTAVAIL
		_, _, err = l.listens(l.Operator, "192.0.2.1:9000")
		wantKind(t, err, fleet.Invalid, "no address of node-0")
		l.far.err = nil

		_, opened, err := l.listens(l.Operator, "127.0.0.1:9000")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = l.says(l.bob.ID(), node.SessionAccept, node.EncodeSession(node.SessionAccepting{ID: opened.ID}))
		wantKind(t, err, fleet.NotFound, "no session")
		_, _, err = l.accepts(opened.ID, 1)
		wantKind(t, err, fleet.Denied, "not at one with number 1")
		_, id := l.open(auth.SessionExec)
		_, _, err = l.accepts(id, 0)
		wantKind(t, err, fleet.Denied, "listens at 0 places")
	})
}

// After a stop of the agent its operator's end finds nothing, and opens another; what somebody ended stays ended.
func TestWhatATunnelLeavesForTheNextAgent(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		killed, gone := l.aTunnel(t), l.aTunnel(t)
		if _, err := l.kills(l.Operator, killed, "enough"); err != nil {
			t.Fatal(err)
		}
		l.sessions.tunnels.close(time.Now())
		synctest.Wait()
		l.sessions.tunnels.closed = false // the next agent, on the same disk
		_, _, err := l.attach(l.Operator.ID(), gone, 0)
		wantKind(t, err, fleet.NotFound, "no session")
		_, err = l.dials(gone, "10.0.0.5:5432")
		wantKind(t, err, fleet.NotFound, "no session")
		_, _, err = l.attach(l.Operator.ID(), killed, 0)
		wantKind(t, err, fleet.Expired, "enough")
		_, err = l.dials(killed, "10.0.0.5:5432")
		wantKind(t, err, fleet.Expired, "enough")
	})
}

func (l *lobby) aTunnel(t *testing.T) fleet.UUID {
	t.Helper()
	_, id := l.open(auth.SessionForward)
	return id
}
