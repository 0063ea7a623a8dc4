package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// hidden makes nodes such that nobody can dial them: their addresses are not known.
func hidden(nodes ...byte) *book {
	b := newBook()
	for _, n := range nodes {
		b.moved(idOf(n))
	}
	return b
}

// through has every node be reached through relays.
func through(relays ...byte) func(*Config) {
	return func(c *Config) {
		c.Relays = func(fleet.ID) []fleet.ID {
			var ids []fleet.ID
			for _, n := range relays {
				ids = append(ids, idOf(n))
			}
			return ids
		}
	}
}

func noRelay(c *Config)   { c.NoRelay = true }
func onlyDials(c *Config) { c.DialOnly = true }

// keepUplink holds an uplink until the test ends, and returns once the relay knows of it.
func keepUplink(t testing.TB, e *Endpoint, to byte) (ended chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	up := make(chan struct{})
	ended = make(chan error, 1)
	go func() { ended <- e.Uplink(ctx, idOf(to), func() { close(up) }) }()
	select {
	case <-up:
	case err := <-ended:
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // until the relay has heard of it
	return ended, cancel
}

// settled fails unless nothing of pipes is left at some nodes.
func settled(t *testing.T, nodes ...*Endpoint) {
	t.Helper()
	for _, e := range nodes {
		if in := e.inner; in != nil {
			in.net.mu.Lock()
			if n := len(in.net.byAddr); n != 0 {
				t.Errorf("%s: %d pipes are left", e.id, n)
			}
			if n := len(in.net.unused); n != 0 {
				t.Errorf("%s: %d of the unused are left", e.id, n)
			}
			in.net.mu.Unlock()
		}
		e.patrons.mu.Lock()
		if len(e.patrons.pipes) != 0 || len(e.patrons.tallies) != 0 || e.patrons.all.queued.Load() != 0 {
			t.Errorf("%s: %d pipes of %d patrons are carried, %d packets", e.id, e.patrons.pipes[party{}], len(e.patrons.tallies), e.patrons.all.queued.Load())
		}
		e.patrons.mu.Unlock()
		e.pool.mu.Lock()
		for _, links := range e.pool.links {
			for _, l := range links {
				if l.channels == nil {
					continue
				}
				l.channels.mu.Lock()
				if n := len(l.channels.takers); n != 0 {
					t.Errorf("%s: %d channels are left", e.id, n)
				}
				l.channels.mu.Unlock()
			}
		}
		e.pool.mu.Unlock()
	}
}

// TestPipe reaches a node that nobody can dial: from elsewhere, from its relay, and with a relay between.
func TestPipe(t *testing.T) {
	for name, c := range map[string]struct {
		from, relays byte
		by           byte
	}{
		"through the relay": {from: 1, by: 2},
		"from the relay":    {from: 2, by: 2},
		"with one between":  {from: 4, by: 5},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
				gate := hidden(3)
				ends := map[byte]*Endpoint{1: w.node(1, gate, through(2)), 2: w.node(2, gate, through(2)), 3: w.node(3, gate),
					4: w.node(4, gate, through(5)), 5: w.node(5, gate, through(5, 2))}
				z, x := ends[3], ends[c.from]
				z.Handle(Session, func(s *Stream) {
					if by, ok := s.Relay(); !ok || by != idOf(2) || s.Peer() != x.ID() || !piped(s.Addr().Addr()) {
						t.Errorf("the far end sees %s through %s (%v) at %s", s.Peer(), by, ok, s.Addr())
					}
					echoBytes(s)
				})
				_, stop := keepUplink(t, z, 2)
				s, err := x.Open(t.Context(), z.ID(), Session)
				if err != nil {
					t.Fatal(err)
				}
				if by, ok := s.Relay(); !ok || by != idOf(c.by) || s.Peer() != z.ID() {
					t.Fatalf("%s through %s (%v)", s.Peer(), by, ok)
				}
				pass(t, s, strings.Repeat("0123456789abcdef", 1<<10))
				z.inner.net.mu.Lock()
				if n := len(z.inner.net.unused); n != 0 {
					t.Errorf("%d pipes at the far end are taken for unused", n)
				}
				z.inner.net.mu.Unlock()
				_ = s.Close()
				mustAsk(t, x, z.ID())
				for _, e := range ends {
					if slices.ContainsFunc(e.Observed(), func(a netip.AddrPort) bool { return piped(a.Addr()) }) {
						t.Errorf("%s believes itself at %s", e.id, e.Observed())
					}
				}
				// The hidden node may dial, and then that connection serves both ways.
				mustAsk(t, z, x.ID())
				time.Sleep(time.Second)
				if s, err = x.Open(t.Context(), z.ID(), Peer); err != nil {
					t.Fatal(err)
				}
				if by, ok := s.Relay(); ok {
					t.Errorf("a direct connection is there, and it goes through %s", by)
				}
				_, _, _ = s.Ask(t.Context(), 1, nil)
				time.Sleep(time.Minute)
				stop()
				settled(t, ends[1], ends[2], ends[3], ends[4], ends[5])
			})
		})
	}
}

