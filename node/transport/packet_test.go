package transport

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

func testKeys(send uint32, accept ...uint32) Keys {
	k := Keys{Send: send, Accept: map[uint32][32]byte{}}
	for _, epoch := range append(accept, send) {
		k.Accept[epoch] = [32]byte{byte(epoch), 1}
	}
	return k
}

func newSealer(salt byte, keys Keys) *sealer {
	s := &sealer{fleet: testFleet, salt: [saltSize]byte{salt}}
	s.use(keys)
	return s
}

func mustSeal(t testing.TB, s *sealer, payload string) []byte {
	t.Helper()
	p, err := s.seal(KindBell, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func opens(o *opener, packet []byte) bool {
	_, _, ok := o.open(packet)
	return ok
}

func TestSealAndOpen(t *testing.T) {
	s, o := newSealer(1, testKeys(1)), newOpener(testFleet)
	o.use(testKeys(1))
	for _, size := range []int{0, 1, 250, MaxPayload} {
		want := bytes.Repeat([]byte{7}, size)
		packet, err := s.seal(KindGossip, want)
		if err != nil {
			t.Fatal(err)
		}
		if len(packet) > MaxPacket || packet[0] >= 0x40 || size > 8 && bytes.Contains(packet, want[:8]) {
			t.Fatalf("packet of %d bytes, first 0x%02x", len(packet), packet[0])
		}
		kind, got, ok := o.open(packet)
		if !ok || kind != KindGossip || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes do not come back", size)
		}
	}
	if _, err := s.seal(KindGossip, make([]byte, MaxPayload+1)); fleet.KindOf(err) != fleet.Exhausted {
		t.Fatalf("a payload over the limit gave %v", err)
	}
	for _, kind := range []Kind{0, 0x40, 0xff} {
		if _, err := s.seal(kind, nil); err == nil {
			t.Fatalf("kind 0x%02x was sealed", kind)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	s, o := newSealer(1, testKeys(1)), newOpener(testFleet)
	o.use(testKeys(1))
	good := mustSeal(t, s, "to be forged")
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if opens(o, bad) {
			t.Fatalf("opened with bit %d flipped", i)
		}
	}
	for n := range len(good) {
		if opens(o, good[:n]) {
			t.Fatalf("opened when cut to %d bytes", n)
		}
	}
	if opens(o, append(bytes.Clone(good), 0)) || opens(o, make([]byte, 4000)) {
		t.Fatal("opened with bytes behind its end")
	}
	if len(o.senders.byID) != 0 {
		t.Fatal("forgeries are remembered")
	}
	other := newOpener(fleet.Sum([]byte("other")))
	other.use(testKeys(1))
	if opens(other, good) {
		t.Fatal("another fleet with the same key opened it")
	}
	later := newOpener(testFleet)
	later.use(testKeys(2))
	if opens(later, good) || opens(newOpener(testFleet), good) {
		t.Fatal("opened under an epoch that is not accepted")
	}
	if !opens(o, good) {
		t.Fatal("the forgeries spoilt the genuine one")
	}
	if opens(o, good) {
		t.Fatal("opened twice")
	}
}

func TestKeyRotation(t *testing.T) {
	s, o := newSealer(1, testKeys(1)), newOpener(testFleet)
	o.use(testKeys(1))
	old := mustSeal(t, s, "old")
	if !opens(o, old) {
		t.Fatal("the first epoch does not open")
	}
	o.use(testKeys(1, 2)) // accept
	if opens(o, old) {
		t.Fatal("a change of keys forgot what was seen")
	}
	s.use(testKeys(2, 1)) // send
	if !opens(o, mustSeal(t, s, "new")) {
		t.Fatal("the second epoch does not open")
	}
	late := mustSeal(t, newSealer(2, testKeys(1)), "late")
	o.use(testKeys(2)) // drop
	if opens(o, late) || opens(o, old) {
		t.Fatal("the dropped epoch opens")
	}
	if len(o.senders.byID) != 1 {
		t.Fatalf("%d senders remembered", len(o.senders.byID))
	}
	changed := testKeys(2)
	changed.Accept[2] = [32]byte{99}
	o.use(changed)
	if opens(o, mustSeal(t, s, "x")) {
		t.Fatal("a replaced key of the same epoch still opens")
	}
	h, key := header{KindBell, 2, [saltSize]byte{3}, 1}, changed.Accept[2]
	if o.accept(h, packetKey(testKeys(2).Accept[2], h.salt, testFleet), testKeys(2).Accept[2]) {
		t.Fatal("a packet that was being opened when its key went was taken")
	}
	if !o.accept(h, packetKey(key, h.salt, testFleet), key) {
		t.Fatal("a packet under the key in force was refused")
	}
	s.use(Keys{Send: 9})
	if _, err := s.seal(KindBell, nil); fleet.KindOf(err) != fleet.Unavailable {
		t.Fatalf("sealed without a key: %v", err)
	}
}

func TestSendersAreBounded(t *testing.T) {
	o := newOpener(testFleet)
	o.senders = newSenders(3)
	o.use(testKeys(1))
	for salt := range byte(10) {
		if !opens(o, mustSeal(t, newSealer(salt, testKeys(1)), "x")) {
			t.Fatal("not opened")
		}
	}
	if len(o.senders.byID) != 3 || o.senders.order.Len() != 3 {
		t.Fatalf("%d senders remembered", len(o.senders.byID))
	}
}

func TestReplayWindow(t *testing.T) {
	for name, c := range map[string]struct {
		counters []uint64
		want     []bool
	}{
		"in order":        {[]uint64{1, 2, 3, 2, 4}, []bool{true, true, true, false, true}},
		"never zero":      {[]uint64{0, 1}, []bool{false, true}},
		"out of order":    {[]uint64{5, 1, 3, 5, 1, 2}, []bool{true, true, true, false, false, true}},
		"edge of window":  {[]uint64{replayWindow + 1, 2, 1, 2}, []bool{true, true, false, false}},
		"jump":            {[]uint64{1, 1 << 40, 1<<40 - 1, 1, 1 << 40}, []bool{true, true, true, false, false}},
		"slides over old": {[]uint64{1, replayWindow, replayWindow + 1, 2 * replayWindow, replayWindow + 2, replayWindow + 1}, []bool{true, true, true, true, true, false}},
		"the end":         {[]uint64{1<<64 - 1, 1<<64 - 1, 1<<64 - 2}, []bool{true, false, true}},
	} {
		var w window
		for i, counter := range c.counters {
			if got := w.mark(counter); got != c.want[i] {
				t.Errorf("%s: counter %d (number %d) gave %v", name, counter, i, got)
			}
		}
	}
}

func TestPacketsOnTheNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond, Duplicate: 1})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		type packet struct {
			from netip.AddrPort
			text string
		}
		got := make(chan packet, 8)
		b.HandlePackets(KindBell, func(from netip.AddrPort, payload []byte, at time.Time) {
			got <- packet{from, string(payload)}
			if payload[0] == 'p' {
				panic("boom")
			}
		})
		if err := a.SendPacket(addrOf(2), KindBell, []byte("early")); fleet.KindOf(err) != fleet.Unavailable {
			t.Fatalf("sent without a key: %v", err)
		}
		a.SetKeys(testKeys(1))
		b.SetKeys(testKeys(1))
		send := func(kind Kind, text string, to byte) {
			t.Helper()
			if err := a.SendPacket(addrOf(to), kind, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		send(KindBell, "panic", 2) // costs one packet, not a reader
		send(KindBell, "bell", 2)
		send(KindGossip, "nobody takes it", 2)
		send(KindBell, "into the void", 20) // silent
		time.Sleep(time.Second)
		synctest.Wait()
		if len(got) != 2 { // each came twice from the network, and once out of the endpoint
			t.Fatalf("%d packets, want 2", len(got))
		}
		for range 2 {
			if p := <-got; p.from != addrOf(1) || p.text != "panic" && p.text != "bell" {
				t.Fatalf("%+v", p)
			}
		}
		_ = a.Close()
		if err := a.SendPacket(addrOf(2), KindBell, nil); err == nil {
			t.Fatal("sent after Close")
		}
	})
}

