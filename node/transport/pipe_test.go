package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// narrowLine is a connection that takes datagrams up to a size, and keeps them.
type narrowLine struct {
	size int
	sent [][]byte
}

func (n *narrowLine) SendDatagram(d []byte) error {
	if len(d) > n.size {
		return &quic.DatagramTooLargeError{MaxDatagramPayloadSize: int64(n.size)}
	}
	n.sent = append(n.sent, d)
	return nil
}

// gather is a taker that keeps what it takes.
type gather struct{ got []string }

func (g *gather) take(d []byte) { g.got = append(g.got, string(d[datagramHead:])) }

// Whatever the line's size, what is sent arrives whole, in spite of a little disorder, or not at all.
func TestPropertyHalves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := &narrowLine{size: rapid.IntRange(halfHead, 1300).Draw(t, "size")}
		out, in, got := newChannels(nil), newChannels(nil), &gather{}
		in.add(4, got)
		out.serial = uint16(rapid.IntRange(0, 1<<16-1).Draw(t, "serial"))
		var want []string
		for i, size := range rapid.SliceOfN(rapid.IntRange(0, 1500), 1, 20).Draw(t, "packets") {
			packet := bytes.Repeat([]byte{byte(i)}, size)
			d := append(make([]byte, datagramHead), packet...)
			putHead(d, whole, 4)
			if err := out.send(line, d); err != nil {
				t.Fatal(err)
			}
			if fits := len(d) <= line.size || size <= 2*(line.size-halfHead) && len(d) <= maxDatagram; fits {
				want = append(want, string(packet))
			}
		}
		arrived := line.sent
		for i := range len(arrived) - 1 { // neighbours change places
			if rapid.Bool().Draw(t, "swap") {
				arrived[i], arrived[i+1] = arrived[i+1], arrived[i]
			}
		}
		for _, d := range arrived {
			in.arrived(d)
		}
		slices.Sort(got.got)
		slices.Sort(want)
		if !slices.Equal(got.got, want) {
			t.Fatalf("%d of %d packets arrived", len(got.got), len(want))
		}
	})
}

// An outbox is as many queues, each in order and bounded, that take turns; and everybody gets back what they are counted for.
func TestPropertyOutbox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := &tally{limit: int64(rapid.IntRange(1, 30).Draw(t, "all"))}
		of := []*tally{{limit: int64(rapid.IntRange(1, 15).Draw(t, "first")), all: all}, {limit: 15, all: all}}
		o := newOutbox()
		lanes := make([]*lane, 4)
		model := make([][]string, len(lanes))
		gone := make([]bool, len(lanes))
		for i := range lanes {
			lanes[i] = &lane{limit: rapid.IntRange(1, 8).Draw(t, "limit"), tally: of[i%2], space: make(chan struct{}, 1)}
		}
		waiting := func(parity int) (n int) {
			for i, m := range model {
				if parity < 0 || i%2 == parity {
					n += len(m)
				}
			}
			return n
		}
		closed, serial := false, 0
		since := make([]int, len(lanes)) // packets of others since a lane had something and was not served
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				i := rapid.IntRange(0, len(lanes)-1).Draw(t, "lane")
				serial++
				d := fmt.Sprint(serial)
				want := pushedIn
				switch {
				case closed || gone[i]:
					want = pushedClosed
				case len(model[i]) >= lanes[i].limit || waiting(i%2) >= int(of[i%2].limit) || waiting(-1) >= int(all.limit):
					want = pushedFull
				}
				if got := o.push(lanes[i], []byte(d)); got != want {
					t.Fatalf("%d, want %d", got, want)
				}
				if want == pushedIn {
					model[i] = append(model[i], d)
				}
			},
			"pop": func(t *rapid.T) {
				d := o.pop()
				if d == nil {
					if waiting(-1) != 0 {
						t.Fatal("nothing comes out")
					}
					return
				}
				for i := range model {
					if len(model[i]) > 0 && model[i][0] == string(d) {
						model[i], since[i] = model[i][1:], 0
						continue
					}
					if len(model[i]) > 0 {
						since[i]++
					}
					if since[i] >= len(lanes) {
						t.Fatalf("lane %d waits for %d packets of others", i, since[i])
					}
				}
			},
			"drop": func(t *rapid.T) {
				if i := rapid.IntRange(0, 3*len(lanes)).Draw(t, "lane"); i < len(lanes) {
					o.drop(lanes[i])
					gone[i], model[i], since[i] = true, nil, 0
				}
			},
			"close": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "close") == 0 {
					o.close()
					closed = true
					clear(model)
				}
			},
			"": func(t *rapid.T) {
				if int(all.queued.Load()) != waiting(-1) || int(of[0].queued.Load()) != waiting(0) || int(of[1].queued.Load()) != waiting(1) {
					t.Fatalf("%d are counted, %d wait", all.queued.Load(), waiting(-1))
				}
			},
		})
	})
}

