package node

import (
	"bytes"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestBellBrings(t *testing.T) {
	w := newTown(5, 3)
	web := w.ids(3, 5)
	plain := w.command("tag.role=web", web, nil)
	facts := w.command("tag.role=web and os.name=debian", web, nil)
	wrong := w.command("tag.role=web", w.ids(2, 5), nil) // the digest is of another set than the roster gives
	stranger := w.commandBy(authSigner("nobody"), "tag.role=web", web, nil)
	holder := w.Nodes[0].ID
	crossed := bell(plain, 9, true, holder)
	crossed.Bell.Statement = idOf(facts)
	altered := bell(plain, 9, true, holder)
	altered.Bell.Rider = []auth.Envelope{alter(plain.Statement, longer)}
	for _, c := range []struct {
		name  string
		bell  BellHeard
		runs  bool
		fetch bool
	}{
		{"the rider completes the set", bell(plain, 9, true, holder), true, false},
		{"no rider", bell(plain, 9, false, holder), false, true},
		{"the target asks for facts", bell(facts, 9, true, holder), false, true},
		{"the roster gives another set", bell(wrong, 9, true, holder), false, true},
		{"the rider is another command", crossed, false, true},
		{"the rider was altered", altered, false, true},
		{"nobody's signature", bell(stranger, 9, true, holder), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := w.settled(t, 3)
			out := h.step(c.bell)
			if runs := of[StartRun](out); (len(runs) == 1) != c.runs {
				t.Errorf("starts %d runs", len(runs))
			}
			fetches := of[FetchOrder](out)
			if (len(fetches) == 1) != c.fetch || c.fetch && fetches[0].From != holder {
				t.Errorf("fetches %v", fetches)
			}
			none[RefuseRun](t, out) // what no operator signed is no word about the command
			wantSays(t, out)
			if again := h.step(c.bell); len(again) != 0 {
				t.Errorf("its echo causes %s", kinds(again))
			}
		})
	}
}

func TestHintsAreGivenUp(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	asked := of[FetchOrder](h.step(bell(o, 9, false, w.Nodes[1].ID, w.Nodes[4].ID)))
	for len(asked) > 0 && len(asked) < 50 {
		last := asked[len(asked)-1]
		asked = append(asked, of[FetchOrder](h.step(OrderFetched{From: last.From, Command: last.Command, Failed: true}))...)
		more := of[FetchOrder](h.pass(3 * time.Second))
		if len(more) == 0 {
			break
		}
		asked = append(asked, more...)
	}
	if len(asked) != maxTries || asked[0].From != w.Nodes[1].ID || asked[1].From != w.Nodes[4].ID {
		t.Errorf("asked %d times, want %d, holders first: %v", len(asked), maxTries, asked)
	}
	if len(h.node.orders.byID) != 0 || h.busy() {
		t.Error("something is left of it")
	}
}

// The last answer counts as much as the first.
func TestLastTryCounts(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	out := h.step(bell(o, 9, false, w.Nodes[1].ID))
	for range maxTries - 1 {
		f := one[FetchOrder](t, out)
		h.step(OrderFetched{From: f.From, Command: f.Command, Failed: true})
		out = h.pass(retryAfter)
	}
	h.pass(5 * time.Second)
	one[StartRun](t, h.step(OrderFetched{From: one[FetchOrder](t, out).From, Command: idOf(o), Order: o}))
}

// A holder that answers with something else keeps nobody from the truth.
func TestLyingHolder(t *testing.T) {
	w := newTown(5, 3)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	other := w.command("tag.role=web", w.ids(3, 5), nil)
	lies := map[string]exec.Order{
		"another command": other,
		"altered":         {Statement: alter(o.Statement, longer), Nodes: o.Nodes},
		"other nodes":     {Statement: o.Statement, Nodes: w.ids(0, 2)},
		"nobody's": w.commandBy(authSigner("nobody"), "tag.role=web", w.ids(3, 5), func(c *exec.Command) {
			c.Header.ID = idOf(o)
		}),
		"from a future of which nobody knows": w.commandBy(authSigner("nobody"), "tag.role=web", w.ids(3, 5), func(c *exec.Command) {
			c.Header.ID, c.Header.Act = idOf(o), 1<<40
		}),
		"nothing": {},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			h := w.settled(t, 3)
			h.step(bell(o, 9, false, w.Nodes[4].ID))
			out := h.step(OrderFetched{From: w.Nodes[4].ID, Command: idOf(o), Order: lie})
			none[RefuseRun](t, out)
			none[StartRun](t, out)
			none[HoldOrder](t, out)
			next := one[FetchOrder](t, h.pass(retryAfter))
			if next.From == w.Nodes[4].ID {
				t.Error("asks the liar again")
			}
			one[StartRun](t, h.step(OrderFetched{From: next.From, Command: idOf(o), Order: o}))
		})
	}
}