// A burst as large as readers and queue together must not lose a packet, even where the handler never yields.
func TestBurstIsNotLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{})
		a, b := w.node(1, newBook()), w.node(2, newBook())
		a.SetKeys(testKeys(1))
		b.SetKeys(testKeys(1))
		release, got := make(chan struct{}), make(chan struct{}, 200)
		b.HandlePackets(KindBell, func(netip.AddrPort, []byte, time.Time) { <-release; got <- struct{}{} })
		const burst = packetReaders + 32
		for range burst {
			if err := a.SendPacket(addrOf(2), KindBell, []byte("x")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		if len(got) != burst {
			t.Fatalf("%d of %d arrived", len(got), burst)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s, payload := newSealer(1, testKeys(1)), make([]byte, 250)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.seal(KindBell, payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, forget := range map[string]bool{"known": false, "new": true} {
		b.Run(name, func(b *testing.B) {
			o := newOpener(testFleet)
			o.use(testKeys(1))
			packet := mustSeal(b, newSealer(1, testKeys(1)), string(make([]byte, 250)))
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					o.senders = newSenders(rememberedSenders)
				} else if s := o.senders.get(senderID{1, [saltSize]byte{1}}); s != nil {
					s.window = window{}
				}
				if !opens(o, packet) {
					b.Fatal("not opened")
				}
			}
		})
	}
}
