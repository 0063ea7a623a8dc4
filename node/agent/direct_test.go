package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func (d *desk) direct(change func(*exec.Command)) exec.Order {
	nodes := d.order.Nodes
	c := exec.Command{Header: d.Header(exec.MaxDirect), Target: "all", Count: 2, Set: exec.SetDigest(nodes), Run: exec.Run{Argv: []string{"true"}, Timeout: 1000}}
	c.Header.Mode = auth.Direct
	if change != nil {
		change(&c)
	}
	return exec.Order{Nodes: nodes, Statement: d.Sign(auth.ForCommand, c)}
}

func TestDirect(t *testing.T) {
	d := newDesk(t)
	o := d.direct(nil)
	if err := d.Direct(t.Context(), o); err != nil {
		t.Error(err)
	}
	if got := d.posted(); len(got) != 1 || idOf(got[0].(node.DirectOrder).Order) != idOf(o) {
		t.Errorf("%+v", got)
	}
	if err := d.Direct(t.Context(), d.direct(func(c *exec.Command) { c.Header.Mode = auth.ByQuorum })); err == nil || len(d.posted()) != 0 {
		t.Errorf("an order for the quorum: %v", err)
	}
	// Servers take reports of what they were told of, and of nothing else.
	report := func(o exec.Order, by fleet.ID) error {
		signer := d.web.Signer
		if by == d.db.ID {
			signer = d.db.Signer
		}
		return d.takeReport(over(), by, wire.Marshal(signer.Sign(auth.ForReport, d.Fleet.ID(), exec.Report{Command: idOf(o), Node: by, Seq: 1, Status: exec.Success})))
	}
	if err := report(o, d.web.ID); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("of an order that is not known: %v", err)
	}
	d.orders.put(idOf(o), 0, o)
	if err := report(o, d.web.ID); err != nil {
		t.Errorf("of one that is held: %v", err)
	}
	if err := report(o, d.db.ID); err == nil {
		t.Error("of a node that it is not for")
	}
	notDirect := d.direct(func(c *exec.Command) { c.Header.Mode = auth.ByQuorum })
	d.orders.put(idOf(notDirect), 0, notDirect)
	if err := report(notDirect, d.web.ID); err == nil {
		t.Error("of one that the quorum does not have")
	}
}

func TestNodeReport(t *testing.T) {
	d := newDesk(t)
	read := func(by auth.Signer, what node.ReadWhat) auth.Envelope {
		return by.Sign(auth.ForRequest, d.Fleet.ID(), node.Read{Header: d.Header(node.ReadLife), What: what, Arg: d.commandID(), Node: d.self})
	}
	elsewhere := d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: node.ReadReport, Arg: d.commandID(), Node: d.web.ID})
	answer := func(signed auth.Envelope, said []exec.Report) (auth.Envelope, error) {
		ctx, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() {
			select {
			case ev := <-d.queue:
				d.words.answer(ev.(node.ReportAsked).Ticket, said)
			case <-ctx.Done():
			}
		})
		defer loop.Wait() // else it might answer the next one's question
		defer cancel()
		return d.NodeReport(ctx, d.self, signed)
	}
	mine := exec.Report{Command: d.commandID(), Node: d.self, Seq: 4, Status: exec.Success}
	e, err := answer(read(d.Operator, node.ReadReport), []exec.Report{mine})
	if r, openErr := exec.OpenReport(d.record(), e); err != nil || openErr != nil || r.Seq != 4 {
		t.Errorf("%+v, %v, %v", r, err, openErr)
	}
	other := mine
	other.Command = fleet.UUID{7}
	for name, c := range map[string]struct {
		signed auth.Envelope
		said   []exec.Report
	}{
		"nothing to say":     {read(d.Operator, node.ReadReport), nil},
		"read by a node":     {read(d.web.Signer, node.ReadReport), []exec.Report{mine}},
		"something else":     {read(d.Operator, node.ReadWhy), []exec.Report{mine}},
		"of another command": {read(d.Operator, node.ReadReport), []exec.Report{other}},
		"for another node":   {elsewhere, []exec.Report{mine}},
		"unsigned":           {auth.Envelope{}, []exec.Report{mine}},
	} {
		if _, err := answer(c.signed, c.said); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
}