// TestDirectFirst: a relay is asked only where the address does not do, and at once where there is none.
func TestDirectFirst(t *testing.T) {
	for name, c := range map[string]struct {
		addrs    []netip.AddrPort
		cut      bool
		relayed  bool
		at, till time.Duration
	}{
		"the address does":         {addrs: []netip.AddrPort{addrOf(3)}, till: 100 * time.Millisecond},
		"there is none":            {relayed: true, till: 300 * time.Millisecond},
		"nobody answers":           {addrs: []netip.AddrPort{addrOf(3)}, cut: true, relayed: true, at: relayFirst, till: relayFirst + 300*time.Millisecond},
		"somebody else is there":   {addrs: []netip.AddrPort{addrOf(4)}, relayed: true, till: 400 * time.Millisecond},
		"the second address does":  {addrs: []netip.AddrPort{addrOf(9), addrOf(3)}, till: 400 * time.Millisecond},
		"none of two does":         {addrs: []netip.AddrPort{addrOf(9), addrOf(8)}, relayed: true, at: relayFirst, till: relayFirst + 300*time.Millisecond},
		"too many that do nothing": {addrs: slices.Repeat([]netip.AddrPort{addrOf(9)}, 20), relayed: true, at: relayFirst, till: relayFirst + 300*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
				gate := newBook()
				gate.moved(idOf(3), c.addrs...)
				x, z := w.node(1, gate, through(2)), w.node(3, gate)
				w.node(2, gate)
				w.node(4, gate)
				keepUplink(t, z, 2)
				if c.cut {
					w.Change(func(o *fabric.Options) {
						o.Partition = func(from, to netip.AddrPort) bool { return from == addrOf(1) && to == addrOf(3) }
					})
				}
				began := time.Now()
				s, err := x.Open(t.Context(), z.ID(), Peer)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if _, ok := s.Relay(); ok != c.relayed {
					t.Errorf("relayed: %v", ok)
				}
				if took := time.Since(began); took < c.at || took > c.till {
					t.Errorf("that took %s", took)
				}
			})
		})
	}
}

