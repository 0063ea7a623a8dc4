package agent

import (
	"context"
	"slices"
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

// pacedDesk is a desk with a command for all, one node at a time.
type pacedDesk struct {
	*desk
	paced exec.Order
}

func newPacedDesk(tb testing.TB) *pacedDesk {
	tb.Helper()
	d := newDesk(tb)
	return &pacedDesk{desk: d, paced: d.putPaced(tb)}
}

func (d *desk) putPaced(tb testing.TB) exec.Order {
	tb.Helper()
	nodes := d.order.Nodes
	o := exec.Order{Nodes: nodes, Statement: d.Sign(auth.ForCommand, exec.Command{
		Header: d.Header(exec.DefaultExpires), Target: "all", Count: 2, Set: exec.SetDigest(nodes), Run: exec.Run{Argv: []string{"true"}, Timeout: 1000},
		Pace: exec.Pace{Limited: true, Concurrency: 1},
	})}
	if result, err := d.commit(context.Background(), consensus.PutCommand{Statement: o.Statement, Nodes: nodes}); err != nil || result.Err() != nil {
		tb.Fatal(err, result.Err())
	}
	return o
}

// grant lets the agreed state have a grant for a node.
func (d *desk) grant(t *testing.T, o exec.Order, to fleet.ID) {
	t.Helper()
	i, _ := node.Place(o, to)
	result, err := d.commit(t.Context(), consensus.PutGrants{Command: idOf(o), Nodes: []uint32{i}})
	if err != nil || result.Err() != nil {
		t.Fatal(err, result.Err())
	}
}

// asGrant is what a peer hears that asks for a grant while the loop answers so.
func (d *desk) asGrant(t *testing.T, peer fleet.ID, o exec.Order, loop node.GrantAnswer) (node.GrantAnswer, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var core sync.WaitGroup
	defer core.Wait() // else it may take what is posted later
	defer cancel()
	core.Go(func() {
		select {
		case ev := <-d.queue:
			asked := ev.(node.GrantAsked)
			if asked.Node != peer || asked.Command != idOf(o) {
				t.Errorf("the loop hears %+v", asked)
			}
			d.grants.answer(asked.Ticket, loop)
		case <-ctx.Done():
		}
	})
	kind, body, err := d.answer(ctx, peer, askGrant, wire.Marshal(orderAsk{idOf(o)}))
	if err != nil {
		return 0, err
	}
	if kind == notLeader {
		return 0, NotLeader{}
	}
	var got grantBody
	return got.Answer, wire.Unmarshal(body, &got)
}

func TestAnswerGrant(t *testing.T) {
	for loop, want := range map[node.GrantAnswer]node.GrantAnswer{
		node.GrantFailed: node.GrantFailed, node.GrantWait: node.GrantWait, node.GrantStopped: node.GrantStopped, node.GrantEnded: node.GrantEnded,
		node.GrantCancelled: node.GrantCancelled, node.GrantedNow: node.Granted,
		node.Granted: node.GrantFailed, // the state does not have it
	} {
		d := newPacedDesk(t)
		if got, err := d.asGrant(t, d.web.ID, d.paced, loop); err != nil || got != want {
			t.Errorf("the loop says %s: %s, %v", loop, got, err)
		}
	}
	d := newPacedDesk(t)
	d.grant(t, d.paced, d.web.ID)
	if got, err := d.asGrant(t, d.web.ID, d.paced, node.Granted); err != nil || got != node.Granted {
		t.Errorf("the state has it: %s, %v", got, err)
	}
	if _, err := d.asGrant(t, d.db.ID, d.paced, node.Granted); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a node that is not meant: %v", err)
	}
	if _, err := d.asGrant(t, d.web.ID, exec.Order{Statement: d.Sign(auth.ForCommand, exec.Command{Header: d.Header(time.Hour)})}, node.Granted); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("a command that nobody knows: %v", err)
	}
}

// follows is a replica that does not lead.
type follows struct{ stubQuorum }

func (f follows) Status() Replication        { return Replication{Leader: fleet.ID{9}, Member: true} }
func (f follows) Read(context.Context) error { return NotLeader{fleet.ID{9}} }
func (f follows) Propose(context.Context, []byte) (any, error) {
	return nil, NotLeader{fleet.ID{9}}
}

