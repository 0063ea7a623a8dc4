package node

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// From a judgement to what is done and said.
func TestVerdicts(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops")
	w.SetPolicy(auth.FirstPolicy)
	w.act = w.Record.Act
	web := w.ids(3, 5)
	old := w.command("tag.role=web", web, func(c *exec.Command) { c.Header.Expires = c.Header.Issued + 1 })
	for _, c := range []struct {
		name   string
		order  exec.Order
		wait   time.Duration
		starts bool
		says   []exec.Status
	}{
		{"permitted", w.command("tag.role=web", web, nil), 0, true, nil},
		{"expired", old, time.Hour, false, []exec.Status{exec.DeliveryTimedOut}},
		{"not permitted", w.commandBy(bob, "tag.role=web", web, nil), 0, false, []exec.Status{exec.Refused}},
		{"meant no more", w.command("tag.role=db", web, nil), 0, false, []exec.Status{exec.Refused}},
		{"not meant", w.command("tag.role=web", w.ids(4, 5), nil), 0, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := w.settled(t, 3)
			h.at.Wall, h.at.Boot = h.at.Wall.Add(c.wait), h.at.Boot+c.wait
			out := h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: 9, Order: c.order}}})
			if got := len(of[StartRun](out)) == 1; got != c.starts {
				t.Errorf("starts: %v", got)
			}
			wantSays(t, out, c.says...)
			if x := h.node.orders.byID[idOf(c.order)]; x.status.Final() == c.starts {
				t.Errorf("it is %s", x.status)
			}
			if refused := of[RefuseRun](out); (len(refused) == 1) != (len(c.says) == 1) {
				t.Errorf("the ledger is told %v", refused)
			}
			for _, s := range of[SendReport](out) {
				if r := s.Report; r.Check() != nil || r.Detail == "" || r.Charter != w.Record.Charter.Head() || r.Act != w.Record.Act || r.Received == 0 {
					t.Errorf("report %+v: %v", r, r.Check())
				}
			}
			again := h.step(OrdersFetched{From: w.Nodes[1].ID, Orders: []Committed{{Act: 9, Order: c.order}}})
			none[StartRun](t, again)
			none[RefuseRun](t, again)
		})
	}
}

func TestRunToItsEnd(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	id := idOf(o)
	out := h.step(bell(o, 9, true))
	one[HoldOrder](t, out)
	wantSays(t, out)
	wantSays(t, h.step(RunStarted{Command: id, At: 5}), exec.InProgress)
	first := h.seq(id)
	out = h.step(RunEnded{Command: id, Status: exec.Failed, ExitCode: 3, Signal: "killed", Started: 5, Ended: 6, Detail: "why"})
	wantSays(t, out) // the first report is under way
	for _, server := range w.ids(0, 3) {
		out = append(out, h.step(ReportTaken{Command: id, Seq: first, Server: server})...)
	}
	wantSays(t, out, exec.Failed)
	none[RefuseRun](t, out)
	r := of[SendReport](out)[0].Report
	if r.Seq != first+1 || r.ExitCode != 3 || r.Signal != "killed" || r.Started != 5 || r.Ended != 6 || r.Rule == "" || r.Charter != w.Record.Charter.Head() {
		t.Errorf("%+v", r)
	}
	for _, s := range of[SendReport](out) {
		h.step(ReportTaken{Command: id, Seq: s.Report.Seq, Server: s.To})
	}
	wantSays(t, h.step(RunEnded{Command: id, Status: exec.Success, Started: 5})) // an end never changes
	wantSays(t, h.step(RunStarted{Command: id, At: 5}))
}

// Unknown alone may become the truth.
func TestUnknownBecomesTheTruth(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	wantSays(t, h.step(RunEnded{Command: uuid(1), Status: exec.Unknown, Started: 5}), exec.Unknown)
	for _, server := range w.ids(0, 3) {
		h.step(ReportTaken{Command: uuid(1), Seq: h.seq(uuid(1)), Server: server})
	}
	wantSays(t, h.step(RunEnded{Command: uuid(1), Status: exec.Success, Started: 5}), exec.Success)
}

