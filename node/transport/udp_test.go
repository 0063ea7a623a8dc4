package transport

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

func listenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Skip("no such address on this host: ", err)
	}
	return conn
}

// udpPair starts two nodes on real sockets that know each other.
func udpPair(t testing.TB, addr string) (a, b *Endpoint) {
	t.Helper()
	gate := newBook()
	a, b = startNode(t, listenUDP(t, addr), 1, gate), startNode(t, listenUDP(t, addr), 2, gate)
	gate.moved(a.ID(), a.LocalAddr())
	gate.moved(b.ID(), b.LocalAddr())
	return a, b
}

func TestRealSockets(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			a, b := udpPair(t, addr)
			_, body, err := a.Request(t.Context(), b.ID(), Bulk, 1, make([]byte, 300_000))
			if err != nil || len(body) != 300_000 {
				t.Fatal(len(body), err)
			}
			mustAsk(t, b, a.ID())
			got := make(chan netip.AddrPort, 1)
			b.HandlePackets(KindGossip, func(from netip.AddrPort, _ []byte, _ time.Time) { got <- from })
			a.SetKeys(testKeys(1))
			b.SetKeys(testKeys(1))
			if err := a.SendPacket(b.LocalAddr(), KindGossip, make([]byte, MaxPayload)); err != nil {
				t.Fatal(err)
			}
			if from := <-got; from != a.LocalAddr() {
				t.Fatalf("from %v, not %v", from, a.LocalAddr())
			}
		})
	}
}

// A dual-stack socket must know IPv4 peers by their IPv4 addresses.
func TestDualStack(t *testing.T) {
	gate := newBook()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Skip(err)
	}
	a, b := startNode(t, conn, 1, gate), startNode(t, listenUDP(t, "127.0.0.1:0"), 2, gate)
	gate.moved(b.ID(), b.LocalAddr())
	mustAsk(t, a, b.ID())
	if seen := b.Observed(); len(seen) != 1 || seen[0] != b.LocalAddr() {
		t.Fatalf("%v", seen)
	}
	if l := b.pool.of(a.ID())[0]; !addrPort(l.conn.RemoteAddr()).Addr().Is4() {
		t.Fatal(l.conn.RemoteAddr())
	}
}

func TestRestartOnRealSockets(t *testing.T) {
	a, b := udpPair(t, "127.0.0.1:0")
	mustAsk(t, a, b.ID())
	addr := b.LocalAddr()
	_ = b.conn.Close() // without a word
	_ = b.Close()
	startNode(t, listenUDP(t, addr.String()), 2, newBook())
	if l := a.pool.best(b.ID(), Peer); l != nil { // unless a last acknowledgement has met the new life already
		l.lastHeard.Store(-int64(freshFor)) // as if that had been a while ago
	}
	mustAsk(t, a, b.ID())
}

func TestStreamsDoNotLeak(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 300
	}
	a, b := udpPair(t, "127.0.0.1:0")
	mustAsk(t, a, b.ID())
	settle := func() int {
		n := runtime.NumGoroutine()
		for range 100 { // handlers end a moment after their answers
			runtime.Gosched()
			n = min(n, runtime.NumGoroutine())
		}
		return n
	}
	before := settle()
	var workers sync.WaitGroup
	for range 10 {
		workers.Go(func() {
			for range rounds / 10 {
				mustAsk(t, a, b.ID())
			}
		})
	}
	workers.Wait()
	if after := settle(); after > before+20 {
		t.Fatalf("%d goroutines before, %d after %d streams", before, after, rounds)
	}
	for _, e := range []*Endpoint{a, b} {
		for _, l := range append(e.pool.of(a.ID()), e.pool.of(b.ID())...) {
			l.mu.Lock()
			if l.open > 10 {
				t.Errorf("%d streams are still counted", l.open)
			}
			l.mu.Unlock()
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	x, y := udpPair(b, "127.0.0.1:0")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ask(b.Context(), x, y.ID(), "a small request"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	x, y := udpPair(b, "127.0.0.1:0")
	for b.Loop() {
		if _, err := ask(b.Context(), x, y.ID(), "x"); err != nil {
			b.Fatal(err)
		}
		x.Drop(y.ID(), "again")
	}
}
