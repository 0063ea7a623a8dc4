package transport

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

func TestUplink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		gate := hidden(3)
		r, z := w.node(2, gate), w.node(3, gate)
		_, stop := keepUplink(t, z, 2)
		time.Sleep(time.Hour)
		if l := r.pool.uplink(z.ID(), false); l == nil || len(r.pool.of(z.ID())) != 1 {
			t.Fatal("the uplink does not last")
		}
		before := w.Counts().Sent
		time.Sleep(time.Hour)
		if n := w.Counts().Sent - before; n > 6*uint64(time.Hour/uplinkKeepAlive) {
			t.Errorf("%d packets in an hour", n)
		}
		if z.pool.uplink(r.ID(), true) == nil || z.pool.uplink(r.ID(), false) != nil || r.pool.uplink(z.ID(), true) != nil {
			t.Error("it is not told whose uplink it is")
		}
		stop()
		time.Sleep(time.Second)
		if r.pool.uplink(z.ID(), false) != nil {
			t.Error("the relay was not told of its end")
		}
		time.Sleep(2 * idleTimeout)
		if n := len(r.pool.of(z.ID())); n != 0 {
			t.Errorf("%d connections are kept", n)
		}
	})
}

// TestWhatAnUplinkCarriesOutlivesIt: a node takes another relay, and a session through the old one goes on.
func TestWhatAnUplinkCarriesOutlivesIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		gate := hidden(3)
		x, r, z := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate)
		z.Handle(Session, echoBytes)
		_, stop := keepUplink(t, z, 2)
		s, err := x.Open(t.Context(), z.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, s, "first")
		stop()
		time.Sleep(10 * time.Minute)
		pass(t, s, "still here")
		_ = s.Close()
		time.Sleep(3 * idleTimeout)
		settled(t, x, r, z)
		if n := len(r.pool.of(z.ID())); n != 0 {
			t.Errorf("%d connections are kept", n)
		}
	})
}

func TestAnUplinkEnds(t *testing.T) {
	for name, c := range map[string]struct {
		die    func(w network, r, z *Endpoint)
		kind   fleet.Kind
		part   string
		within time.Duration
	}{
		"the relay is shut down":  {func(w network, r, z *Endpoint) { _ = r.Close() }, fleet.Unavailable, "closed the connection", time.Second},
		"the relay is cut off":    {func(w network, r, z *Endpoint) { cutOff(w, r) }, fleet.Unavailable, "lost contact", 2*idleTimeout + uplinkKeepAlive},
		"and that is suspected":   {func(w network, r, z *Endpoint) { cutOff(w, r); _ = z.CheckUplink(context.Background(), r.ID()) }, fleet.Unavailable, "lost contact", 2 * pongWait},
		"this node was removed":   {func(w network, r, z *Endpoint) { r.Drop(z.ID(), "web07 was removed") }, fleet.Denied, "web07 was removed", time.Second},
		"the relay has restarted": {func(w network, r, z *Endpoint) { _ = r.conn.Close(); _ = r.Close(); w.node(2, newBook()) }, fleet.Unavailable, "has restarted", 2 * uplinkKeepAlive},
		"it is suspected there": {func(w network, r, z *Endpoint) {
			_ = r.conn.Close()
			_ = r.Close()
			w.node(2, newBook())
			_ = z.CheckUplink(context.Background(), r.ID())
		}, fleet.Unavailable, "", 2 * pongWait},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
				gate := hidden(3)
				r, z := w.node(2, gate), w.node(3, gate)
				ended, _ := keepUplink(t, z, 2)
				if err := z.CheckUplink(t.Context(), r.ID()); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Second)
				began := time.Now()
				c.die(w, r, z)
				wantError(t, <-ended, c.kind, c.part)
				if took := time.Since(began); took > c.within {
					t.Errorf("it was noticed after %s", took)
				}
				wantError(t, z.CheckUplink(t.Context(), r.ID()), fleet.NotFound, "no uplink")
			})
		})
	}
}

func TestNoUplink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := newBook()
		z := w.node(3, gate, through(4))
		w.node(4, gate)
		up := func() { t.Error("it stands") }
		wantError(t, z.Uplink(t.Context(), z.ID(), up), fleet.Internal, "")
		began := time.Now()
		wantError(t, z.Uplink(t.Context(), idOf(2), up), fleet.Unavailable, "no answer")
		if took := time.Since(began); took > 2*handshakeTimeout {
			t.Errorf("it took %s", took)
		}
		gate.bar(idOf(2))
		wantError(t, z.Uplink(t.Context(), idOf(2), up), fleet.Denied, "was removed")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, z.Uplink(ctx, idOf(5), up), fleet.Unavailable, "")
	})
}