func TestNoPipe(t *testing.T) {
	for name, c := range map[string]struct {
		relay func(*Config)
		gate  func(*book)
		to    byte
		kind  fleet.Kind
		part  string
	}{
		"it keeps no uplink":     {to: 4, kind: fleet.Unavailable, part: "through node " + idOf(2).String() + ": node " + idOf(4).String() + " keeps no uplink"},
		"not a relay":            {to: 3, relay: noRelay, kind: fleet.Denied, part: "carries nothing for others"},
		"the far one is removed": {to: 3, gate: func(b *book) { b.bar(idOf(3)) }, kind: fleet.Denied, part: "was removed"},
		"the asker is removed":   {to: 3, gate: func(b *book) { b.bar(idOf(1)) }, kind: fleet.Denied, part: "does not let this node speak"},
		"to the relay itself":    {to: 2, kind: fleet.Unavailable, part: "no address known"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
				near, far := hidden(3, 4), hidden(3, 4)
				edit := c.relay
				if edit == nil {
					edit = func(*Config) {}
				}
				x, r, z := w.node(1, near, through(2)), w.node(2, far, edit), w.node(3, newBook())
				if c.to == 2 {
					near.moved(idOf(2))
				}
				keepUplink(t, z, 2)
				if c.gate != nil {
					if c.to != 2 {
						s, err := x.Open(t.Context(), r.ID(), Relay) // so that it is the stream that is judged
						if err != nil {
							t.Fatal(err)
						}
						defer s.Close()
					}
					c.gate(far)
				}
				began := time.Now()
				_, err := ask(t.Context(), x, idOf(c.to), "x")
				wantError(t, err, c.kind, c.part)
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s to say so", took)
				}
				time.Sleep(time.Minute)
				settled(t, x, r)
			})
		})
	}
}

// TestARelayLiesAboutWhoIsThere: it joins the asker with another node, and that one cannot be taken for who was wanted.
func TestARelayLiesAboutWhoIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3, 4)
		x, r, z, other := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate), w.node(4, gate)
		keepUplink(t, z, 2)
		keepUplink(t, other, 2)
		r.streams[Relay] = func(s *Stream) {
			_, _, _ = s.ReadFrame()
			far, err := r.offerPipe(t.Context(), other.ID(), s.Peer())
			if err == nil {
				err = splice(s, far, &r.patrons.all)
			}
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.WriteFrame(relayAccept, nil)
		}
		_, err := ask(t.Context(), x, z.ID(), "secret")
		wantError(t, err, fleet.Unavailable, "node "+other.ID().String()+" answers there, not "+z.ID().String())
	})
}

// TestARelayLiesAboutWhoAsks: whoever speaks through a pipe is the one for whom it was offered.
func TestARelayLiesAboutWhoAsks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3)
		x, r, z := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate)
		keepUplink(t, z, 2)
		r.streams[Relay] = func(s *Stream) {
			_, _, _ = s.ReadFrame()
			far, err := r.offerPipe(t.Context(), z.ID(), idOf(9))
			if err == nil {
				err = splice(s, far, &r.patrons.all)
			}
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.WriteFrame(relayAccept, nil)
		}
		_, err := ask(t.Context(), x, z.ID(), "x")
		wantError(t, err, fleet.Denied, "the pipe is with node "+idOf(9).String())
	})
}

// TestTheFarEndJudges: what is asked through a pipe is admitted, and refused, as on the socket, and its word arrives.
func TestTheFarEndJudges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 20 * time.Millisecond})
		gate, far := hidden(3), hidden(3)
		x, z := w.node(1, gate, through(2)), w.node(3, far)
		w.node(2, gate)
		keepUplink(t, z, 2)
		far.admit = func(peer fleet.ID, plane Plane, _ []byte) error {
			if plane == Peer && peer == x.ID() {
				return fleet.Errorf(fleet.Denied, "web07 was removed")
			}
			return nil
		}
		_, err := ask(t.Context(), x, z.ID(), "x")
		wantError(t, err, fleet.Denied, "refused: web07 was removed")

		s, err := x.Open(t.Context(), z.ID(), Bulk)
		if err != nil {
			t.Fatal(err)
		}
		z.Drop(x.ID(), "web07 is gone")
		_, err = s.Read(make([]byte, 1))
		wantError(t, err, fleet.Denied, "refused: web07 is gone")
	})
}