// A watch tells of a rollout as it goes on, a few times a second, and of what matters at once.
func TestWatchOfARollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPacedDesk(t)
		d.reports = watchable{d.held}
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var seen []node.CommandInfo
		var over sync.WaitGroup
		signed := d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: node.ReadCommand, Arg: idOf(d.paced)})
		d.picture.Store(&picture{record: d.record(), beacon: auth.Beacon{Voters: []fleet.ID{d.self}}, clock: d.picture.Load().clock})
		over.Go(func() {
			if err := d.Watch(ctx, signed, func(u node.Update) error {
				mu.Lock()
				defer mu.Unlock()
				if u.Info != nil {
					seen = append(seen, *u.Info)
				}
				return nil
			}); !errors.Is(err, context.Canceled) {
				t.Errorf("it ends: %v", err)
			}
		})
		put := func(e consensus.Entry) {
			t.Helper()
			if result, err := d.commit(t.Context(), e); err != nil || result.Err() != nil {
				t.Fatal(err, result.Err())
			}
		}
		last := func() node.CommandInfo {
			mu.Lock()
			defer mu.Unlock()
			if len(seen) == 0 {
				return node.CommandInfo{}
			}
			return seen[len(seen)-1]
		}
		time.Sleep(time.Second)
		if len(last().Rollout.Nodes) != 2 || len(seen) != 1 {
			t.Fatalf("it begins with %+v", seen)
		}
		put(consensus.PutGrants{Command: idOf(d.paced), Nodes: []uint32{0}})
		time.Sleep(2 * movedEvery)
		if got := last().Rollout; got.Granted != 1 || got.Running != 1 {
			t.Errorf("after a grant: %+v", got)
		}
		put(consensus.PutEndings{Command: idOf(d.paced), Ends: []exec.Ending{{Node: 0, As: exec.EndedFailed}}})
		time.Sleep(2 * movedEvery)
		if got := last().Rollout; got.Stopped != exec.StoppedByErrors {
			t.Errorf("after the first failure: %+v", got)
		}
		put(consensus.PutCancel{Statement: d.Sign(auth.ForCancel, exec.Cancel{Header: d.Header(time.Hour), Command: idOf(d.paced), Nodes: d.paced.Nodes[:1]})})
		time.Sleep(2 * time.Second)
		if got := last(); len(got.Cancels) != 1 || got.Cancelled != 0 {
			t.Errorf("after a cancel on one node: %+v", got.Cancels)
		}
		put(consensus.PutCancel{Statement: d.Sign(auth.ForCancel, exec.Cancel{Header: d.Header(time.Hour), Command: idOf(d.paced)})})
		time.Sleep(2 * movedEvery)
		if last().Cancelled == 0 {
			t.Error("it does not tell of the cancel")
		}
		if len(seen) > 8 {
			t.Errorf("it tells %d times of 4 changes", len(seen))
		}
		stop()
		over.Wait()
	})
}

// News of a rollout is passed on at most four times a second, unless something turned; what was held back comes later,
// and older news never.
func TestMovesAreThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPacedDesk(t)
		c, _ := d.replica.State().Command(idOf(d.paced))
		told := 0
		var last exec.Rollout
		w := &watching{newest: map[fleet.ID]exec.Report{}, behind: map[fleet.ID]bool{}, stop: func(error) {}}
		w.each = func(u node.Update) error {
			if u.Info != nil {
				told++
				last = u.Info.Rollout
			}
			return nil
		}
		hear := func(taken uint64, r exec.Rollout) {
			t.Helper()
			body := watchBody{Moved: []movedInfo{{Taken: taken, Rollout: r}}}
			if taken == 0 {
				body = watchBody{Info: []watchInfo{{Order: c.Order, Now: movedInfo{Rollout: r}}}}
			}
			if err := w.take(d.record(), d.web.ID, body); err != nil {
				t.Fatal(err)
			}
		}
		one, _ := c.Rollout.Grant(c.Body.Pace, []uint32{0})
		two := one.End(c.Body.Pace, []exec.Ending{{Node: 0, As: exec.EndedOK}})
		hear(0, c.Rollout)
		hear(1, one)
		hear(2, two)
		if told != 1 {
			t.Errorf("told %d times at once", told)
		}
		w.flush()
		if told != 2 || !last.Equal(two) {
			t.Errorf("told %d times, last %+v", told, last)
		}
		w.flush()
		time.Sleep(time.Second)
		hear(1, one) // of a server that is behind
		if told != 2 {
			t.Error("older news is passed on")
		}
		hear(3, two.Stop(exec.StoppedByGate))
		hear(4, exec.Rollout{Nodes: []byte{1, 1}, Running: 1}) // a lie
		if told != 3 || last.Stopped == "" {
			t.Errorf("told %d times, last %+v", told, last)
		}
	})
}

// A grant that comes to a host that was stopped meanwhile is not used.
func TestStartIsNotLate(t *testing.T) {
	d := newDesk(t)
	runs := &doing{a: d.Agent}
	d.runner = runs
	now := d.cfg.Clock().Boot
	d.startRun(t.Context(), node.StartRun{Command: exec.Command{Header: auth.Header{ID: d.commandID()}}, By: now - 1})
	if got := d.posted(); len(runs.runs) != 0 || len(got) != 1 || got[0] != (node.RunLate{Command: d.commandID()}) {
		t.Errorf("%d runs, %+v", len(runs.runs), got)
	}
	for err, want := range map[error]node.Event{
		TooLate{}: node.RunLate{Command: d.commandID()},
		NotStarted{As: exec.InvalidPlatform, Err: errors.New("no docker")}: node.RunNotStarted{Command: d.commandID(), As: exec.InvalidPlatform, Why: "no docker"},
		errors.New("no room"): node.RunNotStarted{Command: d.commandID(), Why: "could not be started: no room"},
	} {
		d.runner = failing{err: err}
		d.startRun(t.Context(), node.StartRun{Command: exec.Command{Header: auth.Header{ID: d.commandID()}}, By: now})
		if got := d.posted(); len(got) != 1 || got[0] != want {
			t.Errorf("%v: %+v", err, got)
		}
	}
}

type failing struct {
	stubRunner
	err error
}

func (f failing) Start(context.Context, node.StartRun) error { return f.err }

// A watch is of a command: what was signed to read something else, at the servers or at a node, opens none.
func TestWatchWantsACommand(t *testing.T) {
	d := newDesk(t)
	for what, at := range map[node.ReadWhat]fleet.ID{node.ReadOutput: d.self, node.ReadWhy: d.self, node.ReadReport: d.self, node.ReadCommands: {}, node.ReadTokens: {}} {
		signed := d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: what, Arg: d.commandID(), Node: at})
		err := d.watchHere(t.Context(), signed, func(watchBody) error {
			t.Errorf("%s: told", what)
			return context.Canceled
		})
		if fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}