// What could not be started is told to have failed when the ledger has it, so that no restart starts it. Until then it
// waits, and may run after all.
func TestNotStartedIsRemembered(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.pass(2 * lateAfter)
	h.ledgerless = true
	o := h.command("tag.role=web", w.ids(3, 5), nil)
	start := one[StartRun](t, h.step(bell(o, 9, true)))
	h.pass(retryAfter)
	for range 2 {
		out := h.step(RunNotStarted{Command: idOf(o), Why: "no room"})
		if r := one[RefuseRun](t, out); r.Command != idOf(o) || r.Digest != start.Digest || r.As != exec.Failed || r.Reason != "no room" {
			t.Errorf("%+v", r)
		}
		wantSays(t, out)
		none[StartRun](t, h.pass(5*retryAfter)) // the ledger does not answer yet
		h.step(RefusalLost{Command: idOf(o), Why: "read-only"})
		if got := h.node.outbox.byID[idOf(o)].report; got.Status != exec.Pending || got.Detail != "waits: read-only" {
			t.Errorf("%+v", got)
		}
		one[StartRun](t, h.pass(ledgerWait))
	}
	one[RefuseRun](t, h.step(RunNotStarted{Command: idOf(o), Why: "no room"}))
	h.step(RefusalKept{idOf(o)})
	if got := h.node.outbox.byID[idOf(o)].report; got.Status != exec.Failed {
		t.Errorf("it says %+v", got)
	}
	none[StartRun](t, h.pass(5*retryAfter))
}

// A verdict is told when the ledger has it: after a restart a newer policy might permit what was said to be refused.
func TestRefusalIsKeptFirst(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops") // may nothing
	h := w.settled(t, 3)
	h.ledgerless = true
	o := w.commandBy(bob, "tag.role=web", w.ids(3, 5), nil)
	out := h.step(bell(o, 9, true))
	one[RefuseRun](t, out)
	wantSays(t, out)
	h.step(RefusalLost{Command: idOf(o), Why: "read-only"})
	one[RefuseRun](t, h.pass(ledgerWait+retryAfter))
	h.step(RefusalKept{idOf(o)})
	if got := h.node.outbox.byID[idOf(o)].report.Status; got != exec.Refused {
		t.Errorf("it says %s", got)
	}
}

func TestRestartRecall(t *testing.T) {
	w := newTown(5, 3)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	for _, c := range []struct {
		name   string
		recall Event
		says   exec.Status
	}{
		{"it ended", RunEnded{Command: idOf(o), Status: exec.Success, Started: 5}, exec.Success},
		{"it goes on", RunStarted{Command: idOf(o), At: 5}, exec.InProgress},
		{"nobody knows", RunEnded{Command: idOf(o), Status: exec.Unknown, Started: 5}, exec.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := w.settled(t, 3)
			wantSays(t, h.step(c.recall), c.says)
			out := append(h.step(bell(o, 9, true)), h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: 9, Order: o}}})...)
			none[StartRun](t, out)
			none[FetchOrder](t, out)
		})
	}
}

func TestBehindTheRecord(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	bob := w.AddOperator("bob", auth.RootTeam)
	act := w.Acts[len(w.Acts)-1]
	newcomer := w.commandBy(bob, "tag.role=web", w.ids(3, 5), nil)
	known := w.command("tag.role=web", w.ids(3, 5), nil)
	holder := w.Nodes[1].ID

	out := h.step(bell(newcomer, 9, true, holder)) // nobody knows its signer: is it worth anything?
	none[StartRun](t, out)
	f := one[FetchOrder](t, out)
	out = h.step(OrderFetched{From: f.From, Command: f.Command, Order: newcomer})
	one[FetchActs](t, out)
	none[RefuseRun](t, out)
	none[StartRun](t, h.step(bell(known, 10, true, holder))) // signed by somebody who has seen more
	out = h.step(ActsFetched{From: holder, Acts: []auth.Act{act}})
	if r := one[StartRun](t, out); r.Command.Header.ID != idOf(known) {
		t.Error("runs the wrong one")
	}
	f = one[FetchOrder](t, h.pass(2*retryAfter))
	one[StartRun](t, h.step(OrderFetched{From: f.From, Command: f.Command, Order: newcomer}))
}

// The cursor never passes what could not be judged yet.
func TestCursorWaitsForTheRecord(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	bob := w.AddOperator("bob", auth.RootTeam)
	act := w.Acts[len(w.Acts)-1]
	o := w.commandBy(bob, "tag.role=web", w.ids(3, 5), nil)
	w.act += 2
	page := OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: w.act, Order: o}}, Next: w.act}
	out := append(h.step(page), h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})...)
	f := one[FetchActs](t, out)
	none[FetchOrders](t, h.pass(5*time.Second)) // while it is behind, it could not judge them
	out = h.step(ActsFetched{From: f.From, Acts: []auth.Act{act}})
	one[FetchOrders](t, append(out, h.pass(retryAfter)...))
	one[StartRun](t, h.step(page))
}