// TestNoPipeThroughAPipe: neither end lets a connection of the Relay or Join plane come by a pipe.
func TestNoPipeThroughAPipe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3)
		x, z := w.node(1, gate, through(2)), w.node(3, gate)
		w.node(2, gate)
		keepUplink(t, z, 2)
		for _, plane := range []Plane{Relay, Join} {
			_, err := x.Open(t.Context(), z.ID(), plane)
			wantError(t, err, fleet.Unavailable, "no address known")
			_, err = x.dialPipe(t.Context(), idOf(2), destination{id: z.ID(), plane: plane})
			if tls, ok := errors.AsType[*quic.TransportError](err); !ok || !tls.Remote || tls.ErrorCode != alertNoALPN {
				t.Errorf("%s came by a pipe: %v", plane, err)
			}
		}
	})
}

// TestRelaysThatNameEachOther end after two: nothing goes in circles.
func TestRelaysThatNameEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3)
		var ends []*Endpoint
		for n := range byte(5) {
			if n != 3 {
				ends = append(ends, w.node(n, gate, through(0, 1, 2, 4)))
			}
		}
		_, err := ask(t.Context(), ends[0], idOf(3), "x")
		wantError(t, err, fleet.Unavailable, "keeps no uplink")
		if sent := w.Counts().Sent; sent > 2000 {
			t.Errorf("%d packets for one question", sent)
		}
		time.Sleep(time.Minute)
		settled(t, ends...)
		before := w.Counts().Sent
		time.Sleep(time.Hour)
		if n := w.Counts().Sent - before; n != 0 {
			t.Errorf("%d packets afterwards", n)
		}
	})
}

// TestFramesOfARelay that make no sense are refused with a word.
func TestFramesOfARelay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := newBook()
		x, r := w.node(1, gate), w.node(2, gate)
		self, me := r.ID(), x.ID()
		for name, c := range map[string]struct {
			kind byte
			body []byte
			part string
		}{
			"kind":             {9, nil, "knows no frame 9"},
			"short":            {relayAsk, self[:31], "31 bytes"},
			"long":             {relayAskFor, make([]byte, 65), "65 bytes"},
			"to the relay":     {relayAsk, self[:], "no pipe is needed"},
			"to oneself":       {relayAsk, me[:], "no pipe is needed"},
			"for the relay":    {relayAskFor, slices.Concat(make([]byte, 32), self[:]), "no pipe is needed"},
			"for its end":      {relayAskFor, make([]byte, 64), "no pipe is needed"},
			"from the far end": {relayOffer, self[:], "takes no pipe"},
		} {
			s, err := x.Open(t.Context(), r.ID(), Relay)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = s.Ask(t.Context(), c.kind, c.body)
			if err == nil || !strings.Contains(err.Error(), c.part) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Whoever says nothing is let go.
		s, err := x.Open(t.Context(), r.ID(), Relay)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte{0})
		began := time.Now()
		_, _, _ = s.ReadFrame()
		if took := time.Since(began); took > 2*handshakeTimeout {
			t.Errorf("a relay waits %s for a frame", took)
		}
		_ = s.Close()
	})
}

// TestACommandLineIsNoRelay, and nobody can have a pipe to it.
func TestACommandLineIsNoRelay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(1, 3)
		a, r := w.node(1, gate, onlyDials, through(2)), w.node(2, gate)
		z := w.node(3, gate)
		keepUplink(t, z, 2)
		mustAsk(t, a, z.ID()) // it has a Relay connection now
		for name, c := range map[string][]fleet.ID{"ask": {z.ID()}, "offer": {r.ID()}} {
			s, err := r.Open(t.Context(), a.ID(), Relay)
			if err != nil {
				t.Fatal(err)
			}
			kind := relayAsk
			if name == "offer" {
				kind = relayOffer
			}
			if err := s.agree(t.Context(), kind, c...); fleet.KindOf(err) != fleet.Denied {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := a.Uplink(t.Context(), r.ID(), func() {}); err == nil {
			t.Error("it keeps an uplink")
		}
	})
}

