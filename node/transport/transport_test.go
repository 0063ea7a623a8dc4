package transport

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

var testFleet = fleet.Sum([]byte("a fleet"))

func keyOf(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func idOf(n byte) fleet.ID { return fleet.Sum(keyOf(n).Public().(ed25519.PublicKey)) }

func addrOf(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 7980)
}

// book is a Gate and an address book that tests can change while things run.
type book struct {
	mu     sync.Mutex
	proof  []byte
	admit  func(fleet.ID, Plane, []byte) error
	barred map[fleet.ID]bool
	addrs  map[fleet.ID][]netip.AddrPort
}

func newBook() *book {
	b := &book{proof: []byte("enrolled"), barred: map[fleet.ID]bool{}, addrs: map[fleet.ID][]netip.AddrPort{}}
	for n := range byte(30) {
		b.addrs[idOf(n)] = []netip.AddrPort{addrOf(n)}
	}
	return b
}

func (b *book) Prove(Plane) []byte { return b.proof }

func (b *book) Admit(peer fleet.ID, plane Plane, proof []byte) error {
	if b.admit != nil {
		return b.admit(peer, plane, proof)
	}
	if plane != Join && string(proof) != "enrolled" {
		return fleet.Errorf(fleet.Denied, "not enrolled")
	}
	return nil
}

func (b *book) Allow(peer fleet.ID, _ Plane) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.barred[peer] {
		return fleet.Errorf(fleet.Denied, "%s was removed", peer)
	}
	return nil
}

func (b *book) bar(id fleet.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.barred[id] = true
}

func (b *book) where(id fleet.ID) []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addrs[id]
}

func (b *book) moved(id fleet.ID, addrs ...netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs[id] = addrs
}

// echo answers with the kind it got plus one and the same body.
var echo = Answer(func(_ *Stream, kind byte, body []byte) (byte, []byte, error) { return kind + 1, body, nil })

// network is a fabric with endpoints on it.
type network struct {
	t *testing.T
	*fabric.Fabric
}

func newNetwork(t *testing.T, opts fabric.Options) network {
	f := fabric.New(1, opts)
	t.Cleanup(f.Close)
	return network{t, f}
}

// node starts endpoint n at its address, serving echo on all planes; edit may change its config first.
func (w network) node(n byte, gate *book, edit ...func(*Config)) *Endpoint {
	w.t.Helper()
	return startNode(w.t, w.Conn(addrOf(n)), n, gate, edit...)
}

func startNode(t testing.TB, conn net.PacketConn, n byte, gate *book, edit ...func(*Config)) *Endpoint {
	t.Helper()
	cfg := Config{Conn: conn, Key: keyOf(n), Fleet: testFleet, Gate: gate, Addrs: gate.where}
	for _, f := range edit {
		f(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(pipedALPNs(), string(Join)) {
		e.Handle(Plane(p), echo)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// inBubble runs f in virtual time. Closing must leave no goroutine behind, or the bubble fails.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func ask(ctx context.Context, e *Endpoint, id fleet.ID, text string) (string, error) {
	_, body, err := e.Request(ctx, id, Peer, 7, []byte(text))
	return string(body), err
}

func mustAsk(t *testing.T, e *Endpoint, id fleet.ID) {
	t.Helper()
	if got, err := ask(t.Context(), e, id, "x"); err != nil || got != "x" {
		t.Fatalf("%q, %v", got, err)
	}
}

func wantError(t *testing.T, err error, kind fleet.Kind, part string) {
	t.Helper()
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Error(), part) {
		t.Fatalf("got %v (%v), want %v with %q", err, fleet.KindOf(err), kind, part)
	}
}

func TestRequestBothWaysOverOneConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		kind, body, err := a.Request(t.Context(), b.ID(), Peer, 7, []byte("hello"))
		if err != nil || kind != 8 || string(body) != "hello" {
			t.Fatalf("%d %q %v", kind, body, err)
		}
		mustAsk(t, b, a.ID())
		if n := len(a.pool.of(b.ID())); n != 1 {
			t.Fatalf("%d connections for two directions", n)
		}
		if got := a.Observed(); len(got) != 1 || got[0] != addrOf(1) {
			t.Fatalf("observed %v", got)
		}
		if got := b.Observed(); len(got) != 1 || got[0] != addrOf(2) {
			t.Fatalf("observed %v", got)
		}
	})
}