// TestLanesTakeTurns: whoever pushed much waits behind whoever pushed little.
func TestLanesTakeTurns(t *testing.T) {
	o, flood, shell := newOutbox(), &lane{limit: 100}, &lane{limit: 100}
	for range 50 {
		o.push(flood, []byte("f"))
	}
	o.pop()
	got := ""
	for range 4 {
		o.push(shell, []byte("s"))
		got += string(o.pop()) + string(o.pop())
	}
	if got != "fsfsfsfs" {
		t.Error(got)
	}
}

func TestPatrons(t *testing.T) {
	p := newPatrons()
	var leaves []func()
	for n := range byte(maxPipes / maxPipesFor) {
		for range maxPipesFor {
			_, leave, err := p.admit(idOf(n), idOf(n))
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
	}
	_, _, err := p.admit(idOf(200), idOf(200))
	wantError(t, err, fleet.Exhausted, "4096 pipes pass")
	leaves[0]()
	leaves[0]()
	if _, _, err = p.admit(idOf(200), idOf(200)); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.admit(idOf(200), idOf(200))
	wantError(t, err, fleet.Exhausted, "4096 pipes pass")
	for _, leave := range leaves {
		leave()
	}
	if p.pipes[party{}] != 1 || len(p.pipes) != 2 || len(p.tallies) != 1 {
		t.Errorf("%v, %d tallies", p.pipes, len(p.tallies))
	}
}

// TestPatronsOfARelay: what one of those takes for whom it asks is taken neither from the others nor from the relay itself; and
// what it makes up, or what others make up of it, has a bound, too.
func TestPatronsOfARelay(t *testing.T) {
	p := newPatrons()
	var leaves []func()
	fill := func(by, from byte) (n int, err error) {
		for {
			_, leave, err := p.admit(idOf(by), idOf(from))
			if err != nil {
				return n, err
			}
			n++
			leaves = append(leaves, leave)
		}
	}
	if n, err := fill(1, 9); n != maxPipesFor || !strings.Contains(err.Error(), "64 pipes of "+idOf(9).String()) {
		t.Errorf("%d pipes for one asker: %v", n, err)
	}
	if n, err := fill(1, 10); n != maxPipesFor {
		t.Errorf("%d pipes for the next: %v", n, err)
	}
	if n, err := fill(1, 1); n != maxPipesFor {
		t.Errorf("%d pipes for the relay itself: %v", n, err)
	}
	for from := byte(11); ; from++ { // made up
		if n, err := fill(1, from); n == 0 {
			wantError(t, err, fleet.Exhausted, "1024 pipes of those for whom "+idOf(1).String())
			break
		}
	}
	if n, err := fill(9, 9); n != maxPipesFor {
		t.Errorf("%d pipes for somebody whose name a relay has used: %v", n, err)
	}
	total := 0
	for by := byte(2); ; by++ { // one asker, many relays
		n, err := fill(by, 8)
		if total += n; n == 0 {
			wantError(t, err, fleet.Exhausted, "256 pipes of "+idOf(8).String())
			break
		}
	}
	if total != maxPipesNamed {
		t.Errorf("%d pipes in one name", total)
	}
	for _, leave := range leaves {
		leave()
		leave()
	}
	if len(p.pipes) != 0 || len(p.tallies) != 0 {
		t.Errorf("left: %v, %d tallies", p.pipes, len(p.tallies))
	}
}

// TestPacketsOfARelay: those of one asker leave room for another of the same relay, those of one relay for another relay, and
// what has left the queues is given back everywhere.
func TestPacketsOfARelay(t *testing.T) {
	p := newPatrons()
	tallyOf := func(by, from byte) *tally {
		t.Helper()
		x, _, err := p.admit(idOf(by), idOf(from))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	queue := func(x *tally) (n int) {
		for x.take() {
			n++
		}
		return n
	}
	first := tallyOf(1, 9)
	if n := queue(first); n != maxCarriedFor {
		t.Errorf("%d packets of one asker wait", n)
	}
	sum := maxCarriedFor
	for from := byte(10); from < 30; from++ {
		sum += queue(tallyOf(1, from))
	}
	if sum != maxCarriedBy {
		t.Errorf("%d packets of one relay wait", sum)
	}
	if n := queue(tallyOf(2, 9)); n != maxCarriedFor {
		t.Errorf("%d packets of the next relay's asker", n)
	}
	first.give(maxCarriedFor)
	if n := queue(tallyOf(1, 31)); n != maxCarriedFor {
		t.Errorf("%d packets have room after those that left", n)
	}
}

func TestOnward(t *testing.T) {
	ids := func(n ...byte) (out []fleet.ID) {
		for _, n := range n {
			out = append(out, idOf(n))
		}
		return out
	}
	if got := onward(append(ids(1, 2, 3, 4, 5, 6), fleet.ID{}), ids(1, 3)...); !slices.Equal(got, ids(2, 4)) {
		t.Error(got)
	}
	if got := onward([]fleet.ID{{}}); len(got) != 0 {
		t.Error(got)
	}
}

func TestPipeAddresses(t *testing.T) {
	a, b, c := pipeAddr(idOf(1), 1), pipeAddr(idOf(1), 2), pipeAddr(idOf(2), 1)
	if a == b || a == c || !piped(a.Addr()) || !piped(c.Addr()) || !netip.MustParsePrefix("100::/64").Contains(a.Addr()) {
		t.Error(a, b, c)
	}
	for _, other := range []string{"1.0.0.0", "::", "::1", "fe80::1", "100:0:0:1::", "2001:db8::1", "::ffff:1.0.0.0"} {
		if piped(netip.MustParseAddr(other)) {
			t.Errorf("%s is no pipe", other)
		}
	}
	if piped(netip.Addr{}) {
		t.Error("no address is a pipe")
	}
}

// piped reports whether an address is a pipe.
func piped(a netip.Addr) bool {
	b := a.As16()
	d := discard().As16()
	return [8]byte(b[:8]) == [8]byte(d[:8])
}

// What is full takes no more pipes, and says so; what was closed takes none.
func TestPipeNet(t *testing.T) {
	n := newPipeNet()
	var pipes []*pipe
	for range maxPipes {
		p := &pipe{peer: idOf(1)}
		if err := n.add(p); err != nil {
			t.Fatal(err)
		}
		pipes = append(pipes, p)
	}
	wantError(t, n.add(&pipe{peer: idOf(2)}), fleet.Exhausted, "4096 pipes end")
	n.remove(pipes[0])
	n.serial = 1<<32 - 1 // it wraps around, and gives no address twice
	p := &pipe{peer: idOf(1)}
	if err := n.add(p); err != nil || slices.ContainsFunc(pipes[1:], func(o *pipe) bool { return o.addr == p.addr }) {
		t.Error(err, p.addr)
	}
	_ = n.SetReadDeadline(time.Now())
	if _, _, err := n.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = n.SetReadDeadline(time.Time{})
	p.in = &inner{net: n}
	p.take([]byte("headpacket"))
	for range 2 * maxArrivals { // and no more wait than may
		p.take([]byte("headpacket"))
	}
	buf := make([]byte, 10)
	if size, from, err := n.ReadFrom(buf); err != nil || string(buf[:size]) != "packet" || addrPort(from) != p.addr {
		t.Error(string(buf[:size]), from, err)
	}
	if _, err := n.WriteTo(nil, net.UDPAddrFromAddrPort(addrOf(1))); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	_ = n.Close()
	if _, _, err := n.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if n.add(&pipe{}) == nil {
		t.Error("a pipe came after the end")
	}
}

func TestWhatNoWayDid(t *testing.T) {
	here, there := way{addr: addrOf(1)}, way{relay: idOf(2)}
	silent := func(w way) *fleet.Error { return noAnswer([]way{w}) }
	no := func(kind fleet.Kind, what string) *fleet.Error { return fleet.Errorf(kind, "%s", what) }
	for name, c := range map[string]struct {
		add  func(f *failures)
		kind fleet.Kind
		want []string
	}{
		"silence":         {func(f *failures) { f.add(here, silent(here)) }, fleet.Unavailable, []string{"no answer from 10.0.0.1:7980/udp (firewall?)"}},
		"a word":          {func(f *failures) { f.add(here, silent(here)); f.add(here, no(fleet.Denied, "no")) }, fleet.Denied, []string{"no"}},
		"a relay":         {func(f *failures) { f.add(there, no(fleet.NotFound, "none")) }, fleet.NotFound, []string{"none"}},
		"two relays":      {func(f *failures) { f.add(there, no(fleet.Unavailable, "none")); f.add(there, silent(there)) }, fleet.Unavailable, []string{"none of 2 relays reaches it", "; none"}},
		"both":            {func(f *failures) { f.add(here, silent(here)); f.add(there, no(fleet.Denied, "none")) }, fleet.Denied, []string{"no answer from 10.0.0.1:7980/udp", "; none"}},
		"a word and both": {func(f *failures) { f.add(here, no(fleet.Invalid, "no")); f.add(there, no(fleet.Denied, "none")) }, fleet.Invalid, []string{"no; none"}},
		"silent relay":    {func(f *failures) { f.add(there, silent(there)) }, fleet.Unavailable, []string{"whoever is behind node"}},
	} {
		var f failures
		c.add(&f)
		err := f.err(nil)
		for _, part := range c.want {
			if fleet.KindOf(err) != c.kind || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v (%v)", name, err, fleet.KindOf(err))
			}
		}
	}
}

// FuzzDatagram: whatever comes on a Relay connection, it reaches the channel that it names or nobody, and costs its own size.
func FuzzDatagram(f *testing.F) {
	d := func(s shape, channel uint32, body string) []byte {
		b := append(make([]byte, datagramHead), body...)
		putHead(b, s, channel)
		return b
	}
	cut := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(p))), p...)
		}
		return out
	}
	f.Add(cut(d(whole, 4, "packet"), d(whole, 8, "nobody's"), d(whole, 0, "sealed")))
	f.Add(cut(d(firstHalf, 4, "\x00\x01pac"), d(secondHalf, 4, "\x00\x01ket")))
	f.Add(cut(d(secondHalf, 4, "\x00\x01ket"), d(firstHalf, 4, "\x00\x02"), d(firstHalf, 4, "\x00\x01pac")))
	f.Add(cut(d(3, 4, "\x00\x01"), d(firstHalf, 4, "\x00"), []byte{0, 0, 0}, nil))
	f.Add(cut(d(firstHalf, 4, "\x00\x01"+strings.Repeat("x", 1400)), d(secondHalf, 4, "\x00\x01"+strings.Repeat("x", 1400))))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, mine, others := newChannels(nil), &gather{}, &gather{}
		c.packed = make(chan []byte, 4)
		c.wanted.Store(len(data)%2 == 0)
		c.add(4, mine)
		c.add(1<<29, others)
		in, wholes, parts := 0, 0, 0
		for len(data) >= 2 {
			size := min(int(binary.BigEndian.Uint16(data)), len(data)-2, 1500)
			d := bytes.Clone(data[2 : 2+size])
			data = data[2+size:]
			if s, channel, ok := parseDatagram(d); ok && channel == 4 {
				in += len(d)
				if s == whole {
					wholes++
				} else {
					parts++
				}
			}
			c.arrived(d)
		}
		out := 0
		for _, p := range mine.got {
			if len(p)+datagramHead > 1500 {
				t.Fatalf("a packet of %d bytes", len(p))
			}
			out += len(p)
		}
		if out > in || len(mine.got) > wholes+parts/2 || len(mine.got) < wholes {
			t.Fatalf("%d bytes in %d packets, %d halves became %d in %d", in, wholes, parts, out, len(mine.got))
		}
		if !c.wanted.Load() && len(c.packed) != 0 {
			t.Fatal("sealed packets are kept for nobody")
		}
	})
}

