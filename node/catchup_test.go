package node

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestBeaconHeard(t *testing.T) {
	w := newTown(5, 3)
	behind := w.settled(t, 3).node.record
	w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "db"}, false))
	peer := w.Nodes[4].ID
	for _, c := range []struct {
		name     string
		envelope auth.Envelope
		keep     bool
		fetch    bool
	}{
		{"newer", w.beacon(1, nil), true, true},
		{"of a higher term, nothing new", w.beacon(1, func(b *auth.Beacon) {
			b.Term, b.RecordLen, b.RecordHead = 2, behind.Length, behind.Head
		}), true, false},
		{"older", w.beacon(1, func(b *auth.Beacon) { b.Act, b.RecordLen, b.Time = 1, 1, 1 }), false, false},
		{"by a node that is no server", w.beacon(4, nil), false, true}, // it may have become one
		{"by somebody unknown", stranger(w), false, true},
		{"forged", alterSignature(w.beacon(1, nil)), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fresh := newTown(5, 3)
			h := fresh.settled(t, 3)
			out := h.step(BeaconHeard{From: peer, Envelope: c.envelope})
			if got := len(of[KeepBeacon](out)) == 1; got != c.keep {
				t.Errorf("kept: %v", got)
			}
			if got := of[FetchActs](out); (len(got) == 1) != c.fetch || c.fetch && (got[0].From != peer || got[0].Position != behind.Length) {
				t.Errorf("fetches %v", got)
			}
		})
	}
}

// Who passed a packet on is not proved, so it cannot make an old beacon count as its signer's word on the time of now.
func TestHearsayTellsNoTime(t *testing.T) {
	for _, hearsay := range []bool{false, true} {
		w := newTown(5, 3)
		h := w.settled(t, 3)
		h.node.clock.Heard = 0
		signer := w.Nodes[1].ID
		h.step(BeaconHeard{From: signer, Envelope: w.beacon(1, nil), Hearsay: hearsay})
		if got := h.node.clock.Heard != 0; got == hearsay {
			t.Errorf("hearsay %v: the clock counts from it: %v", hearsay, got)
		}
	}
}

func stranger(w *town) auth.Envelope {
	return authSigner("stranger").Sign(auth.ForBeacon, w.ID(), auth.Beacon{Term: 99, Act: 1 << 40, RecordLen: 1 << 40})
}

func alterSignature(e auth.Envelope) auth.Envelope {
	e.Signature = append([]byte(nil), e.Signature...)
	e.Signature[0] ^= 1
	return e
}