// Who has lost the lead since the loop answered must not say granted; who never led says who does.
func TestOnlyTheLeaderGrants(t *testing.T) {
	d := newPacedDesk(t)
	d.grant(t, d.paced, d.web.ID)
	leads := d.quorum.(stubQuorum)
	d.quorum = follows{leads}
	if _, err := d.asGrant(t, d.web.ID, d.paced, node.Granted); err != (NotLeader{}) {
		t.Errorf("asked on a follower: %v", err)
	}
	d.quorum = lostLead{leads}
	if _, err := d.asGrant(t, d.web.ID, d.paced, node.Granted); err != (NotLeader{}) {
		t.Errorf("the lead is lost: %v", err)
	}
	d.proposeGrants(t.Context(), node.ProposeGrants{Command: idOf(d.paced), Nodes: []uint32{0}})
	d.proposeGrants(t.Context(), node.ProposeGrants{Command: idOf(d.paced), Nodes: []uint32{99}})
	if got := d.posted(); len(got) != 2 || !got[0].(node.GrantsProposed).Failed || !got[1].(node.GrantsProposed).Failed {
		t.Errorf("%+v", got)
	}
}

// A silent node's place is given away by the leader of the term in which its core decided it, and never by way of
// another host: that one may have answered the node since.
func TestPlacesAreGivenAwayInOffice(t *testing.T) {
	d := newPacedDesk(t)
	d.grant(t, d.paced, d.web.ID)
	i, _ := node.Place(d.paced, d.web.ID)
	d.peers.kind, d.peers.body = done, wire.Marshal(consensus.Result{}) // whoever it would be brought to takes it
	leads := d.quorum.(stubQuorum)
	failed := func(q Quorum, as exec.EndKind, term uint64) bool {
		t.Helper()
		d.quorum = q
		d.setLeader(fleet.ID{9})
		d.proposeEndings(t.Context(), node.ProposeEndings{Command: idOf(d.paced), Ends: []exec.Ending{{Node: i, As: as}}, Term: term})
		got := d.posted()
		if len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		return got[0].(node.EndingsProposed).Failed
	}
	for name, lost := range map[string]Quorum{"it follows": follows{leads}, "it has lost the lead": lostLead{leads}} {
		if !failed(lost, exec.EndFreed, 1) {
			t.Errorf("%s: given away", name)
		}
	}
	if !failed(leads, exec.EndFreed, 2) {
		t.Error("in another term: given away")
	}
	if failed(follows{leads}, exec.EndedOK, 1) {
		t.Error("an end is not brought to the leader")
	}
	if failed(leads, exec.EndFreed, 1) {
		t.Error("not given away in office")
	}
	if c, _ := d.replica.State().Command(idOf(d.paced)); c.Rollout.State(i) != exec.NodeFreed {
		t.Errorf("%+v", c.Rollout)
	}
}

// lostLead thinks that it leads, and could not prove it.
type lostLead struct{ stubQuorum }

func (l lostLead) Read(context.Context) error { return NotLeader{fleet.ID{9}} }
func (l lostLead) Propose(context.Context, []byte) (any, error) {
	return nil, NotLeader{fleet.ID{9}}
}

// A leader whose loop has no time answers all the same, and its own work comes first.
func TestGrantsDoNotWaitForTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPacedDesk(t)
		began := time.Now()
		var got grantBody
		_, body, err := d.answer(t.Context(), d.web.ID, askGrant, wire.Marshal(orderAsk{idOf(d.paced)}))
		if err != nil || wire.Unmarshal(body, &got) != nil || got.Answer != node.GrantFailed || time.Since(began) > askTimeout {
			t.Errorf("%s, %v after %s", got.Answer, err, time.Since(began))
		}
		if len(d.grants.waiting) != 0 {
			t.Error("a ticket is left")
		}
		for len(d.queue) <= queueSize/2 {
			d.queue <- node.Tick{}
		}
		began = time.Now()
		if _, _, err := d.answer(t.Context(), d.web.ID, askGrant, wire.Marshal(orderAsk{idOf(d.paced)})); err != nil || time.Since(began) != 0 {
			t.Errorf("a busy loop: %v after %s", err, time.Since(began))
		}
	})
}

