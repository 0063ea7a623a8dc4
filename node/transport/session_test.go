package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// visitor starts a command line of operator n at an address of its own.
func (w network) visitor(n byte, at netip.AddrPort) *Endpoint {
	w.t.Helper()
	return startNode(w.t, w.Conn(at), n, newBook(), func(c *Config) { c.DialOnly = true })
}

func port(n byte, port uint16) netip.AddrPort { return netip.AddrPortFrom(addrOf(n).Addr(), port) }

// pass writes and reads what an echo of bytes gives back.
func pass(t *testing.T, s *Stream, text string) {
	t.Helper()
	if _, err := s.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

func echoBytes(s *Stream) { _, _ = io.Copy(s, s); _ = s.Close() }

// TestOneOperatorIsManyProcesses: two shells of one person are two processes with one key, and neither ends the other.
func TestOneOperatorIsManyProcesses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		b := w.node(2, newBook())
		b.Handle(Session, echoBytes)
		var open []*Stream
		for n := range uint16(5) {
			s, err := w.visitor(1, port(1, 4000+n)).Open(t.Context(), b.ID(), Session)
			if err != nil {
				t.Fatal(err)
			}
			pass(t, s, "first")
			open = append(open, s)
		}
		time.Sleep(10 * time.Minute) // as long as their streams are open
		for _, s := range open {
			pass(t, s, "still here")
			_ = s.Close()
		}
		time.Sleep(2 * idleTimeout)
		if left := b.pool.of(idOf(1)); len(left) != 0 {
			t.Errorf("%d connections without a use are kept", len(left))
		}
	})
}

// TestNobodyDialsACommandLine, and a peer that it dialled opens no stream either.
func TestNobodyDialsACommandLine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a := w.visitor(1, addrOf(1))
		served := false
		a.Handle(Session, func(s *Stream) { served = true; _ = s.Close() })
		b := w.node(2, newBook())
		for _, plane := range alpns() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if _, err := b.Open(ctx, a.ID(), Plane(plane)); fleet.KindOf(err) != fleet.Unavailable {
				t.Errorf("%s: %v", plane, err)
			}
			cancel()
		}
		if served {
			t.Error("it was dialled")
		}
		if kind, body, err := a.Request(t.Context(), b.ID(), Session, 1, []byte("x")); err != nil || kind != 2 || string(body) != "x" {
			t.Error(kind, body, err)
		}
		_ = a.Close() // all of it ends, or the bubble does not
	})
}

// TestManyStreamsOfAnOperator opens more than one connection holds, up to what one operator may have.
func TestManyStreamsOfAnOperator(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		b := w.node(2, newBook())
		b.Handle(Session, echoBytes)
		a := w.visitor(1, addrOf(1))
		open := make([]*Stream, maxSessionStreams)
		failed := make(chan error, len(open))
		for n := range open { // all at once, as a browser does through a tunnel
			go func() {
				s, err := a.Open(t.Context(), b.ID(), Session)
				if err == nil {
					_, err = s.Write([]byte("x"))
				}
				if err == nil {
					_, err = io.ReadFull(s, make([]byte, 1))
				}
				open[n] = s
				failed <- err
			}()
		}
		for range open {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		if n, want := len(a.pool.of(b.ID())), maxSessionStreams/maxStreams; n != want {
			t.Errorf("%d connections for %d streams; %d do", n, len(open), want)
		}
		s, err := a.Open(t.Context(), b.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte("x"))
		_, err = s.Read(make([]byte, 1))
		wantError(t, err, fleet.KindOf(ended(&quic.StreamError{ErrorCode: streamBusy, Remote: true}, "")), "too many")
		_ = s.Close()

		// Another operator pays nothing for it.
		other, err := w.visitor(3, addrOf(3)).Open(t.Context(), b.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, other, "me")
		_ = other.Close()

		for _, s := range open {
			_ = s.Close()
		}
		time.Sleep(time.Minute) // the connections that one more stream needed are let go of, too
		if n := len(a.pool.of(b.ID())); n != 0 {
			t.Errorf("%d connections are kept", n)
		}
		if s, err = a.Open(t.Context(), b.ID(), Session); err != nil {
			t.Fatal(err)
		}
		pass(t, s, "again")
		_ = s.Close()
	})
}