// An order for which the record never comes ends too.
func TestNeverCaughtUp(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	o := w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) { c.Header.Act = 1 << 40 })
	wantSays(t, h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: 9, Order: o}}}))
	var out []Effect
	for range 40 {
		h.to(h.at.Boot + 2*time.Minute)
		out = append(out, h.step(Tick{})...)
	}
	none[StartRun](t, out)
	one[RefuseRun](t, out)
	wantSays(t, out, exec.DeliveryTimedOut)
	if len(h.node.orders.open) != 0 {
		t.Error("it still waits")
	}
}

func TestSuspectClock(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 3 * time.Hour, "behind": -3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newTown(5, 3)
			h := w.settled(t, 3)
			o := w.command("tag.role=web", w.ids(3, 5), nil)
			another := w.command("tag.role=web", w.ids(3, 5), nil)
			h.at.Wall = h.at.Wall.Add(off)
			out := append(h.step(bell(o, 9, true)), h.step(bell(another, 10, true))...)
			none[StartRun](t, out)
			none[RefuseRun](t, out)
			wantSays(t, out, exec.Pending, exec.Pending)
			if len(of[Warn](out)) != 1 {
				t.Errorf("warns %v", of[Warn](out))
			}
			wantSays(t, h.pass(time.Minute)) // once
			// A cancel does not wait for the clock.
			out = h.step(BellHeard{Bell{Kind: BellCancel, Statement: idOf(another), Act: 11, Rider: []auth.Envelope{w.cancel(idOf(another))}}})
			one[KillRun](t, out)
			h.at.Wall = h.at.Wall.Add(-off)
			if r := one[StartRun](t, h.pass(retryAfter)); r.Command.Header.ID != idOf(o) {
				t.Error("runs the wrong one")
			}
		})
	}
	t.Run("expired meanwhile", func(t *testing.T) {
		w := newTown(5, 3)
		h := w.settled(t, 3)
		h.at.Wall = h.at.Wall.Add(-3 * time.Hour)
		o := w.command("tag.role=web", w.ids(3, 5), nil)
		h.step(bell(o, 9, true))
		h.to(h.at.Boot + exec.DefaultExpires + 2*auth.MaxSkew) // by boot time: the clock is still wrong
		h.step(Tick{})
		if got := h.node.outbox.byID[idOf(o)].report.Status; got != exec.DeliveryTimedOut {
			t.Errorf("it is %s", got)
		}
	})
}

