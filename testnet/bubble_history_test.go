package testnet

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// noteOrder notes a command that somebody has signed. It counts as asked for with the first answer.
func (w *town) noteOrder(body exec.Command, ids []fleet.ID) {
	order := check.Order{
		ID: body.Header.ID, Does: body.Run.Text(), Asked: time.Now(), Expires: time.UnixMilli(body.Header.Expires),
		Timeout: time.Duration(body.Run.Timeout) * time.Millisecond,
	}
	for _, id := range ids {
		order.Nodes = append(order.Nodes, w.nameOf(id))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[order.ID] = len(w.history.Orders)
	w.history.Orders = append(w.history.Orders, order)
}

// noteAnswer notes what the sender of a command was told. A yes stands, whatever is said to a repetition; and a no is
// for certain only where no earlier try may have been taken.
func (w *town) noteAnswer(e consensus.Entry, err error) {
	put, ok := e.(consensus.PutCommand)
	if !ok {
		return
	}
	body, peeked := auth.Peek[exec.Command](put.Statement)
	if peeked != nil {
		w.Error(peeked)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	order := &w.history.Orders[w.orders[body.Header.ID]]
	switch ack := answerOf(err); {
	case order.Ack == check.Accepted, order.Ack == check.InDoubt && ack == check.Refused:
	default:
		order.Ack, order.Answered = ack, time.Now()
	}
}

func answerOf(err error) check.Ack {
	switch {
	case err == nil:
		return check.Accepted
	case fleet.KindOf(err) == fleet.Unavailable, fleet.KindOf(err) == fleet.Internal:
		return check.InDoubt
	}
	return check.Refused
}

func (w *town) noteCancel(command fleet.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Cancels = append(w.history.Cancels, check.Cancel{Command: command, Ack: check.Accepted, Asked: time.Now()})
}

func (w *town) noteRun(r check.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Runs = append(w.history.Runs, r)
	if key := (townRun{r.Command, r.Node}); w.ran[key].IsZero() {
		w.ran[key] = r.Began
	}
}

func (w *town) noteReport(by *townHost, r exec.Report) {
	said := check.Report{
		Command: r.Command, Node: w.nameOf(r.Node), By: by.name, Status: r.Status, Signal: r.Signal, Detail: r.Detail,
		Stdout: &check.Output{Size: r.Stdout.Size, Head: string(r.Stdout.Head), Tail: string(r.Stdout.Tail)},
	}
	if r.Started != 0 && r.Ended != 0 {
		said.Exit = &r.ExitCode
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Reports = append(w.history.Reports, said)
}

// readThrough reads the list of commands through a host; what it says must be the newest.
func (h *townHost) readThrough() {
	w := h.town
	read := check.Read{By: h.name, Asked: time.Now(), Listed: map[fleet.UUID]bool{}}
	answer, err := h.host.Agent.Read(w.Context(), h.read(node.ReadCommands, fleet.UUID{}))
	if err != nil {
		return // a bad network; who is answered is told the truth
	}
	for _, c := range answer.Commands {
		read.Listed[c.ID] = true
	}
	read.Answered = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Reads = append(w.history.Reads, read)
}

func (w *town) noteReplica(h *townHost, s consensus.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Replicas = append(w.history.Replicas, replicaOf(h, s))
}

func replicaOf(h *townHost, s consensus.State) check.Replica {
	return check.Replica{Node: h.name, Act: s.Taken, Digest: s.Digest().String()}
}

// noteUp ends the time in which a host was down: what it did before and could tell nobody may be unknown until now.
func (w *town) noteUp(h *townHost) {
	if h.down.IsZero() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Excuses = append(w.history.Excuses, check.Excuse{Node: h.name, From: h.down, To: time.Now(), Why: "it was down"})
	h.down = time.Time{}
}

// judge holds the town to every promise, over all that the test did.
func (w *town) judge() {
	w.Helper()
	for _, v := range check.All(w.account()) {
		w.Error(v)
	}
}

// account asks a host that runs for the last word on everything, and returns the whole history.
func (w *town) account() check.History {
	w.Helper()
	w.converged()
	up := w.running()
	at := up[slices.IndexFunc(up, func(h *townHost) bool { _, ok := h.host.State(); return ok })]
	state, _ := at.host.State()
	charters, commands := chartersOf(state), state.Commands(consensus.MaxCommands)
	for _, c := range commands {
		w.lastWord(at, c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.history
	out.Ended, out.Charter = time.Now(), state.Record.Charter
	out.Listed, out.IDs = map[fleet.UUID]bool{}, map[string]fleet.ID{}
	for _, c := range commands {
		out.Listed[c.ID()] = true
		out.Statements = append(out.Statements, check.Statement{
			Order: c.Order, Committed: time.UnixMilli(c.Committed), Charter: charters.at(c.Committed),
		})
	}
	for _, h := range w.hosts {
		out.IDs[h.name] = h.id
		if h.host == nil {
			out.Excuses = append(out.Excuses, check.Excuse{Node: h.name, From: h.down, Why: "it is down"})
			continue
		}
		if s, ok := h.host.State(); ok {
			out.Last = append(out.Last, replicaOf(h, h.runs.distort(s)))
		}
	}
	return out
}

// lastWord asks for a command's ends until there is one of every host that runs, and notes what there is none of.
func (w *town) lastWord(at *townHost, c *consensus.Command) {
	var of []*townHost
	for _, h := range w.running() {
		if c.Order.Has(h.id) {
			of = append(of, h)
		}
	}
	said := map[fleet.ID]exec.Report{}
	for range 30 {
		got := at.reports(c.ID(), of...)
		for _, h := range w.hosts {
			if r, ok := got[h.name]; ok {
				said[h.id] = r
			}
		}
		if !slices.ContainsFunc(of, func(h *townHost) bool { return !said[h.id].Status.Final() }) {
			break
		}
	}
	online := func(id fleet.ID) bool { return slices.ContainsFunc(of, func(h *townHost) bool { return h.id == id }) }
	for _, o := range exec.Outcomes(c.Order.Nodes, said, online, time.UnixMilli(c.Body.Header.Expires), at.status().Now) {
		if o.Report.Seq == 0 {
			w.noteReport(at, exec.Report{Command: c.ID(), Node: o.Node, Status: o.Status})
		}
	}
}

// charters are a fleet's charters, each with the moment from which it was the newest.
type charters []struct {
	from    int64 // Unix milliseconds
	charter *auth.Charter
}

func chartersOf(s consensus.State) (out charters) {
	record := auth.NewRecord()
	for _, act := range s.Acts(0, int(s.Record.Length)) {
		next, err := record.Apply(act, fleet.ID{})
		if err != nil {
			continue // the checkers will say that the state is none
		}
		if next.Charter != record.Charter {
			out = append(out, struct {
				from    int64
				charter *auth.Charter
			}{act.Time, next.Charter})
		}
		record = next
	}
	return out
}

func (c charters) at(ms int64) *auth.Charter {
	var newest *auth.Charter
	for _, one := range c {
		if one.from <= ms {
			newest = one.charter
		}
	}
	return newest
}

// distort is a replica's state as it is, unless a bug was planted there.
func (m *memory) distort(s consensus.State) consensus.State {
	if m.plant == anotherState {
		act := s.Act
		s, _ = s.Apply(consensus.PutRequest{Request: consensus.OperatorRequest{Name: "mallory", Key: make([]byte, 32), Issued: s.Time}}, s.Time)
		s.Act = act
	}
	return s
}

// TestPlantedBugsAreCaught makes one mistake on purpose in an otherwise whole town; the checkers name it, its host, and
// nothing else.
func TestPlantedBugsAreCaught(t *testing.T) {
	for plant, want := range map[bug][]check.Promise{
		noBug:        nil,
		forgetsRuns:  {check.PromiseOnce, check.PromiseTruth},
		runsNothing:  {check.PromiseTruth},
		runsAnyBody:  {check.PromiseSigned},
		anotherState: {check.PromiseReplicas},
	} {
		t.Run(string(plant), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t)
				w.found()
				w.prepare(3, 2)
				w.settled()
				culprit := w.hosts[1]
				culprit.runs.plant = plant
				w.hosts[2].send()
				time.Sleep(10 * time.Second)
				culprit.kill()
				culprit.start()
				w.settled()
				time.Sleep(30 * time.Second)
				var got []check.Promise
				for _, v := range check.All(w.account()) {
					if v.Node != culprit.name {
						t.Errorf("%s is accused: %s", v.Node, v)
					}
					if !slices.Contains(got, v.Promise) {
						got = append(got, v.Promise)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("caught: %q", got)
				}
			})
		})
	}
}