// TestPlacesThatAreOnTheirWayBack: streams were closed a moment ago, and the node has not said that there is room again.
func TestPlacesThatAreOnTheirWayBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 20 * time.Millisecond})
		b := w.node(2, newBook())
		b.Handle(Session, echoBytes)
		a := w.visitor(1, addrOf(1))
		var open []*Stream
		for range maxStreams {
			s, err := a.Open(t.Context(), b.ID(), Session)
			if err != nil {
				t.Fatal(err)
			}
			pass(t, s, "x")
			open = append(open, s)
		}
		for _, s := range open {
			_ = s.Close()
		}
		s, err := a.Open(t.Context(), b.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, s, "x")
		_ = s.Close()
	})
}

// TestAFullConnectionIsUsedAgain: streams that come and go need no connection each.
func TestAFullConnectionIsUsedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		b := w.node(2, newBook())
		b.Handle(Session, echoBytes)
		a := w.visitor(1, addrOf(1))
		for range 4 * maxStreams {
			s, err := a.Open(t.Context(), b.ID(), Session)
			if err != nil {
				t.Fatal(err)
			}
			pass(t, s, "x")
			_ = s.Close()
		}
		if n := len(a.pool.of(b.ID())); n > 2 {
			t.Errorf("%d connections for one stream at a time", n)
		}
	})
}

// TestTheConnectionsOfAnOperatorAreBounded: one more is refused, and ends none of the others.
func TestTheConnectionsOfAnOperatorAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		b := w.node(2, newBook())
		b.Handle(Session, echoBytes)
		var open []*Stream
		for n := range uint16(maxSessionLinks) {
			s, err := w.visitor(1, port(1, 4000+n)).Open(t.Context(), b.ID(), Session)
			if err != nil {
				t.Fatal(n, err)
			}
			pass(t, s, "x")
			open = append(open, s)
		}
		_, err := w.visitor(1, port(1, 5000)).Open(t.Context(), b.ID(), Session)
		wantError(t, err, fleet.Exhausted, "64 connections with one key")
		for _, s := range open {
			pass(t, s, "still here")
		}
		_ = open[0].Close()
		time.Sleep(2 * idleTimeout)
		if _, err := w.visitor(1, port(1, 5001)).Open(t.Context(), b.ID(), Session); err != nil {
			t.Errorf("a place that was given back is lost: %v", err)
		}
	})
}