func TestCancels(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops") // may nothing
	web := w.ids(3, 5)
	ring := func(o exec.Order, e auth.Envelope) BellHeard {
		return BellHeard{Bell{Kind: BellCancel, Statement: idOf(o), Act: 10, Holders: w.ids(0, 1), Rider: []auth.Envelope{e}}}
	}
	t.Run("before the order", func(t *testing.T) {
		h := w.settled(t, 3)
		o := w.command("tag.role=web", web, nil)
		out := h.step(ring(o, w.cancel(idOf(o))))
		one[KillRun](t, out)
		for range 20 { // it is asked for in vain
			for _, f := range of[FetchOrder](out) {
				h.step(OrderFetched{From: f.From, Command: f.Command, Failed: true})
			}
			out = h.pass(retryAfter)
		}
		if h.busy() {
			t.Error("it waits for ever")
		}
		out = h.step(bell(o, 9, true))
		none[StartRun](t, out)
		wantSays(t, out, exec.Cancelled)
	})
	t.Run("of a running command", func(t *testing.T) {
		h := w.settled(t, 3)
		o := w.command("tag.role=web", web, nil)
		one[StartRun](t, h.step(bell(o, 9, true)))
		out := h.step(ring(o, w.cancel(idOf(o))))
		one[KillRun](t, out)
		wantSays(t, out) // the run's end says it
		wantSays(t, h.step(RunEnded{Command: idOf(o), Status: exec.Cancelled, Started: 5}), exec.Cancelled)
		late := ring(o, w.cancel(idOf(o)))
		late.Bell.Act++
		none[KillRun](t, h.step(late))
	})
	t.Run("by the cursor, with the order", func(t *testing.T) {
		h := w.settled(t, 3)
		o := w.command("tag.role=web", web, nil)
		out := h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: 10, Order: o, Cancel: []auth.Envelope{w.cancel(idOf(o))}}}})
		none[StartRun](t, out)
		one[KillRun](t, out)
		wantSays(t, out, exec.Cancelled)
	})
	t.Run("by the cursor, signed by somebody new", func(t *testing.T) {
		w := newTown(5, 3)
		h := w.settled(t, 3)
		o := w.command("tag.role=web", web, nil)
		eve := w.AddOperator("eve", auth.RootTeam)
		cancel := eve.Sign(auth.ForCancel, w.ID(), exec.Cancel{Header: w.Header(time.Hour), Command: idOf(o)})
		page := OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: 10, Order: o, Cancel: []auth.Envelope{cancel}}}}
		out := h.step(page)
		none[StartRun](t, out)
		one[FetchActs](t, out)
		h.step(ActsFetched{From: w.Nodes[0].ID, Acts: w.Acts[len(w.Acts)-1:]})
		out = h.step(page)
		none[StartRun](t, out)
		wantSays(t, out, exec.Cancelled)
	})
	t.Run("committed while this node was away", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			away   func(h *host)
			issued time.Duration // before
			asks   bool
		}{
			{"it has just started", func(*host) {}, 0, true},
			{"it was cut off", func(h *host) { h.pass(time.Minute) }, lateAfter + time.Second, true},
			{"it was there", func(h *host) { h.pass(time.Minute) }, time.Second, false},
		} {
			h := w.settled(t, 3)
			h.leaderless = true
			c.away(h)
			o := h.command("tag.role=web", web, func(x *exec.Command) { x.Header.Issued -= c.issued.Milliseconds() })
			out := h.step(bell(o, 9, true))
			if asks := len(of[FetchCancel](out)) == 1; asks != c.asks || asks == (len(of[StartRun](out)) == 1) {
				t.Errorf("%s: %v", c.name, kinds(out))
			}
			if !c.asks {
				continue
			}
			out = h.step(CancelFetched{Command: idOf(o), Cancel: []auth.Envelope{h.cancel(idOf(o))}})
			none[StartRun](t, out)
			wantSays(t, out, exec.Cancelled)
		}
	})
	t.Run("none, but its operator was removed while this node was away", func(t *testing.T) {
		w := newTown(5, 3)
		eve := w.AddOperator("eve", auth.RootTeam)
		h := w.settled(t, 3)
		h.leaderless = true
		o := w.commandBy(eve, "tag.role=web", web, nil)
		one[FetchCancel](t, h.step(bell(o, 9, true)))
		removal := w.take(w.DeleteOperator("eve", eve, false))
		out := h.step(CancelFetched{Command: idOf(o), RecordLen: w.Record.Length})
		none[StartRun](t, out)
		f := one[FetchActs](t, out)
		out = h.step(ActsFetched{From: f.From, Acts: []auth.Act{removal}})
		none[StartRun](t, out)
		wantSays(t, out, exec.Refused)
	})
	t.Run("perhaps, and no leader says", func(t *testing.T) {
		h := w.settled(t, 3)
		h.leaderless = true
		o := w.command("tag.role=web", web, nil)
		one[FetchCancel](t, h.step(bell(o, 9, true)))
		none[FetchCancel](t, h.pass(2*retryAfter)) // one question at a time
		h.step(CancelFetched{Command: idOf(o), Failed: true})
		out := h.pass(retryAfter)
		one[FetchCancel](t, out)
		none[StartRun](t, out)
		one[StartRun](t, h.pass(cancelWait))
	})
	t.Run("perhaps, by somebody without right", func(t *testing.T) {
		h := w.settled(t, 3)
		h.leaderless = true
		o := w.command("tag.role=web", web, nil)
		h.step(bell(o, 9, true))
		e := bob.Sign(auth.ForCancel, w.ID(), exec.Cancel{Header: w.Header(time.Hour), Command: idOf(o)})
		one[StartRun](t, h.step(CancelFetched{Command: idOf(o), Cancel: []auth.Envelope{e}}))
	})
	t.Run("without right", func(t *testing.T) {
		h := w.settled(t, 3)
		o := w.command("tag.role=web", web, nil)
		one[StartRun](t, h.step(bell(o, 9, true)))
		e := bob.Sign(auth.ForCancel, w.ID(), exec.Cancel{Header: w.Header(time.Hour), Command: idOf(o)})
		warned := 0
		for i := range 5 {
			b := ring(o, e)
			b.Bell.Act += uint64(i)
			out := h.step(b)
			none[KillRun](t, out)
			warned += len(of[Warn](out))
		}
		if warned != 1 {
			t.Errorf("warned %d times", warned)
		}
	})
	t.Run("made up", func(t *testing.T) {
		h := w.settled(t, 3)
		o, other := w.command("tag.role=web", web, nil), w.command("tag.role=web", web, nil)
		one[StartRun](t, h.step(bell(o, 9, true)))
		for i, e := range []auth.Envelope{
			alterSignature(w.cancel(idOf(o))), w.cancel(idOf(other)), {}, w.Sign(auth.ForCommand, exec.Cancel{Header: w.Header(time.Hour), Command: idOf(o)}),
			authSigner("nobody").Sign(auth.ForCancel, w.ID(), exec.Cancel{Header: w.Header(time.Hour), Command: idOf(o)}),
		} {
			b := ring(o, e)
			b.Bell.Act += uint64(i)
			if out := h.step(b); len(out) != 0 {
				t.Errorf("%d causes %s", i, kinds(out))
			}
		}
	})
}