func TestStreamIsANetConn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), newBook()
		got := make(chan *Stream, 1)
		startNode(t, w.Conn(addrOf(2)), 2, b).Handle(Gossip, func(s *Stream) { got <- s })
		s, err := a.Open(t.Context(), idOf(2), Gossip)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		far := <-got
		if far.Peer() != a.ID() || far.Plane() != Gossip || far.Addr() != addrOf(1) || far.RemoteAddr().String() != addrOf(1).String() {
			t.Fatalf("%v %v %v", far.Peer(), far.Plane(), far.Addr())
		}
		buf := make([]byte, 4)
		if _, err := io.ReadFull(far, buf); err != nil || string(buf) != "ping" {
			t.Fatal(string(buf), err)
		}
		_ = s.SetReadDeadline(time.Now().Add(time.Second))
		var timeout net.Error
		if _, err := s.Read(buf); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("deadline gave %v", err)
		}
		if err := far.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Time{})
		if _, err := s.Read(buf); err != io.EOF {
			t.Fatalf("end gave %v", err)
		}
		if _, err := s.Write([]byte("more")); err != nil {
			t.Fatalf("half-closed stream does not write: %v", err)
		}
		_ = s.Close()
		if rest, err := io.ReadAll(far); err != nil || string(rest) != "more" {
			t.Fatalf("%q, %v", rest, err)
		}
		_ = far.Close()
		if _, err := s.Read(buf); err == nil {
			t.Fatalf("read after Close gave %v", err)
		}
	})
}

// A Close beside a Write that hangs must end both.
func TestCloseBesideWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a := w.node(1, newBook())
		w.node(2, newBook()).Handle(Bulk, func(s *Stream) { <-s.Context().Done(); _ = s.Close() })
		s, err := a.Open(t.Context(), idOf(2), Bulk)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { _, err := s.Write(make([]byte, 64<<20)); ended <- err }() // more than any window
		synctest.Wait()
		_ = s.Close()
		if err := <-ended; err == nil {
			t.Fatal("a write of 64 MiB to nobody succeeded")
		}
	})
}

func TestRefusals(t *testing.T) {
	refuse := func(kind fleet.Kind, text string) *book {
		b := newBook()
		b.admit = func(fleet.ID, Plane, []byte) error { return fleet.Errorf(kind, "%s", text) }
		return b
	}
	for name, c := range map[string]struct {
		near, far *book
		edit      func(*Config)
		kind      fleet.Kind
		part      string
	}{
		"not admitted there":  {newBook(), refuse(fleet.Denied, "web07 was removed"), nil, fleet.Denied, "refused: web07 was removed"},
		"busy there":          {newBook(), refuse(fleet.Unavailable, "wait"), nil, fleet.Unavailable, "refused: wait"},
		"escape codes":        {newBook(), refuse(fleet.Denied, "\x1b[2Jgone"), nil, fleet.Denied, "refused:  [2Jgone"},
		"internal stays home": {newBook(), refuse(fleet.Internal, "/var/lib/x"), nil, fleet.Internal, "refused: internal error"},
		"not admitted here":   {refuse(fleet.Denied, "unknown"), newBook(), nil, fleet.Denied, "unknown"},
		"no proof":            {&book{addrs: newBook().addrs}, newBook(), nil, fleet.Denied, "refused: not enrolled"},
		"another fleet":       {newBook(), newBook(), func(c *Config) { c.Fleet = fleet.Sum([]byte("other")) }, fleet.Denied, "another fleet"},
		"another key":         {newBook(), newBook(), func(c *Config) { c.Key = keyOf(9) }, fleet.Unavailable, "10.0.0.2:7980/udp: node " + idOf(9).String() + " answers there, not " + idOf(2).String()},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
				a := w.node(1, c.near)
				edit := c.edit
				if edit == nil {
					edit = func(*Config) {}
				}
				var served bool
				b := w.node(2, c.far, edit)
				b.Handle(Peer, func(s *Stream) { served = true; _ = s.Close() })
				start := time.Now()
				_, err := ask(t.Context(), a, idOf(2), "x")
				wantError(t, err, c.kind, c.part)
				if served {
					t.Fatal("a stream was served all the same")
				}
				if d := time.Since(start); d > 100*time.Millisecond {
					t.Fatalf("the refusal took %v", d)
				}
			})
		})
	}
}