// A server's word about the record is taken; a member's only if a server's beacon names the head that it leads to.
func TestWhoseActsCount(t *testing.T) {
	w := newTown(5, 3)
	before := len(w.Acts)
	for _, tags := range []string{"a", "b", "c"} {
		w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"role": tags}, false))
	}
	w.take(w.RemoveNode(w.Nodes[2].ID))
	acts := w.Acts[before:]
	server, member := w.Nodes[1].ID, w.Nodes[4].ID
	without := slices.Clone(acts[:len(acts)-1]) // the removal is left out
	tell := BeaconHeard{From: server, Envelope: w.beacon(1, nil)}
	for _, c := range []struct {
		name   string
		from   fleet.ID
		pages  [][]auth.Act
		beacon bool // heard before the acts
		after  bool // heard after them
		want   uint64
		warns  bool
	}{
		{"a server's", server, [][]auth.Act{acts}, true, false, w.Record.Length, false},
		{"a server's, before its beacon", server, [][]auth.Act{acts}, false, false, w.Record.Length, false},
		{"a member's, all", member, [][]auth.Act{acts}, true, false, w.Record.Length, false},
		{"a member's, in pages", member, [][]auth.Act{acts[:1], acts[1:3], acts[3:]}, true, false, w.Record.Length, false},
		{"a member's, before the beacon", member, [][]auth.Act{acts}, false, true, w.Record.Length, false},
		{"a member's, no beacon", member, [][]auth.Act{acts}, false, false, uint64(before), false},
		{"a member's, one left out", member, [][]auth.Act{without}, true, false, uint64(before), false},
		{"a member's, one made up", member, [][]auth.Act{append(slices.Clip(without), auth.Act{
			Index: acts[3].Index, Time: acts[3].Time + 1, Kind: acts[3].Kind, Data: acts[3].Data,
		})}, true, false, uint64(before), true},
		{"damaged", server, [][]auth.Act{{damaged(acts[0])}}, true, false, uint64(before), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newTown(5, 3).settled(t, 3)
			h.Now = w.Now
			if c.beacon {
				h.step(BeaconHeard{From: c.from, Envelope: tell.Envelope})
			} else {
				h.step(BellHeard{Bell{Kind: BellRecord, Act: w.Record.Act, Holders: []fleet.ID{c.from}}})
			}
			var out []Effect
			for _, page := range c.pages {
				out = append(out, h.step(ActsFetched{From: c.from, Acts: page})...)
			}
			if c.after {
				out = append(out, h.step(tell)...)
			}
			if got := h.node.record.Length; got != c.want {
				t.Errorf("record of %d acts, want %d", got, c.want)
			}
			if got := len(of[Warn](out)) > 0; got != c.warns {
				t.Errorf("warned: %v", of[Warn](out))
			}
			var kept []auth.Act
			for _, k := range of[KeepActs](out) {
				kept = append(kept, k.Acts...)
			}
			if len(kept) != int(c.want)-before {
				t.Errorf("keeps %d acts", len(kept))
			}
			drops := of[DropPeer](out)
			if removed := c.want == w.Record.Length; removed != (len(drops) == 1) || removed && drops[0].Peer != w.Nodes[2].ID {
				t.Errorf("drops %v", drops)
			}
			if c.want == w.Record.Length {
				return
			}
			// Whoever helped in vain is not asked again at once, and a server mends it.
			if h.node.acts.asked {
				h.step(ActsFetched{From: c.from})
			}
			if c.beacon {
				none[FetchActs](t, h.step(BellHeard{Bell{Kind: BellRecord, Act: w.Record.Act + 7, Holders: []fleet.ID{c.from}}}))
			}
			out = h.step(tell)
			for range 20 {
				for _, f := range of[FetchActs](append(out, h.pass(2*retryAfter)...)) {
					if slices.Contains(w.ids(0, 3), f.From) {
						h.step(ActsFetched{From: f.From, Acts: acts[f.Position-uint64(before):]})
					} else {
						h.step(ActsFetched{From: f.From, Failed: true})
					}
				}
				out = nil
			}
			if h.node.record.Length != w.Record.Length {
				t.Error("it never catches up")
			}
		})
	}
}

func damaged(a auth.Act) auth.Act {
	a.Data = append([]byte(nil), a.Data...)
	a.Data[len(a.Data)/2] ^= 1
	return a
}

// Nobody whom this node knows is a server any more: the way back leads over an ordinary member.
func TestServersReplacedWhileAway(t *testing.T) {
	w := newTown(5, 1)
	before := len(w.Acts)
	w.take(w.TagNode(w.Nodes[1].ID, map[string]string{"role": "web"}, true))
	w.take(w.RemoveNode(w.Nodes[0].ID))
	tell := w.beacon(1, func(b *auth.Beacon) { b.Leader, b.Voters, b.Term = w.Nodes[1].ID, w.ids(1, 2), 5 })
	h := newTown(5, 1).settled(t, 3)
	f := one[FetchActs](t, h.step(BeaconHeard{From: w.Nodes[4].ID, Envelope: tell}))
	h.step(ActsFetched{From: f.From, Acts: w.Acts[before:]})
	if h.node.record.Length != w.Record.Length || h.node.beacon.Leader != w.Nodes[1].ID {
		t.Errorf("record of %d acts, leader %s", h.node.record.Length, h.node.beacon.Leader)
	}
	// What the removed one says counts no more, however high its term.
	out := h.step(BeaconHeard{From: w.Nodes[4].ID, Envelope: w.beacon(0, func(b *auth.Beacon) { b.Term = 1 << 40 })})
	if len(out) != 0 {
		t.Errorf("a removed server's beacon causes %s", kinds(out))
	}
}

func TestRemovedServersBeaconIsForgotten(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.step(BeaconHeard{From: w.Nodes[2].ID, Envelope: w.beacon(2, func(b *auth.Beacon) { b.Term, b.Leader, b.Voters = 1<<60, w.Nodes[2].ID, w.ids(2, 3) })})
	act := w.take(w.RemoveNode(w.Nodes[2].ID))
	honest := BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)}
	h.step(honest)
	if h.node.beacon.Term != 1<<60 {
		t.Fatal("the test needs a beacon that outbids others")
	}
	h.step(BellHeard{Bell{Kind: BellRecord, Act: act.Index, Holders: w.ids(0, 1)}})
	out := h.step(ActsFetched{From: w.Nodes[0].ID, Acts: []auth.Act{act}})
	if k := one[KeepBeacon](t, out); k.Envelope.Format != 0 {
		t.Error("it is passed on still")
	}
	h.step(honest)
	if h.node.beacon.Leader != w.Nodes[0].ID {
		t.Error("honest beacons still look old")
	}
}

