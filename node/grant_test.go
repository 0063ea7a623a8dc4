package node

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
)

// one node at a time.
func paced1(c *exec.Command) { c.Pace = exec.Pace{Limited: true, Concurrency: 1} }

// asks returns the questions for a grant.
func asks(t *testing.T, effects []Effect) (out []AskGrant) {
	t.Helper()
	none[StartRun](t, effects)
	return of[AskGrant](effects)
}

// pacedHost is node 3 with a paced order for two that waits for a grant; asked is its question.
func pacedHost(t *testing.T, change func(*exec.Command)) (h *host, o exec.Order, asked AskGrant) {
	w := newTown(5, 3)
	h = w.settled(t, 3)
	o = w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) {
		paced1(c)
		if change != nil {
			change(c)
		}
	})
	out := h.step(bell(o, 9, true))
	out = append(out, h.pass(10*time.Millisecond)...)
	got := asks(t, out)
	if len(got) != 1 || got[0].Command != idOf(o) {
		t.Fatalf("it asks %v", got)
	}
	return h, o, got[0]
}

func (h *host) answers(a AskGrant, as GrantAnswer) []Effect {
	h.Helper()
	return h.step(GrantAnswered{Command: a.Command, Asked: a.Asked, Answer: as})
}

func TestGrantedStarts(t *testing.T) {
	for _, as := range []GrantAnswer{Granted, GrantedNow} {
		h, o, asked := pacedHost(t, nil)
		h.pass(5 * time.Second)
		start := one[StartRun](t, h.answers(asked, as))
		if start.Command.Header.ID != idOf(o) || start.By != asked.Asked+exec.StartBy {
			t.Errorf("%+v", start)
		}
		none[StartRun](t, h.answers(asked, as)) // once
		none[AskGrant](t, h.pass(time.Minute))
	}
}

func TestUnlimitedNeedsNoGrant(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	out := h.step(bell(w.command("tag.role=web", w.ids(3, 5), nil), 9, true))
	if start := one[StartRun](t, out); start.By != 0 {
		t.Errorf("by %s", start.By)
	}
	none[AskGrant](t, out)
}

// An answer is good within StartBy of its question, whatever else was asked since; later it is asked again.
func TestLateGrant(t *testing.T) {
	t.Run("too late", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		none[AskGrant](t, h.pass(exec.StartBy-time.Second))
		again := asks(t, h.pass(time.Second))
		if len(again) != 1 {
			t.Fatalf("it asks again %d times", len(again))
		}
		h.pass(time.Second)
		if more := asks(t, h.answers(asked, Granted)); len(more) != 0 { // one question is under way
			t.Errorf("it asks %v", more)
		}
		one[StartRun](t, h.answers(again[0], Granted))
	})
	t.Run("an earlier one in time", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		h.pass(time.Second)
		again := asks(t, h.step(turnOf(h, asked)))
		if len(again) != 1 {
			t.Fatal("it does not follow its bell")
		}
		if start := one[StartRun](t, h.answers(asked, Granted)); start.By != asked.Asked+exec.StartBy {
			t.Errorf("by %s", start.By-asked.Asked)
		}
	})
	t.Run("the shell was stopped", func(t *testing.T) {
		h, o, asked := pacedHost(t, nil)
		one[StartRun](t, h.answers(asked, Granted))
		again := asks(t, h.step(RunLate{idOf(o)}))
		if len(again) != 1 {
			t.Fatal("it does not ask again")
		}
		one[StartRun](t, h.answers(again[0], Granted))
	})
	t.Run("the node must catch up first", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.at.Wall = h.at.Wall.Add(time.Hour / 2) // its clock is wrong
		none[StartRun](t, h.answers(asked, Granted))
		none[AskGrant](t, h.pass(exec.StartBy/2))
		h.at.Wall = h.at.Wall.Add(-time.Hour / 2)
		one[StartRun](t, h.pass(2*retryAfter))
	})
}

func turnOf(h *host, a AskGrant) BellHeard {
	return BellHeard{Bell{Kind: BellTurn, Statement: a.Command, Act: 9, Holders: h.ids(0, 1)}}
}