func TestTicketsAreBounded(t *testing.T) {
	b := newTickets[int]()
	for range maxTickets {
		if n, _ := b.open(); n == 0 {
			t.Fatal("no room")
		}
	}
	if n, _ := b.open(); n != 0 {
		t.Error("one too many")
	}
	b.answer(1, 7)
	b.answer(1, 8) // nobody waits any more
	if n, _ := b.open(); n == 0 {
		t.Error("no room again")
	}
}

func TestMayPropose(t *testing.T) {
	d := newPacedDesk(t)
	self, web, db := d.self, d.web.ID, d.db.ID
	end := func(as exec.EndKind) consensus.Entry {
		return consensus.PutEndings{Command: idOf(d.paced), Ends: []exec.Ending{{Node: 0, As: as}}}
	}
	document := func(text string) consensus.Entry {
		return consensus.PutDocument{Statement: d.Sign(auth.ForDocument, exec.Publication{Header: d.Header(time.Hour), Name: "hello", Text: []byte(text)})}
	}
	for _, c := range []struct {
		name  string
		peer  fleet.ID
		entry consensus.Entry
		may   bool
	}{
		{"grants, from the leader's host", self, consensus.PutGrants{Command: idOf(d.paced), Nodes: []uint32{0}}, false},
		{"a gossip key, from the leader's host", self, consensus.PutAct{Kind: auth.ActGossipEpoch}, false},
		{"something due, from the leader's host", self, consensus.ParamsDue{}, false},
		{"grants, a server", db, consensus.PutGrants{Command: idOf(d.paced), Nodes: []uint32{0}}, false},
		{"grants, a member", web, consensus.PutGrants{Command: idOf(d.paced), Nodes: []uint32{0}}, false},
		{"an end, a server", db, end(exec.EndedOK), true},
		{"an end, a member", web, end(exec.EndedOK), false},
		{"a silent node's, by a request", self, end(exec.EndFreed), false},
		{"a silent node's, a server", db, end(exec.EndFreed), false},
		{"a document", web, document(helloText), true},
		{"no document", web, document("hello"), false},
		{"a cancel", web, consensus.PutCancel{}, true}, // its signature is its right
	} {
		if err := d.mayPropose(c.peer, c.entry); (err == nil) != c.may {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Whoever can open the socket on the leader's host is not the leader.
func TestNobodyBringsWhatNobodySigns(t *testing.T) {
	d := newPacedDesk(t)
	d.setLeader(d.self)
	act := auth.GossipEpoch{Epoch: d.record().Gossip.Epoch + 1, Hash: fleet.Sum([]byte("nobody has this key"))}
	i, _ := node.Place(d.paced, d.web.ID)
	before := d.replica.State().Taken
	for _, e := range []consensus.Entry{
		consensus.PutAct{Kind: auth.ActGossipEpoch, Data: wire.Marshal(act)}, consensus.ParamsDue{},
		consensus.PutGrants{Command: idOf(d.paced), Nodes: []uint32{i}}, consensus.PutEndings{Command: idOf(d.paced), Ends: []exec.Ending{{Node: i, As: exec.EndedOK}}},
	} {
		if _, err := d.Propose(t.Context(), e); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%T: %v", e, err)
		}
	}
	if after := d.replica.State().Taken; after != before {
		t.Errorf("%d entries were taken", after-before)
	}
}

const helloText = `{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"hello","inputs":{"runCommand":["echo hello"]}}]}`

// What a replica takes is told in order, with every command that it let go on.
func TestReplicaTellsOfRollouts(t *testing.T) {
	d := newPacedDesk(t)
	var told []fleet.UUID
	committed := 0
	d.replica.followed.Store(&following{
		committed: func(*consensus.Command, []auth.Envelope) { committed++ },
		paced:     func(c *consensus.Command) { told = append(told, c.ID()) },
	})
	nodes := d.paced.Nodes
	sign := func(change func(*exec.Command)) (exec.Order, fleet.UUID) {
		c := exec.Command{Header: d.Header(time.Hour), Target: "all", Count: 2, Set: exec.SetDigest(nodes), Run: exec.Run{Argv: []string{"true"}, Timeout: 1000},
			Pace: exec.Pace{Limited: true, Concurrency: 1}}
		change(&c)
		return exec.Order{Nodes: nodes, Statement: d.Sign(auth.ForCommand, c)}, c.Header.ID
	}
	put := func(e consensus.Entry, want ...fleet.UUID) {
		t.Helper()
		told = nil
		if result, err := d.commit(t.Context(), e); err != nil || result.Err() != nil {
			t.Fatal(err, result.Err())
		}
		if !slices.Equal(told, want) {
			t.Errorf("%T: told of %v, want %v", e, told, want)
		}
	}
	mainID := d.Header(0).ID
	stop, stopID := sign(func(c *exec.Command) { c.After = exec.After{Command: mainID} })
	main, _ := sign(func(c *exec.Command) { c.Header.ID, c.Pace.OnStop = mainID, stopID })
	put(consensus.PutCommand{Statement: stop.Statement, Nodes: nodes}, stopID)
	put(consensus.PutCommand{Statement: main.Statement, Nodes: nodes}, mainID)
	put(consensus.PutGrants{Command: mainID, Nodes: []uint32{0}}, mainID)
	put(consensus.PutEndings{Command: mainID, Ends: []exec.Ending{{Node: 0, As: exec.EndedFailed}}}, mainID, stopID)
	put(consensus.PutCancel{Statement: d.Sign(auth.ForCancel, exec.Cancel{Header: d.Header(time.Hour), Command: stopID})}, stopID)
	put(consensus.PutCommand(consensus.PutCommand{Statement: d.Sign(auth.ForCommand, exec.Command{
		Header: d.Header(time.Hour), Target: "all", Count: 2, Set: exec.SetDigest(nodes), Run: exec.Run{Argv: []string{"true"}, Timeout: 1000}}), Nodes: nodes}))
	if committed != 4 {
		t.Errorf("%d commands and cancels, want 4", committed)
	}
}

// doing is a runner whose runs end well at once.
type doing struct {
	stubRunner
	a    *Agent
	mu   sync.Mutex
	runs []node.StartRun
}

func (d *doing) Start(_ context.Context, e node.StartRun) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs = append(d.runs, e)
	id := e.Command.Header.ID
	go func() {
		d.a.Post(node.RunStarted{Command: id, At: 1})
		d.a.Post(node.RunEnded{Command: id, Status: exec.Success, Started: 1, Ended: 2})
	}()
	return nil
}
func (d *doing) Recall(func(node.Event)) {}

// watchable is a store of reports whose watches wait.
type watchable struct{ *stubReports }

func (watchable) Watch(ctx context.Context, _ fleet.UUID, _ func(auth.Envelope) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// A paced command, from its commit to the end of its rollout, through one agent that is everything.
func TestPacedCommandInOneAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		runs := &doing{a: d.Agent}
		began := time.Now()
		d.cfg.Clock = func() auth.Instant {
			return auth.Instant{Wall: d.Fleet.Now.Add(time.Since(began)), Boot: time.Hour + time.Since(began)}
		}
		d.Attach(Shells{Peers: d.peers, Gossip: stubGossip{}, Runner: runs, Reports: watchable{d.held}, Quorum: d.quorum, Replica: d.replica})
		ctx, stop := context.WithCancel(t.Context())
		var over sync.WaitGroup
		over.Go(func() { _ = d.Run(ctx) })
		defer over.Wait()
		defer stop()
		synctest.Wait()
		nodes := []fleet.ID{d.self}
		o := exec.Order{Nodes: nodes, Statement: d.Sign(auth.ForCommand, exec.Command{
			Header: d.Header(exec.DefaultExpires), Target: "node-0", Count: 1, Set: exec.SetDigest(nodes), Run: exec.Run{Argv: []string{"true"}, Timeout: 1000},
			Pace: exec.Pace{Limited: true, Concurrency: 1},
		})}
		if result, err := d.commit(ctx, consensus.PutCommand{Statement: o.Statement, Nodes: nodes}); err != nil || result.Err() != nil {
			t.Fatal(err, result.Err())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		c, _ := d.replica.State().Command(idOf(o))
		runs.mu.Lock()
		defer runs.mu.Unlock()
		ran := slices.IndexFunc(runs.runs, func(e node.StartRun) bool { return e.Command.Header.ID == idOf(o) })
		if ran < 0 || runs.runs[ran].By == 0 || c.Rollout.State(0) != exec.NodeOK || !c.Rollout.Done() {
			t.Errorf("ran %v, rollout %+v", ran >= 0, c.Rollout)
		}
	})
}