func TestJoinPlaneNeedsNoProof(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		joiner, server := newBook(), newBook()
		joiner.proof = []byte("must not be shown")
		var shown, serverShown []byte
		server.admit = func(_ fleet.ID, plane Plane, proof []byte) error { shown = proof; return nil }
		joiner.admit = func(_ fleet.ID, plane Plane, proof []byte) error { serverShown = proof; return nil }
		a := w.node(1, joiner)
		w.node(2, server)
		s, err := a.OpenAddr(t.Context(), addrOf(2), Join)
		if err != nil {
			t.Fatal(err)
		}
		if s.Peer() != idOf(2) {
			t.Fatal("the peer's ID was not learned")
		}
		if _, body, err := s.Ask(t.Context(), 1, []byte("me")); err != nil || string(body) != "me" {
			t.Fatal(string(body), err)
		}
		if len(shown) != 0 || string(serverShown) != "enrolled" {
			t.Fatalf("shown %q and %q", shown, serverShown)
		}
		time.Sleep(joinLifetime + time.Second)
		if n := len(a.pool.of(idOf(2))); n != 0 {
			t.Fatalf("%d joining connections outlive their time", n)
		}
	})
}

func TestOpenAddrOnOtherPlanesIsJudged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		near := newBook()
		a := w.node(1, near)
		w.node(2, newBook())
		s, err := a.OpenAddr(t.Context(), addrOf(2), Peer)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		mustAsk(t, a, idOf(2)) // by ID, over the same connection
		if n := len(a.pool.of(idOf(2))); n != 1 {
			t.Fatalf("%d connections", n)
		}
		near.admit = func(fleet.ID, Plane, []byte) error { return fleet.Errorf(fleet.Denied, "unknown node") }
		_, err = a.OpenAddr(t.Context(), addrOf(2), Bulk)
		wantError(t, err, fleet.Denied, "unknown node")
		_, err = a.OpenAddr(t.Context(), addrOf(1), Peer)
		wantError(t, err, fleet.Invalid, "this node itself")
	})
}

func TestRemovedPeerIsRefusedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		far := newBook()
		a, b := w.node(1, newBook()), w.node(2, far)
		mustAsk(t, a, b.ID())
		far.bar(a.ID())
		_, err := ask(t.Context(), a, b.ID(), "x") // the connection is still up: the stream is refused
		wantError(t, err, fleet.Denied, "does not let this node speak")
		_, err = b.Open(t.Context(), a.ID(), Peer)
		wantError(t, err, fleet.Denied, "was removed")
		a.pool.mu.Lock()
		n := len(a.pool.links[b.ID()])
		a.pool.mu.Unlock()
		if n != 1 {
			t.Fatalf("%d connections", n)
		}
	})
}

func TestRemovedDuringTheHello(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		far := newBook()
		far.admit = func(peer fleet.ID, _ Plane, _ []byte) error { far.bar(peer); return nil } // removed, and dropped, just then
		a, b := w.node(1, newBook()), w.node(2, far)
		_, err := ask(t.Context(), a, b.ID(), "x")
		wantError(t, err, fleet.Denied, "was removed")
		synctest.Wait()
		if n := len(b.pool.of(a.ID())); n != 0 {
			t.Fatalf("%d connections with a removed peer", n)
		}
	})
}

func TestDropEndsOpenStreams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		served := make(chan error, 1)
		b.Handle(Peer, func(s *Stream) {
			defer s.Close()
			_, err := io.Copy(io.Discard, s)
			served <- err
		})
		s, err := a.Open(t.Context(), b.ID(), Peer)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		go func() { time.Sleep(10 * time.Millisecond); b.Drop(a.ID(), "web07 was removed") }()
		_, err = s.Read(make([]byte, 1))
		wantError(t, err, fleet.Denied, "refused: web07 was removed")
		if err := <-served; err == nil {
			t.Fatal("the server's side of the stream ended in order")
		}
		if d := time.Since(start); d > 50*time.Millisecond {
			t.Fatalf("took %v", d)
		}
	})
}

func TestUnservedPlaneAndPanic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		b.Handle(Raft, nil)
		b.Handle(Bulk, func(*Stream) { panic("boom") })
		_, _, err := a.Request(t.Context(), b.ID(), Raft, 1, nil)
		wantError(t, err, fleet.Unavailable, "does not serve")
		_, _, err = a.Request(t.Context(), b.ID(), Bulk, 1, nil)
		wantError(t, err, fleet.Internal, "failed at it")
		mustAsk(t, a, b.ID())
	})
}

