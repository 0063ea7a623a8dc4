package node

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
)

func direct(c *exec.Command) {
	c.Header.Mode, c.Header.Expires = auth.Direct, c.Header.Issued+exec.MaxDirect.Milliseconds()
}

func TestDirectOrder(t *testing.T) {
	w := newTown(5, 3)
	web := w.ids(3, 5)
	o := w.command("tag.role=web", web, direct)
	t.Run("where it is handed in", func(t *testing.T) {
		h := w.settled(t, 4)
		out := h.step(DirectOrder{o})
		one[StartRun](t, out)
		r := one[Ring](t, out)
		if len(r.To) != 4 || len(r.Bell.Rider) != 1 || r.Bell.Holders[0] != h.me { // the other one, and the servers
			t.Errorf("rings %d: %+v", len(r.To), r.Bell)
		}
		if held := of[HoldOrder](out); len(held) == 0 || held[0].Act != 0 {
			t.Error("nobody can fetch it, or it looks like the quorum's")
		}
		if got := len(of[Ring](h.pass(4 * time.Minute))); got != 1+len(rungAgain) {
			t.Errorf("rings %d times more", got)
		}
	})
	t.Run("where it is meant", func(t *testing.T) {
		h := w.settled(t, 3)
		h.leaderless = true
		h.pass(time.Minute) // long after it was signed
		out := h.step(bell(o, 0, true, w.Nodes[4].ID))
		none[FetchCancel](t, out) // the leader does not know it
		one[StartRun](t, out)
		none[StartRun](t, h.step(bell(o, 0, true, w.Nodes[4].ID)))
	})
	t.Run("on a server that is not meant", func(t *testing.T) {
		h := w.settled(t, 1)
		out := h.step(bell(o, 0, true, w.Nodes[4].ID))
		one[HoldOrder](t, out) // it takes reports of what it knows
		none[StartRun](t, out)
		wantSays(t, out)
	})
	t.Run("where policy does not allow it", func(t *testing.T) {
		w := newTown(5, 3)
		w.SetPolicy("permit (principal, action, resource) when { context has direct && !context.direct };")
		w.act = w.Record.Act
		o := w.command("tag.role=web", web, direct)
		h := w.settled(t, 3)
		wantSays(t, h.step(bell(o, 0, true, w.Nodes[4].ID)), exec.Refused)
		if MayDirect(o, w.Record, w.Now) == nil {
			t.Error("it is taken where it is handed in")
		}
	})
}

func TestMayDirect(t *testing.T) {
	w := newTown(5, 3)
	web := w.ids(3, 5)
	good := w.command("tag.role=web", web, direct)
	for name, c := range map[string]struct {
		order exec.Order
		late  time.Duration
		ok    bool
	}{
		"as it should be":        {good, 0, true},
		"for the quorum":         {w.command("tag.role=web", web, nil), 0, false},
		"expired":                {good, exec.MaxDirect + auth.MaxSkew, false},
		"valid for too long":     {w.command("tag.role=web", web, func(c *exec.Command) { direct(c); c.Header.Expires++ }), 0, false},
		"with limits":            {w.command("tag.role=web", web, func(c *exec.Command) { direct(c); paced1(c) }), 0, false},
		"altered":                {exec.Order{Statement: alter(good.Statement, longer), Nodes: good.Nodes}, 0, false},
		"for others than signed": {exec.Order{Statement: good.Statement, Nodes: w.ids(0, 2)}, 0, false},
		"nobody's":               {w.commandBy(authSigner("nobody"), "tag.role=web", web, direct), 0, false},
	} {
		if err := MayDirect(c.order, w.Record, w.Now.Add(c.late)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if out := w.settled(t, 4).step(DirectOrder{c.order}); (len(of[Ring](out)) > 0) != c.ok && name != "expired" && name != "valid for too long" && name != "with limits" {
			t.Errorf("%s: %v", name, kinds(out)) // the others are refused by every node
		}
	}
}

func TestOwnReport(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	o := w.command("tag.role=web", w.ids(3, 5), direct)
	if got := one[AnswerReport](t, h.step(ReportAsked{Command: idOf(o), Ticket: 1})); len(got.Report) != 0 {
		t.Errorf("%+v", got)
	}
	h.step(bell(o, 0, true))
	h.step(RunEnded{Command: idOf(o), Status: exec.Success, Started: 5, Ended: 6, Steps: []exec.StepReport{{Name: "a", Status: exec.Success}}})
	got := one[AnswerReport](t, h.step(ReportAsked{Command: idOf(o), Ticket: 2}))
	if got.Ticket != 2 || len(got.Report) != 1 || got.Report[0].Status != exec.Success || len(got.Report[0].Steps) != 1 {
		t.Errorf("%+v", got)
	}
}

// What a bell brought is not asked for again when a beacon tells of it.
func TestKnownOrdersNeedNotCome(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	w.act++
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	h.step(bell(o, w.act, true))
	f := one[FetchOrders](t, append(h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)}), h.pass(time.Second)...))
	if len(f.Known) != 1 || f.Known[0] != idOf(o) {
		t.Errorf("it has %v", f.Known)
	}
	if got := h.node.orders.behind(w.act); len(got) != 0 {
		t.Errorf("behind the cursor %v", got)
	}
	for i := range 2 * maxKnown {
		h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: w.act + uint64(i), Order: w.command("tag.role=web", w.ids(3, 5), nil)}}})
	}
	if got := h.node.orders.behind(0); len(got) != maxKnown {
		t.Errorf("%d are named", len(got))
	}
}