// What a node says it has need not come again, unless it was cancelled for that node.
func TestKnownOrdersAreLeftOut(t *testing.T) {
	d := newPacedDesk(t)
	orders := func(known ...fleet.UUID) (out []fleet.UUID) {
		t.Helper()
		var got ordersBody
		_, body, err := d.answer(t.Context(), d.web.ID, askOrders, wire.Marshal(ordersAsk{Known: known}))
		if err != nil || wire.Unmarshal(body, &got) != nil {
			t.Fatal(err)
		}
		for _, c := range got.Orders {
			out = append(out, idOf(c.Order))
		}
		return out
	}
	one, two := d.commandID(), idOf(d.paced)
	if got := orders(); !slices.Equal(got, []fleet.UUID{one, two}) {
		t.Errorf("all: %v", got)
	}
	if got := orders(one); !slices.Equal(got, []fleet.UUID{two}) {
		t.Errorf("but one: %v", got)
	}
	cancel := func(of fleet.ID) {
		t.Helper()
		e := d.Sign(auth.ForCancel, exec.Cancel{Header: d.Header(time.Hour), Command: one, Nodes: []fleet.ID{of}})
		if result, err := d.commit(t.Context(), consensus.PutCancel{Statement: e}); err != nil || result.Err() != nil {
			t.Fatal(err, result.Err())
		}
	}
	cancel(d.self)
	if got := orders(one, two); len(got) != 0 {
		t.Errorf("cancelled elsewhere: %v", got)
	}
	cancel(d.web.ID)
	if got := orders(one, two); !slices.Equal(got, []fleet.UUID{one}) {
		t.Errorf("cancelled: %v", got)
	}
}