func TestBothDialConverge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 20 * time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		var both sync.WaitGroup
		both.Go(func() { mustAsk(t, a, b.ID()) })
		both.Go(func() { mustAsk(t, b, a.ID()) })
		both.Wait()
		if n := len(a.pool.of(b.ID())); n != 2 {
			t.Fatalf("%d connections after both dialled at once, want 2", n)
		}
		near, far := a.pool.best(b.ID(), Peer), b.pool.best(a.ID(), Peer)
		if near.dialled == far.dialled || near.dialled != (a.ID().Compare(b.ID()) < 0) {
			t.Fatal("the ends do not agree on the connection that the lower ID dialled")
		}
		time.Sleep(3 * supersededAfter)
		for _, e := range []*Endpoint{a, b} {
			if n := len(append(e.pool.of(a.ID()), e.pool.of(b.ID())...)); n != 1 {
				t.Fatalf("%d connections left", n)
			}
		}
		if near.dead() {
			t.Fatal("the wrong one was closed")
		}
		mustAsk(t, a, b.ID())
	})
}

func TestSupersededWaitsForStreams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 20 * time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		var streams [2]*Stream
		var both sync.WaitGroup
		both.Go(func() { streams[0], _ = a.Open(t.Context(), b.ID(), Peer) })
		both.Go(func() { streams[1], _ = b.Open(t.Context(), a.ID(), Peer) })
		both.Wait()
		time.Sleep(3 * supersededAfter)
		for _, s := range streams {
			if _, _, err := s.Ask(t.Context(), 1, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * supersededAfter)
		if n := len(a.pool.of(b.ID())); n != 1 {
			t.Fatalf("%d connections left", n)
		}
	})
}

func TestManyCallersShareADial(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { mustAsk(t, a, b.ID()) })
		}
		all.Wait()
		if n := len(b.pool.of(a.ID())); n != 1 {
			t.Fatalf("%d connections", n)
		}
	})
}

func TestDeadPeer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a := w.node(1, newBook())
		w.node(2, newBook())
		start := time.Now()
		dead := make(chan error)
		go func() { _, err := ask(t.Context(), a, idOf(3), "x"); dead <- err }()
		synctest.Wait()
		mustAsk(t, a, idOf(2)) // others do not wait
		if time.Since(start) > time.Millisecond {
			t.Fatal("a dead address holds up others")
		}
		wantError(t, <-dead, fleet.Unavailable, "no answer from 10.0.0.3:7980/udp (firewall?)")
		if d := time.Since(start); d > handshakeTimeout+time.Second {
			t.Fatalf("took %v", d)
		}
		w.node(3, newBook())
		mustAsk(t, a, idOf(3)) // the failure is not remembered
	})
}

func TestDialCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a := w.node(1, newBook())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := ask(ctx, a, idOf(3), "x")
		wantError(t, err, fleet.Unavailable, "no connection in time")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 200*time.Millisecond {
			t.Fatal(err, time.Since(start))
		}
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.flights) != 0 {
			t.Fatal("the dial goes on for nobody")
		}
	})
}

func TestSeveralAddresses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		near := newBook()
		near.moved(idOf(2), addrOf(20), addrOf(3), addrOf(2)) // nobody, somebody else, the right one
		a := w.node(1, near)
		w.node(2, newBook())
		w.node(3, newBook())
		start := time.Now()
		mustAsk(t, a, idOf(2))
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Fatalf("took %v", d)
		}
		near.moved(idOf(3), addrOf(20), addrOf(21), addrOf(22), addrOf(3))
		start = time.Now()
		mustAsk(t, a, idOf(3))
		if d := time.Since(start); d > 3*nextAddrAfter+100*time.Millisecond {
			t.Fatalf("took %v behind three dead addresses", d)
		}
		near.moved(idOf(4), addrOf(20), addrOf(21))
		_, err := ask(t.Context(), a, idOf(4), "x")
		wantError(t, err, fleet.Unavailable, "no answer from 10.0.0.20:7980/udp, 10.0.0.21:7980/udp")
		near.moved(idOf(5))
		_, err = ask(t.Context(), a, idOf(5), "x")
		wantError(t, err, fleet.Unavailable, "no address known")
	})
}