// TestOneAskerHasSoManyPipes, gets no more, and gets them back.
func TestOneAskerHasSoManyPipes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		gate := hidden(3)
		x, r, z, y := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate), w.node(4, gate, through(2))
		keepUplink(t, z, 2)
		var open []*Stream
		for range maxPipesFor {
			s, err := x.askPipe(t.Context(), r.ID(), z.ID())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
		}
		_, err := x.askPipe(t.Context(), r.ID(), z.ID())
		wantError(t, err, fleet.Exhausted, "64 pipes of")
		mustAsk(t, y, z.ID()) // others pay nothing for it
		for _, s := range open {
			_ = s.Close()
		}
		time.Sleep(time.Second)
		mustAsk(t, x, z.ID())
		time.Sleep(time.Minute)
		settled(t, x, r, z, y)
	})
}

// TestTwoAskersLeaveRoom: they have all the pipes they may have to one node, and a third still gets through to it.
func TestTwoAskersLeaveRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		gate := hidden(3)
		r, z := w.node(2, gate), w.node(3, gate)
		keepUplink(t, z, 2)
		for _, n := range []byte{5, 6} {
			x := w.node(n, gate, through(2))
			for range maxPipesFor {
				if _, err := x.askPipe(t.Context(), r.ID(), z.ID()); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustAsk(t, w.node(7, gate, through(2)), z.ID())
	})
}

// TestOneAskerThroughTwoRelays leaves the second to whoever else comes to it through the first.
func TestOneAskerThroughTwoRelays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		gate := hidden(3)
		x, first, second, z := w.node(1, gate, through(5)), w.node(5, gate, through(2)), w.node(2, gate), w.node(3, gate)
		y := w.node(7, gate, through(5))
		keepUplink(t, z, 2)
		var open []*Stream
		for range maxPipesFor {
			s, err := x.askPipe(t.Context(), first.ID(), z.ID())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
		}
		_, err := x.askPipe(t.Context(), first.ID(), z.ID())
		wantError(t, err, fleet.Exhausted, "64 pipes of")
		mustAsk(t, y, z.ID())
		for _, s := range open {
			_ = s.Close()
		}
		time.Sleep(time.Minute)
		settled(t, x, first, second, z, y)
	})
}

// members is a gate that knows who is a member.
type members struct {
	*book
	ids []fleet.ID
}

func (m members) MayCarry(peer fleet.ID) error {
	if !slices.Contains(m.ids, peer) {
		return fleet.Errorf(fleet.Denied, "no member")
	}
	return nil
}

// TestOnlyMembersCarry: an operator, whom any relay serves, neither brings pipes nor asks for them in another's name.
func TestOnlyMembersCarry(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3)
		judged := func(c *Config) { c.Gate = members{gate, []fleet.ID{idOf(2), idOf(3), idOf(5)}} }
		x, r, z := w.node(1, gate, through(5)), w.node(2, gate, judged), w.node(3, gate, judged)
		w.node(5, gate, judged, through(2))
		keepUplink(t, z, 2)
		for name, c := range map[string]struct {
			kind byte
			ids  []fleet.ID
		}{
			"offer":             {relayOffer, []fleet.ID{idOf(9)}},
			"in its own name":   {relayOffer, []fleet.ID{x.ID()}},
			"for another":       {relayAskFor, []fleet.ID{z.ID(), idOf(9)}},
			"for itself as one": {relayAskFor, []fleet.ID{z.ID(), x.ID()}},
		} {
			s, err := x.Open(t.Context(), r.ID(), Relay)
			if err != nil {
				t.Fatal(err)
			}
			if err = s.agree(t.Context(), c.kind, c.ids...); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "no member") {
				t.Errorf("%s: %v", name, err)
			}
		}
		mustAsk(t, x, z.ID()) // members carry for it, two on end
		time.Sleep(time.Minute)
		settled(t, x, r, z)
	})
}

// nothing hears nothing, so that handshakes never end.
type nothing struct{}

func (nothing) take([]byte) {}