// TestStreamsThatNobodyReadsTakeNothingFromOthers: a hundred streams are not read, at either end, some of which were fast
// before. One more goes on, and another can be opened.
func TestStreamsThatNobodyReadsTakeNothingFromOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond, Queue: 1 << 16})
		b := w.node(2, newBook())
		stop := make(chan struct{})
		b.Handle(Session, func(s *Stream) {
			defer s.Close()
			what := make([]byte, 1)
			if _, err := io.ReadFull(s, what); err != nil {
				return
			}
			switch what[0] {
			case 'e':
				_, _ = io.Copy(s, s)
			case 'd': // download
				_, _ = s.Write(make([]byte, 64<<20))
			case 'u': // upload, read for a while
				_, _ = io.CopyN(io.Discard, s, 24<<20)
				<-stop
			case 'n': // never read
				<-stop
			}
		})
		a := w.visitor(1, addrOf(1))
		open := func(what string) *Stream {
			s, err := a.Open(t.Context(), b.ID(), Session)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte(what)); err != nil {
				t.Fatal(err)
			}
			return s
		}
		echo := open("e")
		pass(t, echo, "first")
		var stuck []*Stream
		for range 2 {
			s := open("d")
			if _, err := io.CopyN(io.Discard, s, 24<<20); err != nil {
				t.Fatal(err)
			}
			stuck = append(stuck, s)
		}
		up := open("u")
		go func() { _, _ = up.Write(make([]byte, 64<<20)) }()
		stuck = append(stuck, up)
		time.Sleep(time.Minute)
		for range 50 {
			d, n := open("d"), open("n")
			go func() { _, _ = n.Write(make([]byte, 1<<20)) }()
			stuck = append(stuck, d, n)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		pass(t, echo, "still here")
		another := open("e")
		pass(t, another, "me too")
		if took := time.Since(began); took > time.Second {
			t.Errorf("that took %s", took)
		}
		if n := len(a.pool.of(b.ID())); n > maxSlowLinks {
			t.Errorf("%d connections", n)
		}
		close(stop)
		for _, s := range append(stuck, echo, another) {
			s.Abort()
			_ = s.Close()
		}
		_ = a.Close()
		time.Sleep(time.Minute)
		if grown := b.grown.Load(); grown != 0 {
			t.Errorf("%d bytes of the windows' budget are not given back", grown)
		}
	})
}

// TestStrangersHaveTwoStreams: the second, for first words, is not served before the hello, and whoever opens a third is put out.
func TestStrangersHaveTwoStreams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		b := w.node(2, newBook())
		b.Handle(Session, func(s *Stream) { t.Error("a stranger was served"); s.Close() })
		a := w.node(1, newBook())
		conn, err := a.transport.Dial(t.Context(), net.UDPAddrFromAddrPort(addrOf(2)), clientTLS(a.leaf, Session, b.ID()), commonQUIC())
		if err != nil {
			t.Fatal(err)
		}
		opened := func(what []byte) {
			s, err := conn.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = s.Write(what) }()
		}
		opened([]byte{0}) // of the hello
		opened(make([]byte, 1<<20))
		time.Sleep(time.Second)
		if conn.Context().Err() != nil {
			t.Fatal("first words put it out", context.Cause(conn.Context()))
		}
		began := time.Now()
		opened(make([]byte, 1<<20))
		<-conn.Context().Done()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it was put out after %s", took)
		}
		if _, ok := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context())); !ok {
			t.Error(context.Cause(conn.Context()))
		}
	})
}

// roaming is a socket that can move to another address while it is used, as a laptop does between networks.
type roaming struct {
	net *fabric.Fabric
	mu  sync.Mutex
	now net.PacketConn
	off bool
}

// move leaves the network, and comes back elsewhere after so long.
func (r *roaming) move(to netip.AddrPort, after time.Duration) {
	r.mu.Lock()
	old := r.now
	r.off = true
	r.mu.Unlock()
	_ = old.Close()
	time.Sleep(after)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.off = r.net.Conn(to), false
}

func (r *roaming) here() (net.PacketConn, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now, r.off
}

func (r *roaming) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		conn, off := r.here()
		n, from, err := conn.ReadFrom(p)
		if again, stillOff := r.here(); err == nil || again == conn && !off && !stillOff {
			return n, from, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *roaming) WriteTo(p []byte, to net.Addr) (int, error) {
	conn, _ := r.here()
	if n, err := conn.WriteTo(p, to); err == nil || !errors.Is(err, net.ErrClosed) {
		return n, err
	}
	return len(p), nil // no network: it is lost, and nobody says so
}

func (r *roaming) Close() error {
	conn, _ := r.here()
	return conn.Close()
}

func (r *roaming) LocalAddr() net.Addr { conn, _ := r.here(); return conn.LocalAddr() }
func (r *roaming) SetDeadline(t time.Time) error {
	conn, _ := r.here()
	return conn.SetDeadline(t)
}
func (r *roaming) SetReadDeadline(t time.Time) error {
	conn, _ := r.here()
	return conn.SetReadDeadline(t)
}
func (r *roaming) SetWriteDeadline(time.Time) error { return nil }
func (r *roaming) SetReadBuffer(int) error          { return nil }
func (r *roaming) SetWriteBuffer(int) error         { return nil }