func TestLeaderTakesItsOwn(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 0)
	all := w.ids(0, 5)
	o := w.command("*", all, nil)
	out := h.step(OrderCommitted{Committed{Act: 9, Order: o}})
	one[StartRun](t, out)
	if r := one[Ring](t, out); len(r.To) != 4 || len(r.Bell.Rider) != 1 || r.Bell.Holders[0] != h.me {
		t.Errorf("rings %+v", r)
	}
	out = h.step(OrderCommitted{Committed{Act: 10, Order: o, Cancel: []auth.Envelope{w.cancel(idOf(o))}}})
	one[KillRun](t, out)
	if r := one[Ring](t, out); r.Bell.Kind != BellCancel {
		t.Errorf("rings %+v", r)
	}
	// Its loop's record may lag behind its replica.
	eve := w.AddOperator("eve", auth.RootTeam)
	newer := w.commandBy(eve, "*", all, nil)
	none[StartRun](t, h.step(OrderCommitted{Committed{Act: 11, Order: newer}}))
	h.step(RecordCommitted{w.Acts[len(w.Acts)-1]})
	h.pass(retryAfter - time.Millisecond)
	f := one[FetchOrder](t, h.pass(time.Millisecond)) // no later than it may
	one[StartRun](t, h.step(OrderFetched{From: f.From, Command: f.Command, Order: newer}))
}

// Decided orders keep no bytes: one set of 10,000 nodes is 320 KB.
func TestDecidedOrdersAreSmall(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	for range 10 {
		o := w.command("tag.role=web", w.ids(3, 5), nil)
		h.step(bell(o, 9, true))
		h.step(RunEnded{Command: idOf(o), Status: exec.Success, Started: 5})
		if x := h.node.orders.byID[idOf(o)]; len(x.order.Nodes) != 0 || len(x.order.Statement.Body) != 0 {
			t.Fatal("it keeps them")
		}
	}
	if len(h.node.sets.sets) != 1 {
		t.Errorf("%d sets for one target", len(h.node.sets.sets))
	}
	for i := range 2 * maxSets {
		h.node.sets.share(fleet.Sum([]byte{byte(i)}), nil)
	}
	if len(h.node.sets.sets) != maxSets {
		t.Errorf("%d sets are kept", len(h.node.sets.sets))
	}
	if !slices.IsSortedFunc(h.node.members(), fleet.ID.Compare) {
		t.Error("members are not sorted")
	}
}

// An order whose bell was lost comes with the first exchange with anybody who has it, long before a beacon tells of it.
func TestHintOfAnOrder(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.pass(100 * time.Millisecond)
	old := w.beacon(0, nil)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	hint := BeaconHeard{From: w.Nodes[4].ID, Envelope: old, Hearsay: true, Act: w.act + 1}
	f := one[FetchOrders](t, h.step(hint))
	if f.Since != h.node.orders.cursor {
		t.Errorf("it asks from %d on", f.Since)
	}
	none[FetchOrders](t, h.step(hint)) // it is asking already
	one[StartRun](t, h.step(OrdersFetched{From: f.From, Orders: []Committed{{Act: w.act + 1, Order: o}}, Next: w.act + 1}))
	none[FetchOrders](t, h.step(hint)) // it has that
	lie := hint
	lie.Act = 1 << 60
	asked := 0
	for range 100 { // a lie costs a question for every exchange, one a second at most
		asked += len(of[FetchOrders](h.step(lie)))
		for _, f := range of[FetchOrders](h.pass(100 * time.Millisecond)) {
			h.step(OrdersFetched{From: f.From, Next: w.act + 1})
			asked++
		}
		if h.node.orders.asking {
			h.step(OrdersFetched{From: w.Nodes[0].ID, Next: w.act + 1})
		}
	}
	if asked > 12 {
		t.Errorf("%d questions in ten seconds", asked)
	}
}