// TestHalfOpenThroughPipes: a member that names askers who are not there, and begins a connection in the name of each, keeps
// nobody else out, neither by the socket nor by another's pipe; and it has a bound of pipes that carry nothing.
func TestHalfOpenThroughPipes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3)
		x, z, r := w.node(1, newBook()), w.node(3, gate), w.node(2, gate, through(2))
		keepUplink(t, z, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		limits, _ := Session.limits()
		cfg := clientQUIC(Session, limits)
		narrow(cfg)
		var dials sync.WaitGroup
		taken := 0
		for n := range 600 {
			from := fleet.Sum([]byte{byte(n), byte(n >> 8)})
			s, err := x.Open(ctx, z.ID(), Relay)
			if err != nil {
				t.Fatal(err)
			}
			if err = s.agree(ctx, relayOffer, from); err != nil {
				wantError(t, err, fleet.Exhausted, "carry nothing")
				break
			}
			taken++
			p, err := x.newPipe(s, from, z.ID(), time.Hour, func() {})
			if err != nil {
				t.Fatal(err)
			}
			s.link.channels.add(p.channel, nothing{})
			dials.Go(func() {
				_, _ = p.in.transport.Dial(ctx, net.UDPAddrFromAddrPort(p.addr), clientTLS(x.leaf, Session, z.ID()), cfg)
			})
		}
		if taken != maxUnusedBy {
			t.Errorf("%d pipes that carry nothing", taken)
		}
		time.Sleep(100 * time.Millisecond)
		z.door.mu.Lock()
		half, sockets := z.door.piped[party{}], z.door.halfOpen
		z.door.mu.Unlock()
		if half != maxHalfOpenBy || sockets != 0 {
			t.Errorf("half open: %d by pipes, %d by the socket", half, sockets)
		}
		mustAsk(t, w.node(4, newBook()), z.ID())        // by the socket
		mustAsk(t, w.node(6, gate, through(2)), z.ID()) // by an honest relay
		mustAsk(t, r, z.ID())                           // as does that itself
		cancel()
		dials.Wait()
		time.Sleep(time.Minute)
		settled(t, z)
		if len(z.door.piped) != 0 {
			t.Errorf("half open for ever: %v", z.door.piped)
		}
	})
}

// TestAPipeThatNobodyUses is let go by the one to whom it was offered.
func TestAPipeThatNobodyUses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		gate := hidden(3)
		x, r, z := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate)
		keepUplink(t, z, 2)
		s, err := x.askPipe(t.Context(), r.ID(), z.ID())
		if err != nil {
			t.Fatal(err)
		}
		<-s.Context().Done()
		_ = s.Close()
		time.Sleep(time.Second)
		settled(t, x, r, z)
	})
}

// death is how a relay ends.
type death func(w network, relay *Endpoint)

func inOrder(_ network, relay *Endpoint) { _ = relay.Close() }

// cutOff is a relay that loses its network: nobody is told.
func cutOff(w network, relay *Endpoint) {
	at := relay.LocalAddr()
	w.Change(func(o *fabric.Options) {
		was := o.Partition
		o.Partition = func(from, to netip.AddrPort) bool { return from == at || to == at || was != nil && was(from, to) }
	})
}

// TestARelayDies in the middle: what went through it ends soon, and the next dial takes the other relay.
func TestARelayDies(t *testing.T) {
	for name, c := range map[string]struct {
		die    death
		within time.Duration
	}{
		"in order": {inOrder, time.Second},
		"cut off":  {cutOff, relayKeepAlive + (relayPings+1)*relayAgain},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
				gate := hidden(3)
				x, z := w.node(1, gate, through(2, 4)), w.node(3, gate)
				relays := map[fleet.ID]*Endpoint{idOf(2): w.node(2, gate), idOf(4): w.node(4, gate)}
				z.Handle(Session, echoBytes)
				keepUplink(t, z, 2)
				keepUplink(t, z, 4)
				s, err := x.Open(t.Context(), z.ID(), Session)
				if err != nil {
					t.Fatal(err)
				}
				pass(t, s, "first")
				by, _ := s.Relay()
				if by != idOf(2) {
					t.Fatal("the best relay was not taken")
				}
				c.die(w, relays[by])
				began := time.Now()
				_, err = s.Read(make([]byte, 1))
				wantError(t, err, fleet.Unavailable, "lost contact")
				if took := time.Since(began); took > c.within {
					t.Errorf("it was noticed after %s", took)
				}
				_ = s.Close()
				began = time.Now()
				s, err = x.Open(t.Context(), z.ID(), Session)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > relayFirst+time.Second {
					t.Errorf("the other relay was taken after %s", took)
				}
				pass(t, s, "second")
				if by, _ := s.Relay(); by != idOf(4) {
					t.Errorf("through %s", by)
				}
				_ = s.Close()
			})
		})
	}
}