func TestSlowPeerDoesNotCloseTheRace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 300 * time.Millisecond})
		near := newBook()
		near.moved(idOf(2), addrOf(2), addrOf(20))
		a := w.node(1, near)
		w.node(2, newBook())
		mustAsk(t, a, idOf(2))
	})
}

func TestLossyNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.1, Duplicate: 0.1})
		a := w.node(1, newBook())
		w.node(2, newBook())
		for range 50 {
			mustAsk(t, a, idOf(2))
		}
	})
}

// kill takes a node off the network without a word to anybody.
func (w network) kill(e *Endpoint) {
	_ = e.conn.Close()
	_ = e.Close()
}

func TestRestartedPeerIsReachableAtOnce(t *testing.T) {
	for name, idle := range map[string]time.Duration{"after a second": freshFor, "after ten": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
				a := w.node(1, newBook())
				b := w.node(2, newBook())
				mustAsk(t, a, b.ID())
				w.kill(b)
				time.Sleep(idle)
				w.node(2, newBook())
				start := time.Now()
				mustAsk(t, a, b.ID())
				if d := time.Since(start); d > 100*time.Millisecond {
					t.Fatalf("took %v", d)
				}
			})
		})
	}
}

func TestReadersLearnOfARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		a := w.node(1, newBook())
		b := w.node(2, newBook())
		s, err := a.Open(t.Context(), b.ID(), Raft)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		mustAsk(t, a, b.ID())
		w.kill(b)
		b = w.node(2, newBook())
		mustAsk(t, b, a.ID()) // the new life's hello ends what the old one left, on all planes
		start := time.Now()
		if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("a stream to the earlier life gave %v", err)
		}
		if d := time.Since(start); d > time.Second {
			t.Fatalf("took %v", d)
		}
		for _, l := range a.pool.of(b.ID()) {
			if l.instance != b.instance {
				t.Fatal("a connection of the earlier life is kept")
			}
		}
	})
}

func TestMovedPeerIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		near := newBook()
		a, b := w.node(1, near), w.node(2, newBook())
		mustAsk(t, a, b.ID())
		w.kill(b)
		startNode(t, w.Conn(addrOf(20)), 2, newBook())
		near.moved(b.ID(), addrOf(20))
		time.Sleep(5 * time.Second) // long before the idle timeout
		start := time.Now()
		mustAsk(t, a, b.ID())
		if d := time.Since(start); d > pongWait+100*time.Millisecond {
			t.Fatalf("took %v", d)
		}
	})
}

func TestIdleIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		for _, p := range []Plane{Gossip, Peer, Bulk, RaftBulk, Join} {
			if _, _, err := a.Request(t.Context(), b.ID(), p, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(idleTimeout + 5*time.Second)
		if n := len(a.pool.of(b.ID())); n != 0 {
			t.Fatalf("%d idle connections are kept", n)
		}
		before := w.Counts().Sent
		time.Sleep(time.Hour)
		if n := w.Counts().Sent - before; n != 0 {
			t.Fatalf("%d packets in an idle hour", n)
		}
		if _, _, err := a.Request(t.Context(), b.ID(), Raft, 1, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := len(a.pool.of(b.ID())); n != 1 {
			t.Fatalf("%d raft connections after an hour", n)
		}
	})
}

func TestQuietStreamIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		s, err := a.Open(t.Context(), b.ID(), Peer)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // a shell nobody types in
		if _, _, err := s.Ask(t.Context(), 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRequestEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		told := make(chan struct{})
		b.Handle(Peer, func(s *Stream) {
			defer s.Close()
			<-s.Context().Done() // the server can stop its work too
			close(told)
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { _, err := ask(ctx, a, b.ID(), "x"); ended <- err }()
		synctest.Wait()
		cancel()
		err := <-ended
		wantError(t, err, fleet.Unavailable, "no answer in time")
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		<-told
	})
}

func TestErrorsCrossTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		var answer error
		b.Handle(Peer, Answer(func(*Stream, byte, []byte) (byte, []byte, error) { return 0, nil, answer }))
		answer = fleet.Errorf(fleet.Conflict, "web07 is taken").Hinted("choose another name")
		_, err := ask(t.Context(), a, b.ID(), "x")
		wantError(t, err, fleet.Conflict, "web07 is taken")
		if e, _ := errors.AsType[*fleet.Error](err); e.Hint != "choose another name" {
			t.Fatalf("hint %q", e.Hint)
		}
		answer = errors.New("open /var/lib/muster/secret")
		_, err = ask(t.Context(), a, b.ID(), "x")
		wantError(t, err, fleet.Internal, "internal error")
		if strings.Contains(err.Error(), "secret") {
			t.Fatal(err)
		}
	})
}

func TestFrameLimits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		for _, p := range append(pipedALPNs(), string(Join)) {
			limits, _ := Plane(p).limits()
			if _, body, err := a.Request(t.Context(), b.ID(), Plane(p), 1, make([]byte, limits.frame)); err != nil || len(body) != limits.frame {
				t.Fatalf("%s: a frame at the limit: %v", p, err)
			}
			_, _, err := a.Request(t.Context(), b.ID(), Plane(p), 1, make([]byte, limits.frame+1))
			wantError(t, err, fleet.Exhausted, "at most")
		}
		s, err := a.Open(t.Context(), b.ID(), Peer)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Write([]byte{0xff, 0xff, 0xff, 0xff, 1}); err != nil {
			t.Fatal(err)
		}
		_, _, err = s.ReadFrame()
		wantError(t, err, fleet.Exhausted, "frame of 4294967295 bytes")
	})
}

func TestStreamLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		b.Handle(Join, func(s *Stream) { _, _ = io.Copy(io.Discard, s); _ = s.Close() })
		b.Handle(Peer, func(s *Stream) { _, _ = io.Copy(io.Discard, s); _ = s.Close() })
		for plane, limit := range map[Plane]int{Join: 4, Peer: maxStreams} {
			var open []*Stream
			for range limit {
				s, err := a.Open(t.Context(), b.ID(), plane)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				open = append(open, s)
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := a.Request(ctx, b.ID(), plane, 1, nil); err == nil {
				t.Fatalf("%s: stream %d was served", plane, limit+1)
			}
			cancel()
			for _, s := range open {
				_ = s.Close()
			}
			synctest.Wait()
			s, err := a.Open(t.Context(), b.ID(), plane) // the limit is of open streams
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
		}
	})
}

// A stream that its opener closed must not hold a place, nor its server, however little of it was read.
func TestCloseGivesThePlaceBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		b.Handle(Peer, func(s *Stream) {
			defer s.Close()
			_, _ = s.Write([]byte("never read"))
			<-s.Context().Done()
		})
		for n := range 2 * maxStreams {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s, err := a.Open(ctx, b.ID(), Peer)
			cancel()
			if err != nil {
				t.Fatalf("stream %d: %v", n, err)
			}
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			synctest.Wait()
		}
	})
}

func TestConnectionsPerPeer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		for range maxLinksPerPeer + 3 {
			to := destination{id: b.ID(), plane: Peer}
			if _, err := a.fly(t.Context(), to, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := len(b.pool.of(a.ID())); n > maxLinksPerPeer {
				t.Fatalf("%d connections of one peer", n)
			}
		}
		mustAsk(t, a, b.ID())
	})
}

func TestCloseTellsPeers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		b.Handle(Peer, func(s *Stream) { _, _ = io.Copy(io.Discard, s); _ = s.Close() })
		s, err := a.Open(t.Context(), b.ID(), Peer)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		start := time.Now()
		_ = b.Close()
		_, err = s.Read(make([]byte, 1))
		wantError(t, err, fleet.Unavailable, "closed the connection")
		if time.Since(start) > 10*time.Millisecond {
			t.Fatal("peers learn of it late")
		}
		_, err = ask(t.Context(), b, a.ID(), "x")
		wantError(t, err, fleet.Unavailable, "not running")
		if err := b.Start(); err == nil {
			t.Fatal("started again")
		}
	})
}

func TestJoinRate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		w.node(2, newBook())
		a := w.node(1, newBook())
		join := func() error {
			_, err := a.fly(t.Context(), destination{addr: addrOf(2), plane: Join}, nil)
			return err
		}
		for range joinBurstIP {
			if err := join(); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, join(), fleet.Unavailable, "too many hosts are joining")
		time.Sleep(time.Second)
		if err := join(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNewRefusesHoles(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Fatal("an empty config was taken")
	}
}