func TestWaitingForItsTurn(t *testing.T) {
	t.Run("asks by itself", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		none[AskGrant](t, h.pass(askAgain-time.Millisecond))
		if got := asks(t, h.pass(time.Second)); len(got) != 1 {
			t.Errorf("asks %d times", len(got))
		}
	})
	t.Run("asks when its turn is rung", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		if got := asks(t, h.step(turnOf(h, asked))); len(got) != 1 {
			t.Errorf("asks %d times", len(got))
		}
	})
	t.Run("a flood of bells", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		questions := 0
		for range 100 {
			out := h.step(turnOf(h, asked))
			for _, a := range of[AskGrant](append(out, h.pass(10*time.Millisecond)...)) {
				questions++
				h.answers(a, GrantWait)
			}
		}
		if questions < 2 || questions > 6 {
			t.Errorf("asks %d times in a second", questions)
		}
	})
	t.Run("asks a new leader", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		h.term++
		h.step(BeaconHeard{From: h.Nodes[1].ID, Envelope: h.beacon(1, func(b *auth.Beacon) { b.Leader = h.Nodes[1].ID })})
		if got := asks(t, h.pass(10*time.Millisecond)); len(got) != 1 {
			t.Errorf("asks %d times", len(got))
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantFailed)
		questions := 0
		for range 240 {
			for _, a := range asks(t, h.pass(250*time.Millisecond)) {
				questions++
				h.answers(a, GrantFailed)
			}
		}
		if questions < 5 || questions > 10 {
			t.Errorf("asks %d times in a minute", questions)
		}
	})
	t.Run("an answer is lost for good", func(t *testing.T) {
		h, _, _ := pacedHost(t, nil)
		if got := asks(t, h.pass(exec.StartBy)); len(got) != 1 {
			t.Errorf("asks %d times", len(got))
		}
	})
	t.Run("a large set does not ask at once", func(t *testing.T) {
		w := newTown(300, 3)
		late := 0
		o := w.command("*", w.ids(0, 300), paced1)
		for i := 3; i < 43; i++ {
			h := w.settled(t, i)
			if len(of[AskGrant](h.step(bell(o, 9, true)))) == 0 {
				late++
			}
			h.Now = h.Now.Add(-h.at.Boot + time.Hour)
		}
		if late < 35 {
			t.Errorf("%d of 40 wait a moment", late)
		}
	})
	t.Run("it looks at nothing meanwhile", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		h.step(Tick{})
		if next := h.node.orders.wakeAt - h.at.Boot; next < askAgain {
			t.Errorf("it looks at the order again in %s", next)
		}
	})
}

// What ends the wait.
func TestNeverGranted(t *testing.T) {
	t.Run("stopped", func(t *testing.T) {
		h, o, asked := pacedHost(t, nil)
		out := h.answers(asked, GrantStopped)
		if r := one[RefuseRun](t, out); r.As != exec.Terminated || r.Digest.IsZero() {
			t.Errorf("%+v", r)
		}
		wantSays(t, out, exec.Terminated)
		none[AskGrant](t, h.pass(time.Minute))
		none[StartRun](t, h.step(bell(o, 10, true)))
	})
	t.Run("the servers know its end", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		wantSays(t, h.answers(asked, GrantEnded), exec.Terminated)
	})
	t.Run("expired", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.answers(asked, GrantWait)
		var out []Effect
		for range 70 {
			h.to(h.at.Boot + time.Minute)
			out = append(out, h.step(Tick{})...)
			for _, a := range of[AskGrant](out) {
				h.answers(a, GrantWait)
			}
		}
		one[RefuseRun](t, out)
		wantSays(t, out, exec.DeliveryTimedOut)
	})
	t.Run("cancelled", func(t *testing.T) {
		h, o, asked := pacedHost(t, nil)
		h.leaderless = true
		f := one[FetchCancel](t, h.answers(asked, GrantCancelled))
		out := h.step(CancelFetched{Command: f.Command, Cancel: []auth.Envelope{h.cancel(idOf(o))}})
		one[KillRun](t, out)
		wantSays(t, out, exec.Cancelled)
	})
	t.Run("cancelled by somebody whose cancel does not count here", func(t *testing.T) {
		h, o, asked := pacedHost(t, nil)
		h.leaderless = true
		f := one[FetchCancel](t, h.answers(asked, GrantCancelled))
		e := authSigner("nobody").Sign(auth.ForCancel, h.ID(), exec.Cancel{Header: h.Header(time.Hour), Command: idOf(o)})
		out := h.step(CancelFetched{Command: f.Command, Cancel: []auth.Envelope{e}})
		none[KillRun](t, out)
		wantSays(t, out, exec.Terminated)
	})
	t.Run("cancelled, and the answer is lost", func(t *testing.T) {
		h, _, asked := pacedHost(t, nil)
		h.leaderless = true
		f := one[FetchCancel](t, h.answers(asked, GrantCancelled))
		h.step(CancelFetched{Command: f.Command, Failed: true})
		again := asks(t, h.pass(askAgain+time.Second))
		if len(again) != 1 {
			t.Fatal("it does not ask again")
		}
		one[FetchCancel](t, h.answers(again[0], GrantCancelled))
	})
	t.Run("its operator was removed meanwhile", func(t *testing.T) {
		w := newTown(5, 3)
		eve := w.AddOperator("eve", auth.RootTeam)
		w.act = w.Record.Act
		h := w.settled(t, 3)
		o := w.commandBy(eve, "tag.role=web", w.ids(3, 5), paced1)
		asked := asks(t, append(h.step(bell(o, 9, true)), h.pass(10*time.Millisecond)...))
		h.answers(asked[0], GrantWait)
		removal := w.take(w.DeleteOperator("eve", eve, false))
		wantSays(t, h.step(ActsFetched{From: w.Nodes[0].ID, Acts: []auth.Act{removal}}), exec.Refused)
	})
	t.Run("a cancel for others leaves no trace", func(t *testing.T) {
		h := newTown(5, 3).settled(t, 3)
		e := h.Sign(auth.ForCancel, exec.Cancel{Header: h.Header(time.Hour), Command: uuid(5), Nodes: h.ids(4, 5)})
		h.step(BellHeard{Bell{Kind: BellCancel, Statement: uuid(5), Act: 10, Rider: []auth.Envelope{e}}})
		if len(h.node.orders.byID) != 0 {
			t.Error("it waits for an order of which it heard that way")
		}
	})
	t.Run("cancelled for this node alone", func(t *testing.T) {
		for _, named := range []bool{true, false} {
			h, o, _ := pacedHost(t, nil)
			of := h.ids(4, 5)
			if named {
				of = h.ids(3, 4)
			}
			e := h.Sign(auth.ForCancel, exec.Cancel{Header: h.Header(time.Hour), Command: idOf(o), Nodes: of})
			out := h.step(BellHeard{Bell{Kind: BellCancel, Statement: idOf(o), Act: 10, Holders: h.ids(0, 1), Rider: []auth.Envelope{e}}})
			if named {
				one[KillRun](t, out)
				wantSays(t, out, exec.Cancelled)
			} else if len(out) != 0 {
				t.Errorf("another's cancel causes %v", kinds(out))
			}
			out = h.step(OrdersFetched{From: h.Nodes[0].ID, Orders: []Committed{{Act: 10, Order: o, Cancel: []auth.Envelope{e}}}})
			none[KillRun](t, out)
			none[Warn](t, out)
		}
	})
}