// TestPacketsThroughARelay come with the sender's address, once, and to whom they are for.
func TestPacketsThroughARelay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		gate := hidden(3)
		x, r, z, mute := w.node(1, gate), w.node(2, gate), w.node(3, gate), w.node(4, gate, noRelay)
		type packet struct {
			at   fleet.ID
			from netip.AddrPort
			kind Kind
			text string
		}
		var mu sync.Mutex
		var got []packet
		for _, e := range []*Endpoint{x, r, z, mute} {
			e.SetKeys(testKeys(1))
			for _, kind := range []Kind{KindGossip, KindBell, KindBeacon, KindRelay} {
				e.HandlePackets(kind, func(from netip.AddrPort, payload []byte, _ time.Time) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, packet{e.id, from, kind, string(payload)})
				})
			}
		}
		want := func(p ...packet) {
			t.Helper()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, p) {
				t.Errorf("got %v, want %v", got, p)
			}
			got = nil
		}
		send := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		send(x.SendPacketVia(addrOf(2), z.ID(), KindBell, []byte("lost: there is no uplink yet")))
		wantError(t, r.SendPacketVia(netip.AddrPort{}, z.ID(), KindBell, nil), fleet.NotFound, "keeps no uplink")
		want()
		_, stop := keepUplink(t, z, 2)
		keepUplink(t, z, 4)
		full := strings.Repeat("x", MaxRelayed)
		send(x.SendPacketVia(addrOf(2), z.ID(), KindGossip, []byte(full)))
		want(packet{z.ID(), addrOf(1), KindGossip, full})
		send(r.SendPacketVia(netip.AddrPort{}, z.ID(), KindBell, []byte("of the relay")))
		want(packet{z.ID(), addrOf(2), KindBell, "of the relay"})
		send(x.SendPacketVia(addrOf(2), r.ID(), KindBeacon, []byte("to the relay")))
		want(packet{r.ID(), addrOf(1), KindBeacon, "to the relay"})

		wantError(t, x.SendPacketVia(addrOf(2), z.ID(), KindRelay, nil), fleet.Internal, "not relayed")
		wantError(t, x.SendPacketVia(addrOf(2), z.ID(), KindBell, make([]byte, MaxRelayed+1)), fleet.Exhausted, "at most")
		send(x.SendPacket(addrOf(2), KindRelay, slices.Concat(relayPayload(z.ID(), KindRelay, nil), relayPayload(z.ID(), KindBell, nil)))) // twice
		send(x.SendPacket(addrOf(2), KindRelay, []byte("nonsense")))
		send(x.SendPacketVia(addrOf(4), z.ID(), KindBell, []byte("by one that carries nothing")))
		// Whoever has a Relay connection, and is no uplink's other end, cannot say what some packet was.
		l, err := x.linkTo(t.Context(), destination{id: z.ID(), addr: addrOf(3), plane: Relay}, nil)
		if err == nil {
			t.Error("it can be dialled", l)
		}
		gate.moved(z.ID(), addrOf(3))
		if l, err = x.linkTo(t.Context(), destination{id: z.ID(), plane: Relay}, nil); err != nil {
			t.Fatal(err)
		}
		l.channels.out.push(&l.channels.sealed, passed{addrOf(9), KindBell, []byte("forged")}.datagram())
		want()
		// A relay that does not keep to it is not believed either.
		l = r.pool.uplink(z.ID(), false)
		l.channels.out.push(&l.channels.sealed, passed{addrOf(9), KindRelay, []byte("twice")}.datagram())
		l.channels.out.push(&l.channels.sealed, passed{addrOf(9), 0, []byte("of no kind")}.datagram())
		l.channels.out.push(&l.channels.sealed, passed{addrOf(9), KindBell, []byte("good")}.datagram())
		want(packet{z.ID(), addrOf(9), KindBell, "good"})
		stop()
		time.Sleep(time.Second)
		send(x.SendPacketVia(addrOf(2), z.ID(), KindBell, []byte("too late")))
		l.channels.out.push(&l.channels.sealed, passed{addrOf(9), KindBell, []byte("too late")}.datagram())
		want()
	})
}