// FuzzSplit: what is split is put together again, and the pieces fit.
func FuzzSplit(f *testing.F) {
	f.Add(make([]byte, 1204), uint16(1195), uint16(1), false)
	f.Add(make([]byte, 1204), uint16(605), uint16(65535), true)
	f.Add([]byte{0, 0, 0, 4}, uint16(0), uint16(1), true)
	f.Fuzz(func(t *testing.T, d []byte, size, serial uint16, reversed bool) {
		if s, _, ok := parseDatagram(d); !ok || s != whole || len(d) > maxDatagram {
			return
		}
		pieces := split(d, int(size), serial)
		if len(pieces) == 0 {
			if int(size) > halfHead && len(d)-datagramHead <= 2*(int(size)-halfHead) {
				t.Fatal("not split")
			}
			return
		}
		if reversed {
			slices.Reverse(pieces)
		}
		var h halves
		for i, p := range pieces {
			if len(p) > int(size) {
				t.Fatalf("%d bytes do not fit into %d", len(p), size)
			}
			joined := h.join(p)
			if i == 0 && joined != nil || i == 1 && !bytes.Equal(joined, d) {
				t.Fatalf("%d: %x", i, joined)
			}
		}
	})
}

func FuzzPassed(f *testing.F) {
	f.Add(passed{addrOf(1), KindBell, []byte("x")}.datagram()[datagramHead:])
	f.Add(passed{netip.MustParseAddrPort("[fd00::1]:7980"), KindGossip, make([]byte, MaxRelayed)}.datagram()[datagramHead:])
	f.Add(passed{kind: KindBell}.datagram()[datagramHead:])
	f.Add(passed{kind: KindRelay}.datagram()[datagramHead:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		p, ok := parsePassed(body)
		if !ok {
			return
		}
		if p.kind == KindRelay || p.kind == 0 || p.kind > maxKind || len(p.payload) > MaxRelayed || p.from.Addr().Is4In6() {
			t.Fatalf("%+v", p)
		}
		again, ok := parsePassed(p.datagram()[datagramHead:])
		if !ok || again.from != p.from || again.kind != p.kind || !bytes.Equal(again.payload, p.payload) {
			t.Fatalf("%+v is passed on as %+v", p, again)
		}
		if len(p.datagram()) > MaxPacket-1-20-tagSize {
			t.Fatal("it needs halves")
		}
	})
}