// What waits for a beacon is void when the record grew by another way.
func TestUnvouchedActsGrowStale(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	before := len(w.Acts)
	for _, tags := range []string{"a", "b", "c"} {
		w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"role": tags}, false))
	}
	h.step(BellHeard{Bell{Kind: BellRecord, Act: w.Record.Act, Holders: w.ids(4, 5)}})
	h.step(ActsFetched{From: w.Nodes[4].ID, Acts: w.Acts[before : before+2]})
	if len(h.node.acts.ahead.acts) != 2 {
		t.Fatal("the test needs acts that wait")
	}
	h.step(ActsFetched{From: w.Nodes[4].ID, Failed: true})
	h.step(RecordCommitted{w.Acts[before]})
	out := h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
	none[Warn](t, out)
	f := one[FetchActs](t, append(out, h.pass(retryAfter)...))
	if f.Position != uint64(before)+1 {
		t.Errorf("asks from %d, has %d", f.Position, before+1)
	}
	h.step(ActsFetched{From: w.Nodes[0].ID, Acts: w.Acts[before+1:]})
	if h.node.record.Head != w.Record.Head {
		t.Error("it took a wrong turn")
	}
}

func TestRecoveryCountsAnew(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.node.orders.cursor = 1 << 40
	out := h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, func(b *auth.Beacon) { b.Epoch++ })})
	if f := one[FetchOrders](t, append(out, h.pass(retryAfter)...)); f.Since != 0 {
		t.Errorf("asks from %d", f.Since)
	}
}

func TestSelfRemoved(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	waits := w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) { c.Header.Act = w.act + 1 })
	h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: w.act, Order: waits}}, Next: w.act})
	act := w.take(w.RemoveNode(h.me))
	h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
	out := h.step(ActsFetched{From: w.Nodes[0].ID, Acts: []auth.Act{act}})
	none[DropPeer](t, out)
	none[StartRun](t, out)
	if warns := of[Warn](out); len(warns) != 1 {
		t.Errorf("says %v", warns)
	}
}

func TestForkIsSaidOnce(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	warned := 0
	for i := range 3 {
		out := h.step(BeaconHeard{From: w.Nodes[1].ID, Envelope: w.beacon(1, func(b *auth.Beacon) {
			b.Term, b.RecordHead = uint64(2+i), fleet.Sum([]byte("other"))
		})})
		warned += len(of[Warn](out))
	}
	if warned != 1 {
		t.Errorf("warned %d times", warned)
	}
}

// No peer keeps a node busy with itself: hints to a peer that answers in vain are not followed over and over.
func TestVainPeerDoesNotHoldUp(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	liar := w.Nodes[4].ID
	asked := 0
	for i := range 100 {
		out := append(h.step(BellHeard{Bell{Kind: BellRecord, Act: 1<<30 + uint64(i), Holders: []fleet.ID{liar}}}),
			h.step(BeaconHeard{From: liar, Envelope: stranger(w)})...)
		for range of[FetchActs](out) {
			asked++
			none[FetchActs](t, h.step(ActsFetched{From: liar, Acts: []auth.Act{{Index: 1 << 40, Kind: 2}}}))
		}
		h.pass(50 * time.Millisecond)
	}
	if asked > 1 {
		t.Errorf("asked it %d times in 5 s", asked)
	}
}

func TestDigests(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.pass(digestEvery)
	exchanges := of[ExchangeBeacons](h.pass(100 * time.Second))
	if len(exchanges) < 8 || len(exchanges) > 14 {
		t.Errorf("%d exchanges in 100 s", len(exchanges))
	}
	with := map[fleet.ID]int{}
	for _, e := range exchanges {
		with[e.With]++
	}
	if with[h.me] != 0 || len(with) < 3 {
		t.Errorf("with %v", with)
	}
	lost := w.host(t, 3) // gossip sees nobody
	if e := one[ExchangeBeacons](t, lost.step(Tick{})); e.With == lost.me {
		t.Error("with itself")
	}
	alone := newTown(1, 1).host(t, 0)
	none[ExchangeBeacons](t, alone.pass(time.Minute))
}