func TestFloodOfBells(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	// An order that an operator signed and that waits for the record.
	waits := w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) { c.Header.Act = w.act + 1 })
	h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: w.act, Order: waits}}, Next: w.act})
	running := w.command("tag.role=web", w.ids(3, 5), nil)
	one[StartRun](t, h.step(bell(running, 9, true)))
	asking := 0
	for i := range 3 * maxHearings {
		b := Bell{Kind: BellCommand, Statement: uuid(i), Act: uint64(i), Holders: w.ids(4, 5)}
		asking += len(of[FetchOrder](h.node.Step(h.at, BellHeard{b})))
	}
	o := &h.node.orders
	if len(o.byID) > maxOrders+2 || len(o.age) != len(o.byID) || len(o.open) > len(o.byID) || len(o.heard) > maxHearings || asking > maxAsking {
		t.Errorf("%d orders, %d open, %d hearings, %d questions", len(o.byID), len(o.open), len(o.heard), asking)
	}
	if o.byID[idOf(waits)] == nil || o.byID[idOf(running)] == nil {
		t.Error("the flood made it forget an order that an operator signed")
	}
	// A signed order finds its place all the same.
	one[StartRun](t, h.step(bell(w.command("tag.role=web", w.ids(3, 5), nil), 9, true)))
}

func TestRingingOn(t *testing.T) {
	w := newTown(300, 3)
	w.Now = w.Now.Add(time.Second)
	all := w.ids(0, 300)
	few := w.command("*", w.ids(0, directRing), nil)
	many := w.command("*", all, nil)
	t.Run("a small set is rung by the leader, twice", func(t *testing.T) {
		h := w.settled(t, 0)
		set := w.ids(1, 101)
		o := w.command("not @nothing", set, nil)
		first := one[Ring](t, h.step(OrderCommitted{Committed{Act: 9, Order: o}}))
		second := one[Ring](t, h.pass(waveGap))
		if len(first.To) != 100 || len(second.To) != 100 {
			t.Errorf("rings %d, then %d", len(first.To), len(second.To))
		}
		none[Ring](t, h.pass(time.Minute))
	})
	t.Run("a large set passes it on", func(t *testing.T) {
		for _, i := range []int{0, 5} {
			h := w.settled(t, i)
			var ev Event = bell(many, 9, true, all[0])
			if i == 0 {
				ev = OrderCommitted{Committed{Act: 9, Order: many}}
			}
			first := one[Ring](t, h.step(ev))
			second := of[Ring](h.pass(waveGap))
			if len(first.To) != firstWave || len(second) != 1 || len(second[0].To) != secondWave {
				t.Fatalf("node %d rings %d, then %v", i, len(first.To), second)
			}
			seen := map[fleet.ID]bool{}
			for _, id := range append(first.To, second[0].To...) {
				seen[id] = true
			}
			if len(seen) != firstWave+secondWave {
				t.Errorf("it rings somebody twice")
			}
			if len(first.Bell.Holders) == 0 || first.Bell.Holders[0] != h.me {
				t.Error("it does not say that it has it")
			}
			none[Ring](t, append(h.step(bell(many, 9, true, all[9])), h.step(BellHeard{first.Bell})...))
		}
	})
	t.Run("who left is not rung, a small set is not passed on", func(t *testing.T) {
		h := w.settled(t, 3)
		h.step(bell(few, 9, false, all[0]))
		out := h.step(OrderFetched{From: all[0], Command: idOf(few), Order: few})
		one[StartRun](t, out)
		none[Ring](t, out)
		h.step(Gossiped{w.sightings(fleet.Left)})
		none[Ring](t, h.step(bell(many, 10, true, all[0])))
	})
	t.Run("what is not verified is not passed on", func(t *testing.T) {
		h := w.settled(t, 3)
		none[Ring](t, h.step(bell(exec.Order{Statement: alter(many.Statement, longer)}, 9, true, all[0])))
		none[Ring](t, h.step(BellHeard{Bell{Kind: BellRecord, Act: 1 << 50, Holders: all[9:10]}}))
	})
	t.Run("a cancel is passed on once", func(t *testing.T) {
		h := w.settled(t, 5)
		h.step(bell(many, 9, true, all[0]))
		h.step(RunEnded{Command: idOf(many), Status: exec.Success, Started: 1}) // it may go on elsewhere
		h.pass(time.Second)
		b := Bell{Kind: BellCancel, Statement: idOf(many), Act: 10, Holders: all[:1], Rider: []auth.Envelope{w.cancel(idOf(many))}}
		if r := one[Ring](t, h.step(BellHeard{b})); r.Bell.Kind != BellCancel || len(r.To) != firstWave {
			t.Errorf("rings %v", r)
		}
		b.Act++
		none[Ring](t, h.step(BellHeard{b}))
	})
	t.Run("the record is passed on when it is here", func(t *testing.T) {
		w := newTown(300, 3)
		h := w.settled(t, 5)
		act := w.take(w.TagNode(w.Nodes[7].ID, map[string]string{"role": "db"}, false))
		out := h.step(BellHeard{Bell{Kind: BellRecord, Act: act.Index, Holders: all[:1], Rider: []auth.Envelope{w.beacon(0, nil)}}})
		none[Ring](t, out)
		f := one[FetchActs](t, out)
		r := one[Ring](t, h.step(ActsFetched{From: f.From, Acts: []auth.Act{act}}))
		if r.Bell.Kind != BellRecord || r.Bell.Act != act.Index || len(r.To) != firstWave || len(r.Bell.Rider) != 1 || r.Bell.Holders[0] != h.me {
			t.Errorf("rings %+v", r)
		}
	})
}