// TestTheFarEndDies: the asker learns of it through the relay, and the relay holds nothing for it.
func TestTheFarEndDies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond})
		gate := hidden(3)
		x, r, z := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate)
		z.Handle(Session, echoBytes)
		keepUplink(t, z, 2)
		s, err := x.Open(t.Context(), z.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, s, "first")
		cutOff(w, z)
		began := time.Now()
		_, err = s.Read(make([]byte, 1))
		wantError(t, err, fleet.Unavailable, "lost contact")
		if took := time.Since(began); took > relayKeepAlive+(relayPings+1)*relayAgain {
			t.Errorf("it was noticed after %s", took)
		}
		_ = s.Close()
		time.Sleep(2 * time.Second)
		settled(t, x, r)
		_, err = ask(t.Context(), x, z.ID(), "x")
		wantError(t, err, fleet.Unavailable, "keeps no uplink")
	})
}

// TestRoundTripsOfAPipe counts what a pipe costs before the first byte: with the relay at half the way, to its uplink that has
// been silent for a while.
func TestRoundTripsOfAPipe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const roundTrip = 100 * time.Millisecond // over both hops
		w := newNetwork(t, fabric.Options{Latency: roundTrip / 4})
		gate := hidden(3)
		x, z := w.node(1, gate, through(2)), w.node(3, gate)
		w.node(2, gate)
		keepUplink(t, z, 2)
		time.Sleep(10 * time.Second)
		for _, c := range []struct {
			plane Plane
			most  time.Duration
		}{
			{Bulk, 5 * roundTrip}, // half for TLS and half for the hello with the relay; the pipe; TLS, hello, and question
			{Peer, 4 * roundTrip}, // the relay is known
			{Peer, 1 * roundTrip}, // all is there
		} {
			began := time.Now()
			if _, _, err := x.Request(t.Context(), z.ID(), c.plane, 1, nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > c.most+c.most/20 {
				t.Errorf("%s: %s", c.plane, took)
			}
		}
	})
}

// TestBulkThroughAPipe moves much, both ways at once, over a network that loses and delays.
func TestBulkThroughAPipe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 10 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.005, Duplicate: 0.005})
		gate := hidden(3)
		x, r, z := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate)
		keepUplink(t, z, 2)
		const size = 2 << 20
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		sums := make(chan [32]byte, 1)
		z.Handle(Session, func(s *Stream) {
			defer s.Close()
			var down sync.WaitGroup
			down.Go(func() { _, _ = s.Write(data); _ = s.CloseWrite() })
			sum := sha256.New()
			_, _ = io.Copy(sum, s)
			sums <- [32]byte(sum.Sum(nil))
			down.Wait()
		})
		s, err := x.Open(t.Context(), z.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = s.Write(data); _ = s.CloseWrite() }()
		back, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%d bytes came, %v", len(back), err)
		}
		if <-sums != sha256.Sum256(data) {
			t.Error("what arrived is not what was sent")
		}
		_ = s.Close()
		time.Sleep(time.Minute)
		settled(t, x, r, z)
	})
}

