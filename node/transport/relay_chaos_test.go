package transport

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// TestChaosOfRelays has askers talk to a node that nobody can dial while its relays die, come back and are cut off, and while
// it restarts itself. What arrives is what was sent to whom it was sent, however it went; a stream that breaks says so within
// seconds; when the relays live, everything works again; and in the end nothing is left.
func TestChaosOfRelays(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { chaosOfRelays(t, seed) })
		})
	}
}

func chaosOfRelays(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond, Jitter: 3 * time.Millisecond, Loss: 0.01, Duplicate: 0.01})
	gate := hidden(3)
	var mu sync.Mutex
	alive, lost := map[byte]*Endpoint{}, map[netip.AddrPort]bool{}
	w.Change(func(o *fabric.Options) {
		o.Partition = func(from, to netip.AddrPort) bool {
			mu.Lock()
			defer mu.Unlock()
			return lost[from] || lost[to]
		}
	})
	cut := func(n byte, off bool) {
		mu.Lock()
		defer mu.Unlock()
		lost[addrOf(n)] = off
	}
	start := func(n byte) *Endpoint {
		e := w.node(n, gate, through(2, 4, 5))
		e.Handle(Session, func(s *Stream) { _, _ = s.Write([]byte{n}); echoBytes(s) })
		alive[n] = e
		return e
	}
	ctx, end := context.WithCancel(context.Background())
	var work sync.WaitGroup
	// The hidden node keeps its uplinks, whatever comes.
	uplinks := func(z *Endpoint) (stop func()) {
		ctx, stop := context.WithCancel(ctx)
		for _, relay := range []byte{2, 4} {
			work.Go(func() {
				for ctx.Err() == nil {
					_ = z.Uplink(ctx, idOf(relay), func() {})
					select {
					case <-ctx.Done():
					case <-time.After(time.Second):
					}
				}
			})
		}
		return stop
	}
	askers := []*Endpoint{start(1), start(6)}
	start(2)
	start(4)
	start(5) // is no uplink's other end: it leads on to the others
	stop := uplinks(start(3))
	time.Sleep(time.Second)

	good, broke := 0, 0
	talk := func(x *Endpoint, rng *rand.Rand) {
		ask, done := context.WithTimeout(ctx, 10*time.Second)
		defer done()
		s, err := x.Open(ask, idOf(3), Session)
		if err != nil {
			return
		}
		defer s.Close()
		for range 1 + rng.IntN(20) {
			text := fmt.Sprintf("%d of %s", rng.Uint64(), x.ID())
			began := time.Now()
			_, err := s.Write([]byte(text))
			got := make([]byte, len(text)+1)
			if err == nil {
				_, err = io.ReadFull(s, got[:1])
			}
			if err == nil {
				_, err = io.ReadFull(s, got[1:])
			}
			if took := time.Since(began); took > 2*relayKeepAlive+idleTimeout {
				t.Errorf("it was in the dark for %s", took)
			}
			if err != nil {
				mu.Lock()
				broke++
				mu.Unlock()
				return
			}
			if got[0] != 3 || string(got[1:]) != text {
				t.Errorf("%d answers %q to %q", got[0], got[1:], text)
			}
			mu.Lock()
			good++
			mu.Unlock()
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			if _, err := s.Write([]byte{3}); err != nil { // the echo's first byte of the next round
				return
			}
		}
	}
	for i, x := range askers {
		work.Go(func() {
			own := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				talk(x, own)
				time.Sleep(time.Duration(own.IntN(3000)) * time.Millisecond)
			}
		})
	}
	for range 15 {
		n := []byte{2, 4, 5, 3}[rng.IntN(4)]
		pause := time.Duration(rng.IntN(20_000)) * time.Millisecond
		switch rng.IntN(4) {
		case 0: // an orderly restart
			if n == 3 {
				stop()
			}
			_ = alive[n].Close()
			time.Sleep(pause)
			start(n)
			if n == 3 {
				stop = uplinks(alive[3])
			}
		case 1: // killed, and started again
			if n == 3 {
				stop()
			}
			cut(n, true)
			_ = alive[n].Close()
			time.Sleep(pause)
			cut(n, false)
			start(n)
			if n == 3 {
				stop = uplinks(alive[3])
			}
		case 2:
			cut(n, true)
			time.Sleep(pause)
			cut(n, false)
		default:
			time.Sleep(pause)
		}
	}
	time.Sleep(2 * idleTimeout) // all of them live: what was lost is found
	for _, x := range askers {
		s, err := x.Open(ctx, idOf(3), Bulk)
		if err != nil {
			t.Fatal(err)
		}
		if _, body, err := s.Ask(ctx, 1, []byte("at last")); err != nil || string(body) != "at last" {
			t.Errorf("%q, %v", body, err)
		}
	}
	end()
	stop()
	work.Wait()
	time.Sleep(4 * idleTimeout)
	for _, e := range alive {
		settled(t, e)
		for _, id := range []fleet.ID{idOf(1), idOf(2), idOf(3), idOf(4), idOf(5), idOf(6)} {
			if n := len(e.pool.of(id)); n != 0 {
				t.Errorf("%d connections are left", n)
			}
		}
	}
	if good < 20 {
		t.Errorf("%d words came through, %d broke", good, broke)
	}
	t.Logf("%d words came through, %d broke", good, broke)
}