// Whoever does not lead may name anybody as the leader: only a server is believed to be one.
func TestHintsLeadToServers(t *testing.T) {
	d := newDesk(t)
	for id, want := range map[fleet.ID]fleet.ID{d.web.ID: {}, {9}: {}, d.db.ID: d.db.ID} {
		d.followHint(wire.Marshal(leaderBody{id}))
		if d.leader != want {
			t.Errorf("hint to %s: asks %s", id, d.leader)
		}
	}
	d.setLeader(d.web.ID)
	if !d.leader.IsZero() {
		t.Error("a member is taken for the leader")
	}
}

// An answer to a question for a grant counts from a server alone.
func TestGrantsComeFromServers(t *testing.T) {
	d := newPacedDesk(t)
	leads := d.quorum.(stubQuorum)
	d.peers.kind, d.peers.body = done, wire.Marshal(grantBody{node.GrantStopped})
	for id, want := range map[fleet.ID]node.GrantAnswer{d.web.ID: node.GrantFailed, {9}: node.GrantFailed, d.db.ID: node.GrantStopped} {
		d.quorum = led{leads, id}
		d.fetchGrant(t.Context(), node.AskGrant{Command: idOf(d.paced)})
		got := d.posted()
		if len(got) != 1 || got[0].(node.GrantAnswered).Answer != want {
			t.Errorf("%s says stopped: %+v, want %s", id, got, want)
		}
	}
}

// led is a replica that another host leads.
type led struct {
	stubQuorum
	by fleet.ID
}

func (l led) Status() Replication { return Replication{Leader: l.by, Member: true} }

// One peer may not take the places of others who wait for the loop.
func TestGrantQuestionsPerPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPacedDesk(t)
		ask := func(peer fleet.ID) time.Duration {
			began := time.Now()
			var got grantBody
			_, body, err := d.answer(t.Context(), peer, askGrant, wire.Marshal(orderAsk{idOf(d.paced)}))
			if err != nil || wire.Unmarshal(body, &got) != nil || got.Answer != node.GrantFailed {
				t.Errorf("%s, %v", got.Answer, err)
			}
			return time.Since(began)
		}
		var waiting sync.WaitGroup
		for range grantsPerPeer {
			waiting.Go(func() { ask(d.web.ID) })
		}
		synctest.Wait()
		if took := ask(d.web.ID); took != 0 || len(d.grants.waiting) != grantsPerPeer {
			t.Errorf("one more waits %s, and %d do", took, len(d.grants.waiting))
		}
		if took := ask(d.self); took != grantWait {
			t.Errorf("another peer waits %s", took)
		}
		waiting.Wait()
		if took := ask(d.web.ID); took != grantWait || len(d.asking.of) != 0 {
			t.Errorf("later it waits %s; %d are counted", took, len(d.asking.of))
		}
	})
}