// TestAStreamOutlivesAMove moves the operator to another network, twice, in the middle of streams both ways.
func TestAStreamOutlivesAMove(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 10 * time.Millisecond})
		b := w.node(2, newBook())
		conn := &roaming{net: w.Fabric, now: w.Conn(port(1, 4000))}
		a := startNode(t, conn, 1, newBook(), func(c *Config) { c.DialOnly = true })
		const size = 4 << 20
		there := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		sums := make(chan [32]byte, 1)
		var far *Stream
		b.Handle(Session, func(s *Stream) {
			far = s
			go func() { _, _ = s.Write(there); _ = s.CloseWrite() }()
			sum := sha256.New()
			_, _ = io.Copy(sum, s)
			sums <- [32]byte(sum.Sum(nil))
			_ = s.Close()
		})
		s, err := a.Open(t.Context(), b.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error, 1)
		go func() {
			for at := 0; at < size; at += 64 << 10 { // over some seconds
				if _, err := s.Write(there[at : at+64<<10]); err != nil {
					wrote <- err
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			wrote <- s.CloseWrite()
		}()
		go func() {
			time.Sleep(time.Second)
			conn.move(port(7, 5000), 0)
			time.Sleep(2 * time.Second)
			conn.move(port(8, 6000), 3*time.Second)
		}()
		back, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(back, there) {
			t.Fatalf("%d bytes came, %v", len(back), err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		if got := <-sums; got != sha256.Sum256(there) {
			t.Error("what arrived is not what was sent")
		}
		if far.Addr() != port(8, 6000) {
			t.Errorf("the node believes the operator at %s", far.Addr())
		}
		_ = s.Close()
		if n := len(a.pool.of(b.ID())); n != 1 {
			t.Errorf("%d connections: it was dialled anew", n)
		}
	})
}

// TestWhoOnlyListensIsFound: an operator who has moved and types nothing goes on seeing what is written.
func TestWhoOnlyListensIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 10 * time.Millisecond})
		b := w.node(2, newBook())
		conn := &roaming{net: w.Fabric, now: w.Conn(port(1, 4000))}
		a := startNode(t, conn, 1, newBook(), func(c *Config) { c.DialOnly = true })
		b.Handle(Session, func(s *Stream) {
			defer s.Close()
			for {
				if _, err := s.Write([]byte("tick\n")); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		s, err := a.Open(t.Context(), b.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte("go"))
		worst, line := time.Duration(0), make([]byte, 5)
		began, moved := time.Now(), false
		for time.Since(began) < 30*time.Second {
			if !moved && time.Since(began) > 5*time.Second {
				moved = true
				conn.move(port(7, 5000), time.Second) // what is said meanwhile is lost
			}
			last := time.Now()
			if _, err := io.ReadFull(s, line); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, time.Since(last))
		}
		if worst > 2*sessionKeepAlive {
			t.Errorf("the screen stood still for %s", worst)
		}
		_ = s.Close()
		time.Sleep(time.Second)
	})
}

func TestGrowthOfWindowsIsShared(t *testing.T) {
	e := &Endpoint{}
	member, ann, bob := &guest{}, &guest{}, &guest{}
	ann.crowd.Store(true)
	bob.crowd.Store(true)
	if e.grant(member, 1) {
		t.Error("a member's windows grow")
	}
	if !e.grant(ann, growthBudget-1) || e.grant(bob, 2) || !e.grant(bob, 1) || e.grown.Load() != growthBudget {
		t.Errorf("%d bytes are given away", e.grown.Load())
	}
	if ann.granted.Load() != growthBudget-1 || bob.granted.Load() != 1 {
		t.Error("somebody gives back what another has")
	}
}
