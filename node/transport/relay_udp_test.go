package transport

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// udpPipe starts two nodes on real sockets of which the second can be reached through a third alone.
func udpPipe(t testing.TB) (x, r, z *Endpoint) {
	t.Helper()
	gate := newBook()
	x = startNode(t, listenUDP(t, "127.0.0.1:0"), 1, gate, through(2))
	r, z = startNode(t, listenUDP(t, "127.0.0.1:0"), 2, gate, through(2)), startNode(t, listenUDP(t, "127.0.0.1:0"), 3, gate)
	gate.moved(x.ID(), x.LocalAddr())
	gate.moved(r.ID(), r.LocalAddr())
	gate.moved(z.ID())
	keepUplinkOnRealSockets(t, z, r)
	return x, r, z
}

func keepUplinkOnRealSockets(t testing.TB, z, r *Endpoint) {
	t.Helper()
	up, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- z.Uplink(t.Context(), r.ID(), func() { close(up) }) }()
	select {
	case <-up:
	case err := <-ended:
		t.Fatal(err)
	}
	for r.pool.uplink(z.ID(), false) == nil {
		runtime.Gosched()
	}
}

// pour sends bytes one way over a stream and returns when all of them arrived, and are the same.
func pour(t testing.TB, x, z *Endpoint, size int64) {
	t.Helper()
	sums := make(chan [32]byte, 1)
	z.Handle(Bulk, func(s *Stream) {
		defer s.Close()
		sum := sha256.New()
		_, _ = io.Copy(sum, s)
		_, _ = s.Write([]byte{1})
		sums <- [32]byte(sum.Sum(nil))
	})
	s, err := x.Open(t.Context(), z.ID(), Bulk)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sum := sha256.New()
	from := rand.NewChaCha8([32]byte{1})
	if _, err := io.CopyN(io.MultiWriter(s, sum), from, size); err != nil {
		t.Fatal(err)
	}
	_ = s.CloseWrite()
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := <-sums; got != [32]byte(sum.Sum(nil)) {
		t.Fatal("what arrived is not what was sent")
	}
}

func TestPipeOnRealSockets(t *testing.T) {
	x, r, z := udpPipe(t)
	mustAsk(t, x, z.ID())
	size := int64(16 << 20)
	if testing.Short() {
		size = 1 << 20
	}
	pour(t, x, z, size)
	var both sync.WaitGroup // and many at once
	for range 20 {
		both.Go(func() { mustAsk(t, x, z.ID()) })
		both.Go(func() { mustAsk(t, r, z.ID()) })
	}
	both.Wait()
	got := make(chan netip.AddrPort, 1)
	for _, e := range []*Endpoint{x, r, z} {
		e.SetKeys(testKeys(1))
	}
	z.HandlePackets(KindBell, func(from netip.AddrPort, _ []byte, _ time.Time) { got <- from })
	for {
		if err := x.SendPacketVia(r.LocalAddr(), z.ID(), KindBell, []byte("ring")); err != nil {
			t.Fatal(err)
		}
		select {
		case from := <-got:
			if from != x.LocalAddr() {
				t.Fatal(from)
			}
			return
		case <-time.After(time.Second): // it is UDP
		}
	}
}

// BenchmarkBulk is one stream of 64 MiB, with the CPU of all three nodes.
func BenchmarkBulk(b *testing.B) {
	const size = 64 << 20
	b.Run("direct", func(b *testing.B) {
		x, z := udpPair(b, "127.0.0.1:0")
		b.SetBytes(size)
		for b.Loop() {
			pour(b, x, z, size)
		}
	})
	b.Run("pipe", func(b *testing.B) {
		x, _, z := udpPipe(b)
		b.SetBytes(size)
		for b.Loop() {
			pour(b, x, z, size)
		}
	})
}

// BenchmarkEcho is one small request over a connection that stands.
func BenchmarkEcho(b *testing.B) {
	run := func(b *testing.B, x *Endpoint, id fleet.ID) {
		for b.Loop() {
			if _, err := ask(b.Context(), x, id, "x"); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("direct", func(b *testing.B) {
		x, z := udpPair(b, "127.0.0.1:0")
		run(b, x, z.ID())
	})
	b.Run("pipe", func(b *testing.B) {
		x, _, z := udpPipe(b)
		run(b, x, z.ID())
	})
}