func TestClock(t *testing.T) {
	w := newTown(5, 3)
	server, member := w.Nodes[1].ID, w.Nodes[4].ID
	t.Run("only a beacon from its signer says how late it is", func(t *testing.T) {
		h := w.host(t, 3)
		old := w.beacon(1, func(b *auth.Beacon) { b.Time -= (2 * time.Hour).Milliseconds() })
		h.step(BeaconHeard{From: member, Envelope: old})
		if h.node.clock.Suspect(h.at) != 0 || h.node.clock.Heard != 0 {
			t.Error("a beacon that a member held for hours made it doubt its clock")
		}
		h.step(BeaconHeard{From: server, Envelope: old})
		if h.node.clock.Suspect(h.at) == 0 {
			t.Error("the server's clock does not count")
		}
	})
	t.Run("who does not know asks a server", func(t *testing.T) {
		h := w.host(t, 3)
		h.step(Gossiped{w.sightings(fleet.Online)})
		h.step(BeaconHeard{From: member, Envelope: w.beacon(1, nil)})
		for range 5 {
			for _, e := range of[ExchangeBeacons](h.pass(digestEvery * 5 / 4)) {
				if !slices.Contains(w.ids(0, 3), e.With) {
					t.Error("asks a member")
				}
			}
		}
	})
	t.Run("the floor is written again as time goes on", func(t *testing.T) {
		h := w.host(t, 3)
		written := 0
		for i := range 100 { // five minutes
			written += len(of[KeepFloor](h.step(BeaconHeard{From: server, Envelope: w.beacon(1, func(b *auth.Beacon) {
				b.Time += int64(i) * 3000
			})})))
		}
		if written != 5 {
			t.Errorf("written %d times", written)
		}
	})
	t.Run("a replayed bell is no clock", func(t *testing.T) {
		h := w.host(t, 3)
		old := w.beacon(1, func(b *auth.Beacon) { b.Time -= (2 * time.Hour).Milliseconds(); b.Term = 9 })
		h.step(BellHeard{Bell{Kind: BellRecord, Act: 1 << 40, Holders: []fleet.ID{server}, Rider: []auth.Envelope{old}}})
		if h.node.clock.Suspect(h.at) != 0 {
			t.Error("it made the node doubt its clock")
		}
	})
}

func TestOrdersByCursor(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.node.orders.cursor = 0
	var orders []exec.Order
	for range 40 {
		w.act++
		orders = append(orders, w.command("tag.role=web", w.ids(3, 5), nil))
	}
	first := w.act - 39
	out := h.step(BeaconHeard{From: w.Nodes[1].ID, Envelope: w.beacon(1, nil)})
	out = append(out, h.pass(retryAfter)...)
	runs, pages := 0, 0
	for len(of[FetchOrders](out)) > 0 {
		pages++
		f := one[FetchOrders](t, out)
		ev := OrdersFetched{From: f.From, Next: w.act}
		for i, o := range orders {
			if act := first + uint64(i); act > f.Since && len(ev.Orders) < 16 {
				ev.Orders, ev.Next = append(ev.Orders, Committed{Act: act, Order: o}), act
			}
		}
		out = h.step(ev)
		runs += len(of[StartRun](out))
	}
	if runs != 40 || pages != 3 || h.node.orders.cursor != w.act {
		t.Errorf("%d runs by %d pages, cursor %d of %d", runs, pages, h.node.orders.cursor, w.act)
	}
	none[FetchOrders](t, h.pass(time.Minute))
}

func TestCursorIsNotLedAstray(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	tell := func() []Effect {
		w.act++
		out := h.step(BeaconHeard{From: w.Nodes[1].ID, Envelope: w.beacon(1, nil)})
		return append(out, h.pass(retryAfter)...)
	}
	one[FetchOrders](t, tell())
	h.step(OrdersFetched{From: w.Nodes[0].ID, Next: 1 << 60})
	if h.node.orders.cursor != w.act {
		t.Errorf("cursor %d beyond all beacons", h.node.orders.cursor)
	}
	f := one[FetchOrders](t, tell())
	out := h.step(OrdersFetched{From: f.From, Next: f.Since}) // that server lags
	none[FetchOrders](t, out)
	if again := one[FetchOrders](t, h.pass(retryAfter)); again.From == f.From {
		t.Error("the lagging server is asked again first")
	}
	h.step(OrdersFetched{From: w.Nodes[0].ID, Failed: true})
	one[FetchOrders](t, h.pass(retryAfter))
	h.step(OrdersFetched{From: w.Nodes[0].ID, Next: w.act})
	none[FetchOrders](t, h.pass(time.Second))
}