// A node that was restarted between its grant and its start asks again, and only its ledger keeps it from starting twice.
func TestRestartBetweenGrantAndStart(t *testing.T) {
	h, o, asked := pacedHost(t, nil)
	one[StartRun](t, h.answers(asked, Granted))
	h = h.town.settled(t, 3) // nothing of it was written
	again := asks(t, append(h.step(bell(o, 9, true)), h.pass(10*time.Millisecond)...))
	one[StartRun](t, h.answers(again[0], Granted))
	h = h.town.settled(t, 3)
	h.step(RunStarted{Command: idOf(o), At: 5}) // the ledger has it
	out := append(h.step(bell(o, 9, true)), h.pass(time.Minute)...)
	none[AskGrant](t, out)
	none[StartRun](t, out)
}

// A command that waits for another comes by a bell of its turn alone, is not passed on, and does not look like news.
func TestOrderByItsTurn(t *testing.T) {
	w := newTown(300, 3)
	after := func(c *exec.Command) { paced1(c); c.After = exec.After{Command: uuid(7), Wave: 1} }
	o := w.command("*", w.ids(0, 300), after)
	t.Run("the leader rings nobody", func(t *testing.T) {
		h := w.settled(t, 0)
		out := append(h.step(OrderCommitted{Committed{Act: 9, Order: o}}), h.pass(time.Second)...)
		none[Ring](t, out)
		none[AskGrant](t, out)
		if held := one[HoldOrder](t, out); held.Act != 0 {
			t.Error("it looks like news")
		}
	})
	t.Run("its turn", func(t *testing.T) {
		h := w.settled(t, 5)
		b := BellHeard{Bell{Kind: BellTurn, Statement: idOf(o), Act: 9, Holders: w.ids(0, 1), Rider: []auth.Envelope{o.Statement}}}
		out := h.step(b)
		if got := asks(t, out); len(got) != 1 {
			t.Errorf("asks %d times", len(got))
		}
		if held := one[HoldOrder](t, out); held.Act != 0 {
			t.Error("it looks like news")
		}
		none[Ring](t, append(out, h.pass(time.Second)...))
	})
	t.Run("its turn, without the order", func(t *testing.T) {
		h := w.settled(t, 5)
		f := one[FetchOrder](t, h.step(BellHeard{Bell{Kind: BellTurn, Statement: idOf(o), Act: 9, Holders: w.ids(0, 1)}}))
		if got := asks(t, h.step(OrderFetched{From: f.From, Command: f.Command, Order: o})); len(got) != 1 {
			t.Errorf("asks %d times", len(got))
		}
	})
}

// An answer that this version does not understand is none.
func TestStrangeAnswer(t *testing.T) {
	h, _, asked := pacedHost(t, nil)
	for range 5 {
		out := h.answers(asked, GrantEnded+1)
		none[AskGrant](t, out)
		none[RefuseRun](t, out)
		again := asks(t, h.pass(askAgain+time.Second))
		if len(again) != 1 {
			t.Fatalf("asks %d times", len(again))
		}
		asked = again[0]
	}
}