func TestLeaderTellsOfTheRecordOnce(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 0)
	var out []Effect
	for i := range 3 {
		act := w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"n": string(rune('a' + i))}, false))
		out = append(out, h.step(RecordCommitted{act})...)
	}
	none[Ring](t, out)
	if len(of[KeepActs](out)) != 3 {
		t.Errorf("keeps %d acts", len(of[KeepActs](out)))
	}
	r := of[Ring](h.pass(tellGap))
	if len(r) != 1 || r[0].Bell.Kind != BellRecord || r[0].Bell.Act != w.Record.Act || len(r[0].To) != 4 || len(r[0].Bell.Rider) != 0 {
		t.Fatalf("rings %+v", r)
	}
	follower := w.settled(t, 1)
	act := w.take(w.TagNode(w.Nodes[4].ID, nil, false))
	follower.step(RecordCommitted{act})
	none[Ring](t, follower.pass(time.Second))
}

func TestBellOnTheWire(t *testing.T) {
	w := newTown(5, 3)
	o := w.command("*", w.ids(0, 5), nil)
	full := Bell{Kind: BellCommand, Statement: idOf(o), Act: 1 << 40, Holders: w.ids(0, 2), Rider: []auth.Envelope{o.Statement}}
	got, err := DecodeBell(full.Encode())
	if err != nil || len(got.Rider) != 1 || !bytes.Equal(got.Encode(), full.Encode()) {
		t.Fatalf("%+v, %v", got, err)
	}
	big := w.command("*", w.ids(0, 5), func(c *exec.Command) { c.Run.Script = make([]byte, 2000) })
	full.Rider = []auth.Envelope{big.Statement}
	if got, err := DecodeBell(full.Encode()); err != nil || len(got.Rider) != 0 || len(full.Encode()) > 150 || len(full.Rider) != 1 {
		t.Errorf("a rider that does not fit: %+v, %v, %d bytes", got, err, len(full.Encode()))
	}
	beacon := Bell{Kind: BellRecord, Act: 1 << 40, Holders: w.ids(0, 2), Rider: []auth.Envelope{newTown(20, 10).beacon(0, func(b *auth.Beacon) {
		b.Voters, b.Spares = w.ids(0, 5), w.ids(0, 2)
	})}}
	if got, err := DecodeBell(beacon.Encode()); err != nil || len(got.Rider) != 1 {
		t.Errorf("the beacon of a full quorum does not fit: %v", err)
	}
	for name, b := range map[string]Bell{
		"kind 0":           {Statement: uuid(1)},
		"kind 6":           {Kind: 6, Statement: uuid(1)},
		"no keyring":       {Kind: BellSeed},
		"three holders":    {Kind: BellCommand, Statement: uuid(1), Holders: w.ids(0, 3)},
		"two riders":       {Kind: BellCommand, Statement: uuid(1), Rider: []auth.Envelope{{}, {}}},
		"no statement":     {Kind: BellCommand},
		"record's command": {Kind: BellRecord, Statement: uuid(1)},
	} {
		if _, err := DecodeBell(wire.Marshal(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := DecodeBell(make([]byte, MaxBell+1)); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("too long: %v", err)
	}
}