func TestGossipKeys(t *testing.T) {
	w := newTown(5, 3)
	hash := fleet.Sum([]byte("key"))
	epoch := func(g auth.GossipEpoch) auth.Act {
		f := w.Fleet
		w.MustTake(struct {
			Kind auth.ActKind
			Data []byte
		}{auth.ActGossipEpoch, wire.Marshal(g)})
		return f.Acts[len(f.Acts)-1]
	}
	h := w.settled(t, 3)
	learn := func(a auth.Act) []Effect {
		h.step(BellHeard{Bell{Kind: BellRecord, Act: a.Index, Holders: w.ids(0, 1)}})
		return h.step(ActsFetched{From: w.Nodes[0].ID, Acts: []auth.Act{a}})
	}
	f := one[FetchGossipKey](t, learn(epoch(auth.GossipEpoch{Epoch: 1, Hash: hash})))
	if f.Epoch.Hash != hash || f.From == h.me {
		t.Errorf("asks %+v", f)
	}
	h.step(PeerSilent{f.From})
	one[FetchGossipKey](t, h.pass(retryAfter))
	h.step(KeyKept{1, fleet.Sum([]byte("made here, and never committed"))})
	one[FetchGossipKey](t, h.pass(retryAfter))
	h.step(KeyKept{1, hash})
	none[FetchGossipKey](t, h.pass(time.Minute))
	if f := one[FetchGossipKey](t, learn(epoch(auth.GossipEpoch{Epoch: 2, Hash: hash}))); f.Epoch.Epoch != 2 {
		t.Errorf("asks for %d", f.Epoch.Epoch)
	}
	fresh := w.settled(t, 4) // back after long, in the middle of a rotation: others still send with the older
	if f := one[FetchGossipKey](t, fresh.pass(retryAfter)); f.Epoch.Epoch != 1 {
		t.Errorf("asks for %d first", f.Epoch.Epoch)
	}
	accepted := func() (out []uint32) {
		for _, g := range AcceptedKeys(w.Record) {
			out = append(out, g.Epoch)
		}
		return out
	}
	if got := accepted(); !slices.Equal(got, []uint32{1, 2}) {
		t.Errorf("accepts %v", got)
	}
	epoch(auth.GossipEpoch{Epoch: 2, Hash: hash, Send: true})
	if got := accepted(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("accepts %v", got)
	}
	// The only server lacks the key: members have it.
	alone := newTown(5, 1)
	alone.Record = w.Record
	only := alone.host(t, 0)
	if f := one[FetchGossipKey](t, only.step(Gossiped{w.sightings(fleet.Online)})); f.From == only.me {
		t.Error("asks itself")
	}
}

func TestNextRotation(t *testing.T) {
	g := func(epoch uint32) auth.GossipEpoch { return auth.GossipEpoch{Epoch: epoch} }
	const wait = int64(acceptFor / time.Millisecond)
	for _, c := range []struct {
		name string
		r    auth.Record
		now  int64
		have bool
		want GossipRotation
	}{
		{"a fleet that is being founded", auth.Record{}, 0, false, KeepGossipKey},
		{"nothing to do", auth.Record{Gossip: g(1), Sending: g(1), KeyedAt: 5}, 1e9, true, KeepGossipKey},
		{"nothing to do, key on its way here", auth.Record{Gossip: g(1), Sending: g(1), KeyedAt: 5}, 1e9, false, KeepGossipKey},
		{"a node was removed", auth.Record{Gossip: g(1), Sending: g(1), KeyedAt: 5, Removal: 6}, 7, true, MakeGossipKey},
		{"removed before the key was made", auth.Record{Gossip: g(1), Sending: g(1), KeyedAt: 5, Removal: 5}, 7, true, KeepGossipKey},
		{"accepted a moment ago", auth.Record{Gossip: g(2), Sending: g(1), KeyedAt: 5}, 5 + wait, true, KeepGossipKey},
		{"accepted long enough", auth.Record{Gossip: g(2), Sending: g(1), KeyedAt: 5}, 6 + wait, true, SendGossipKey},
		{"the key is lost with its maker", auth.Record{Gossip: g(2), Sending: g(1), KeyedAt: 5}, 6 + wait, false, MakeGossipKey},
		{"the key may still come", auth.Record{Gossip: g(2), Sending: g(1), KeyedAt: 5}, 5 + wait, false, KeepGossipKey},
		{"another removal in between waits", auth.Record{Gossip: g(2), Sending: g(1), KeyedAt: 5, Removal: 6}, 7, true, KeepGossipKey},
		{"and is not forgotten", auth.Record{Gossip: g(2), Sending: g(2), KeyedAt: 5, Removal: 6}, 7 + wait, true, MakeGossipKey},
	} {
		if got := NextRotation(c.r, c.now, c.have); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