// TestASlowEndSlowsNobodyElse: a relay's connection to one node is stuck while much is sent to it, and another's pipe is as
// quick as before.
func TestASlowEndSlowsNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 5 * time.Millisecond, Queue: 1 << 16})
		gate := hidden(3, 4)
		x, y, r, slow, quick := w.node(1, gate, through(2)), w.node(5, gate, through(2)), w.node(2, gate), w.node(3, gate), w.node(4, gate)
		slow.Handle(Session, func(s *Stream) { _, _ = io.Copy(io.Discard, s); _ = s.Close() })
		quick.Handle(Session, echoBytes)
		keepUplink(t, slow, 2)
		keepUplink(t, quick, 2)
		flood, err := x.Open(t.Context(), slow.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		echo, err := y.Open(t.Context(), quick.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, echo, "first")
		var flooding sync.WaitGroup
		flooding.Go(func() { _, _ = flood.Write(make([]byte, 64<<20)) })
		time.Sleep(100 * time.Millisecond)
		cutOff(w, slow)
		hose := x.pool.best(slow.ID(), Session).pipe // and it does not care for loss
		flooding.Go(func() {
			for hose.stream.Context().Err() == nil {
				d := make([]byte, 1000)
				putHead(d, whole, hose.channel)
				if hose.stream.link.conn.SendDatagram(d) != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		worst, most := time.Duration(0), int64(0)
		for range 30 {
			began := time.Now()
			pass(t, echo, "x")
			worst = max(worst, time.Since(began))
			most = max(most, r.patrons.all.queued.Load())
			time.Sleep(50 * time.Millisecond)
		}
		if worst > 200*time.Millisecond {
			t.Errorf("an echo took %s", worst)
		}
		if most > carryQueue || most < carryQueue/2 {
			t.Errorf("%d packets waited", most)
		}
		x.Drop(slow.ID(), "enough")
		time.Sleep(pipeLinger + 200*time.Millisecond)
		if n := r.patrons.all.queued.Load(); n != 0 || r.pool.uplink(slow.ID(), false) == nil {
			t.Errorf("%d packets wait for nobody", n)
		}
		flooding.Wait()
		_ = flood.Close()
		_ = echo.Close()
	})
}

// TestADatagramBeforeTheHello puts a stranger out: what they send would fill the queues of all connections.
func TestADatagramBeforeTheHello(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		b := w.node(2, newBook())
		a := w.node(1, newBook())
		for _, plane := range []Plane{Relay, Peer} {
			cfg := commonQUIC()
			cfg.EnableDatagrams = true
			conn, err := a.transport.Dial(t.Context(), net.UDPAddrFromAddrPort(addrOf(2)), clientTLS(a.leaf, plane, b.ID()), cfg)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s, _ := conn.OpenStream()
			_, _ = s.Write([]byte{0}) // so that it is welcomed
			_ = conn.SendDatagram(make([]byte, 1000))
			<-conn.Context().Done()
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("it was put out after %s", took)
			}
			if _, ok := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context())); !ok {
				t.Error(context.Cause(conn.Context()))
			}
		}
	})
}

// TestDatagramsThatBelongNowhere cost nothing, and end nothing.
func TestDatagramsThatBelongNowhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := hidden(3)
		x, r, z := w.node(1, gate, through(2)), w.node(2, gate), w.node(3, gate)
		z.Handle(Session, echoBytes)
		keepUplink(t, z, 2)
		s, err := x.Open(t.Context(), z.ID(), Session)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, s, "first")
		l := x.pool.dialled(r.ID(), Relay)
		var sent atomic.Int32
		for channel := range uint32(200) {
			for sh := range shape(4) {
				d := make([]byte, halfHead+100)
				putHead(d, sh, channel)
				if l.conn.SendDatagram(d) == nil {
					sent.Add(1)
				}
			}
		}
		_ = l.conn.SendDatagram(nil)
		_ = l.conn.SendDatagram([]byte{0, 0, 0})
		synctest.Wait()
		if sent.Load() == 0 {
			t.Error("nothing was sent")
		}
		pass(t, s, "still here")
		_ = s.Close()
	})
}