func FuzzRelayPayload(f *testing.F) {
	f.Add(relayPayload(idOf(1), KindBell, []byte("x")))
	f.Add(relayPayload(idOf(1), KindGossip, make([]byte, MaxRelayed)))
	f.Add(relayPayload(idOf(1), KindRelay, nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		to, kind, payload, ok := parseRelayPayload(body)
		if !ok {
			return
		}
		if kind == KindRelay || kind == 0 || kind > maxKind || len(body) > MaxPayload || !bytes.Equal(relayPayload(to, kind, payload), body) {
			t.Fatalf("%s %d %x", to, kind, payload)
		}
	})
}

func FuzzRelayFrame(f *testing.F) {
	f.Add(relayAsk, make([]byte, 32))
	f.Add(relayAskFor, make([]byte, 64))
	f.Add(relayOffer, make([]byte, 31))
	f.Add(byte(9), []byte{})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		ids, err := idsOf(kind, body)
		if err != nil {
			return
		}
		var back []byte
		for _, id := range ids {
			back = append(back, id[:]...)
		}
		if want := map[byte]int{relayAsk: 1, relayAskFor: 2, relayOffer: 1}[kind]; len(ids) != want || !bytes.Equal(back, body) {
			t.Fatalf("%d IDs", len(ids))
		}
	})
}

// TestMemoryOfRelays: what comes to a relay, or by one, costs what it weighs.
func TestMemoryOfRelays(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	bound := hostile.Bound{Base: 16 << 10, PerByte: 4}
	hostile.Check(t, bound, func(in []byte) { _, _ = parsePassed(in) }, hostile.Inputs(2*MaxPacket, passed{addrOf(1), KindBell, []byte("x")}.datagram()[datagramHead:]))
	hostile.Check(t, bound, func(in []byte) { _, _, _, _ = parseRelayPayload(in) }, hostile.Inputs(2*MaxPacket, relayPayload(idOf(1), KindBell, []byte("x"))))
	hostile.Check(t, bound, func(in []byte) { _, _ = idsOf(relayAskFor, in) }, hostile.Inputs(4<<10, make([]byte, 64)))
	c := newChannels(nil)
	c.add(4, &passage{out: newOutbox(), lane: lane{limit: carryQueue}, channel: 8})
	half := make([]byte, 1000)
	putHead(half, firstHalf, 4)
	hostile.Check(t, bound, c.arrived, hostile.Inputs(2*MaxPacket, half))
}
