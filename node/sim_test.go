package node

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A simulation: many Nodes over one queue of events, with a lossy network, kills, and servers that agree by themselves.
// Everything follows from the seed.

type sim struct {
	*testing.T
	*authtest.Fleet
	rand    *rand.Rand
	loss    float64
	now     time.Duration
	queue   queue
	count   int
	hosts   []*simHost
	byID    map[fleet.ID]*simHost
	servers []*simHost
	agreed  []consensus.State // after each entry
	acts    []auth.Act        // of agreed
	leader  *simHost
	term    uint64
	trace   uint64
	sent    []sentCommand
	steps   int
}

type sentCommand struct {
	order  exec.Order
	cancel bool
}

type simHost struct {
	n       authtest.Node
	seed    uint64
	up      bool
	removed bool
	life    int // incarnation: what was meant for an earlier one is lost
	ticks   int
	wrong   time.Duration // of its wall clock

	node     *Node
	envelope auth.Envelope
	held     map[fleet.UUID]exec.Order
	running  map[fleet.UUID]time.Duration // until
	started  map[fleet.UUID]int           // StartRun effects of this life

	// on disk
	record  auth.Record
	acts    []auth.Act
	floor   int64
	ledger  *exec.Ledger
	runs    map[fleet.UUID]int // starts that the ledger accepted
	applied int                // of agreed; servers only
	store   map[string]exec.Report
}

type queued struct {
	at   time.Duration
	seq  int
	then func()
}

type queue []queued

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(queued)) }
func (q *queue) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

func (s *sim) after(d time.Duration, then func()) {
	s.count++
	heap.Push(&s.queue, queued{s.now + d, s.count, then})
}

func (s *sim) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.rand.Int64N(int64(to-from)))
}

func (s *sim) lost() bool { return s.rand.Float64() < s.loss }

func (s *sim) hop() time.Duration { return s.between(time.Millisecond, 20*time.Millisecond) }

func newSim(t *testing.T, nodes int, loss float64, seed uint64) *sim {
	w := newTown(nodes, 3)
	s := &sim{T: t, Fleet: w.Fleet, rand: rand.New(rand.NewPCG(seed, 1)), loss: loss, byID: map[fleet.ID]*simHost{}, term: 1}
	// The servers' state is the town's record, act for act.
	state := consensus.NewState()
	for _, a := range w.Acts {
		if a.Kind == auth.ActEnrol && state.Record.Roster.Len() > 0 {
			state = s.putToken(state, a)
		}
		var r consensus.Result
		if state, r = state.Apply(consensus.PutAct{Kind: a.Kind, Data: a.Data}, a.Time); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	s.agreed, s.acts = []consensus.State{state}, state.Acts(0, 1<<20)
	s.Record = state.Record
	for i, n := range w.Nodes {
		h := &simHost{
			n: n, seed: seed<<16 + uint64(i), record: state.Record, acts: slices.Clip(s.acts), runs: map[fleet.UUID]int{},
			ledger: exec.NewLedger(w.Now.Add(-time.Hour), time.Time{}), wrong: s.between(-2*time.Minute, 2*time.Minute), store: map[string]exec.Report{},
			running: map[fleet.UUID]time.Duration{},
		}
		s.hosts = append(s.hosts, h)
		s.byID[n.ID] = h
		if i < 3 {
			s.servers = append(s.servers, h)
			h.wrong = 0
		}
	}
	s.leader = s.servers[0]
	for _, h := range s.hosts {
		s.start(h)
	}
	return s
}

func (s *sim) putToken(state consensus.State, a auth.Act) consensus.State {
	e, err := decodeEnrolment(a.Data)
	if err != nil {
		s.Fatal(err)
	}
	next, _ := state.Apply(consensus.PutToken{Statement: e.Token}, a.Time) // a conflict when it was put before
	return next
}

// at returns the moment as a host sees it.
func (s *sim) at(h *simHost) auth.Instant {
	return auth.Instant{Wall: s.Now.Add(s.now + h.wrong), Boot: time.Hour + s.now}
}

func (s *sim) start(h *simHost) {
	h.up, h.life = true, h.life+1
	h.held, h.started, h.envelope = map[fleet.UUID]exec.Order{}, map[fleet.UUID]int{}, auth.Envelope{}
	h.node = New(Config{
		Self: h.n.ID, Facts: fleet.Facts{OS: "debian"}, Seed: h.seed + uint64(h.life), Record: h.record, Clock: auth.Clock{Floor: h.floor},
	})
	s.post(h, 0, Tick{})
	for _, state := range h.ledger.Since(time.Time{}) { // what the ledger knows
		s.recall(h, state)
	}
	if slices.Contains(s.servers, h) {
		s.beacons(h, h.life)
		s.feed(h, h.life)
	}
	s.gossip()
}

func (s *sim) recall(h *simHost, state exec.State) {
	id := state.Command
	switch {
	case state.Ended != nil:
		s.post(h, time.Millisecond, RunEnded{Command: id, Status: state.Ended.Status, Started: 1, Ended: 2})
	case state.Started != nil: // its supervisor outlived the agent, or nobody knows
		if until, ok := h.running[id]; ok {
			s.post(h, time.Millisecond, RunStarted{Command: id, At: 1})
			s.endAt(h, id, max(until, s.now))
			return
		}
		s.end(h, id, exec.Unknown)
	case state.Cancelled != nil:
		s.post(h, time.Millisecond, RunEnded{Command: id, Status: exec.Cancelled})
	case state.Refused != nil:
		s.post(h, time.Millisecond, RunEnded{Command: id, Status: state.Status()})
	}
}

func (s *sim) kill(h *simHost) {
	h.up, h.node = false, nil
	if s.rand.IntN(4) == 0 { // the host went down with it: nobody sees how its runs ended
		clear(h.running)
	}
	if h == s.leader {
		s.after(2*time.Second, s.elect)
	}
	s.gossip()
}

func (s *sim) elect() {
	for _, h := range s.servers {
		if h.up && h != s.leader {
			s.leader, s.term = h, s.term+1
			h.applied = len(s.agreed) - 1
			return
		}
	}
}

// gossip tells everybody, each in its own time, who is there.
func (s *sim) gossip() {
	var members []Sighting
	for _, h := range s.hosts {
		status := fleet.Online
		if !h.up {
			status = fleet.ConnectionLost
		}
		members = append(members, Sighting{ID: h.n.ID, Status: status})
	}
	for _, h := range s.hosts {
		if h.up {
			s.post(h, s.between(time.Millisecond, 3*time.Second), Gossiped{members})
		}
	}
}

// post brings an event to a host, unless it dies before.
func (s *sim) post(h *simHost, d time.Duration, ev Event) {
	life := h.life
	s.after(d, func() {
		if h.up && h.life == life {
			s.step(h, ev)
		}
	})
}

func (s *sim) step(h *simHost, ev Event) {
	s.steps++
	at := s.at(h)
	effects := h.node.Step(at, ev)
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%d %d %s %T", s.trace, s.now, h.n.Name, ev)
	for _, e := range effects {
		fmt.Fprintf(sum, " %T", e)
		if ring, ok := e.(Ring); ok {
			fmt.Fprint(sum, ring.To)
		}
		s.perform(h, e)
	}
	s.trace = sum.Sum64()
	h.ticks++
	tick, life := h.ticks, h.life
	s.after(max(h.node.Deadline(at)-at.Boot, time.Millisecond), func() {
		if h.up && h.life == life && h.ticks == tick {
			s.step(h, Tick{})
		}
	})
}

// lostTwice is the loss of a request: QUIC repeats what is lost.
func (s *sim) lostTwice() bool {
	first := s.lost()
	return first && s.lost()
}

const simTimeout = 5 * time.Second

// ask makes a request of a peer, unless one of its packets or the peer itself is lost.
func (s *sim) ask(h *simHost, to fleet.ID, failed Event, serve func(peer *simHost) Event) {
	peer := s.byID[to]
	if peer == nil || !peer.up || s.lostTwice() {
		s.post(h, simTimeout, failed)
		return
	}
	life := peer.life
	s.after(s.hop(), func() {
		if !peer.up || peer.life != life {
			s.post(h, simTimeout, failed)
			return
		}
		answer := serve(peer)
		if s.lostTwice() { // done, and nobody hears of it
			answer = failed
		}
		if answer != nil {
			s.post(h, s.hop(), answer)
		}
	})
}

func (s *sim) perform(h *simHost, e Effect) {
	me := h.n.ID
	switch e := e.(type) {
	case Ring:
		b, err := DecodeBell(e.Bell.Encode())
		if err != nil {
			s.Errorf("a bell does not survive its wire form: %v", err)
		}
		for _, id := range e.To {
			if peer := s.byID[id]; peer != nil && peer.up && !s.lost() {
				s.post(peer, s.hop(), BellHeard{b})
			}
		}
	case ExchangeBeacons:
		mine := h.envelope
		s.ask(h, e.With, PeerSilent{e.With}, func(peer *simHost) Event {
			if mine.Format != 0 {
				s.post(peer, 0, BeaconHeard{From: me, Envelope: mine})
			}
			if peer.envelope.Format == 0 {
				return nil
			}
			return BeaconHeard{From: e.With, Envelope: peer.envelope}
		})
	case FetchActs:
		s.ask(h, e.From, ActsFetched{From: e.From, Failed: true}, func(peer *simHost) Event {
			from := min(e.Position, uint64(len(peer.acts)))
			return ActsFetched{From: e.From, Acts: peer.acts[from:min(int(from)+2, len(peer.acts))]}
		})
	case FetchOrder:
		failed := OrderFetched{From: e.From, Command: e.Command, Failed: true}
		s.ask(h, e.From, failed, func(peer *simHost) Event {
			o, ok := peer.held[e.Command]
			if c, found := s.agreed[peer.applied].Command(e.Command); !ok && found && peer.isServer(s) {
				o, ok = c.Order, true
			}
			if !ok || !o.Has(me) && !h.isServer(s) {
				return failed
			}
			return OrderFetched{From: e.From, Command: e.Command, Order: o}
		})
	case FetchOrders:
		failed := OrdersFetched{From: e.From, Failed: true}
		s.ask(h, e.From, failed, func(peer *simHost) Event {
			if !peer.isServer(s) {
				return failed
			}
			commands, next := s.agreed[peer.applied].CommandsFor(me, e.Since, 3)
			ev := OrdersFetched{From: e.From, Next: next}
			for _, c := range commands {
				ev.Orders = append(ev.Orders, committedOf(c))
			}
			return ev
		})
	case FetchCancel:
		s.ask(h, s.leader.n.ID, CancelFetched{Command: e.Command, Failed: true}, func(peer *simHost) Event {
			c, ok := s.agreed[len(s.agreed)-1].Command(e.Command)
			if !ok {
				return CancelFetched{Command: e.Command, Failed: true}
			}
			return CancelFetched{Command: e.Command, Cancel: committedOf(c).Cancel, RecordLen: s.agreed[len(s.agreed)-1].Record.Length}
		})
	case KeepActs:
		h.record, h.acts = e.Record, append(slices.Clip(h.acts), e.Acts...)
	case KeepFloor:
		h.floor = e.Floor
	case KeepBeacon:
		h.envelope = e.Envelope
	case HoldOrder:
		h.held[e.Command] = e.Order
	case StartRun:
		s.startRun(h, e)
	case KillRun:
		s.fold(h, exec.CancelledRecord{Command: e.Command, Time: s.wall()})
		if _, ok := h.running[e.Command]; ok {
			s.end(h, e.Command, exec.Cancelled)
		}
	case RefuseRun:
		s.fold(h, exec.RefusedRecord{Command: e.Command, Digest: e.Digest, Reason: e.Reason, Time: s.wall(), Status: e.As})
		s.post(h, time.Millisecond, RefusalKept{e.Command})
	case SendReport:
		failed := ReportLost{Command: e.Report.Command, Seq: e.Report.Seq, Server: e.To}
		s.ask(h, e.To, failed, func(peer *simHost) Event {
			key := fmt.Sprint(e.Report.Command, me)
			if exec.Supersedes(peer.store[key], e.Report) {
				peer.store[key] = e.Report
			}
			return ReportTaken{Command: e.Report.Command, Seq: e.Report.Seq, Server: e.To}
		})
	case FetchGossipKey, DropPeer, Warn:
	}
}

func committedOf(c *consensus.Command) Committed {
	out := Committed{Act: c.Act, Order: c.Order}
	if c.Cancel != nil {
		out.Cancel = []auth.Envelope{*c.Cancel}
	}
	return out
}

func (h *simHost) isServer(s *sim) bool { return slices.Contains(s.servers, h) }

func (s *sim) wall() time.Time { return s.Now.Add(s.now) }

func (s *sim) fold(h *simHost, r exec.Record) {
	_ = h.ledger.Fold(r) // what cannot follow changes nothing
}

func (s *sim) startRun(h *simHost, e StartRun) {
	id := e.Command.Header.ID
	if h.started[id]++; h.started[id] > 1 {
		s.Errorf("%s starts %s twice in one life", h.n.Name, id)
	}
	life := h.life
	s.after(s.between(time.Millisecond, 50*time.Millisecond), func() {
		if !h.up || h.life != life {
			return // killed before the ledger
		}
		issued, expires := time.UnixMilli(e.Command.Header.Issued), time.UnixMilli(e.Command.Header.Expires)
		if err := h.ledger.MayStart(id, issued, expires); err != nil {
			if known, ok := h.ledger.Get(id); ok {
				s.recall(h, known)
			}
			return
		}
		s.fold(h, exec.StartedRecord{Command: id, Digest: e.Digest, Issued: issued, Expires: expires, Time: s.wall()})
		h.runs[id]++
		s.post(h, 0, RunStarted{Command: id, At: 1})
		s.endAt(h, id, s.now+s.between(10*time.Millisecond, 10*time.Second))
	})
}

func (s *sim) endAt(h *simHost, id fleet.UUID, until time.Duration) {
	h.running[id] = until
	life := h.life
	s.after(until-s.now, func() {
		if _, ok := h.running[id]; ok && h.up && h.life == life {
			s.end(h, id, exec.Success)
		}
	})
}

func (s *sim) end(h *simHost, id fleet.UUID, status exec.Status) {
	delete(h.running, id)
	s.fold(h, exec.EndedRecord{Command: id, Status: status, Time: s.wall()})
	s.post(h, time.Millisecond, RunEnded{Command: id, Status: status, Started: 1, Ended: 2})
}

// beacons is a server's clockwork.
func (s *sim) beacons(h *simHost, life int) {
	if !h.up || h.life != life {
		return
	}
	state := s.agreed[h.applied]
	r := state.Record
	b := auth.Beacon{
		Time: s.wall().UnixMilli(), Epoch: r.Charter.Epoch(), CharterHead: r.Charter.Head(), CharterLen: r.Charter.Len(),
		RecordHead: r.Head, RecordLen: r.Length, Act: state.Act, Term: s.term, Leader: s.leader.n.ID,
	}
	for _, server := range s.servers {
		b.Voters = append(b.Voters, server.n.ID)
	}
	slices.SortFunc(b.Voters, fleet.ID.Compare)
	s.post(h, 0, BeaconMade{Beacon: b, Envelope: h.n.Signer.Sign(auth.ForBeacon, s.ID(), b)})
	s.after(3*time.Second, func() { s.beacons(h, life) })
}

// feed lets a replica follow what was agreed.
func (s *sim) feed(h *simHost, life int) {
	if !h.up || h.life != life {
		return
	}
	if h.applied < len(s.agreed)-1 {
		h.applied++
	}
	for _, a := range s.agreed[h.applied].Acts(uint64(len(h.acts)), 10) {
		s.post(h, 0, RecordCommitted{a})
	}
	s.after(s.between(5*time.Millisecond, 60*time.Millisecond), func() { s.feed(h, life) })
}

// commit brings an entry to the leader, now or when there is one.
func (s *sim) commit(e consensus.Entry) {
	if !s.leader.up {
		s.after(100*time.Millisecond, func() { s.commit(e) })
		return
	}
	next, r := s.agreed[len(s.agreed)-1].Apply(e, s.wall().UnixMilli())
	if r.Err() != nil {
		s.Errorf("%T: %v", e, r.Err())
		return
	}
	s.agreed = append(s.agreed, next)
	s.Record = next.Record
	s.leader.applied = len(s.agreed) - 1
	var id fleet.UUID
	switch e := e.(type) {
	case consensus.PutCommand:
		id = idOf(exec.Order{Statement: e.Statement})
	case consensus.PutCancel:
		c, _ := auth.Peek[exec.Cancel](e.Statement)
		id = c.Command
	default:
		return
	}
	c, _ := next.Command(id)
	s.post(s.leader, time.Millisecond, OrderCommitted{committedOf(c)})
}

// command sends a command to nodes that a target selects.
func (s *sim) command(op auth.Signer, target string) exec.Order {
	parsed, err := fleet.ParseTarget(target)
	if err != nil {
		s.Fatal(err)
	}
	var ids []fleet.ID
	for entry := range s.Record.Roster.All() {
		m := Describe(entry, Sighting{}, fleet.Facts{OS: "debian"}, auth.Beacon{})
		if parsed.Match(&m) {
			ids = append(ids, entry.ID)
		}
	}
	was := s.Now
	s.Now = s.wall()
	w := town{Fleet: s.Fleet}
	o := w.commandBy(op, target, ids, nil)
	s.Now = was
	s.commit(consensus.PutCommand{Statement: o.Statement, Nodes: o.Nodes})
	s.sent = append(s.sent, sentCommand{order: o})
	return o
}

// story is what happens to the fleet: ninety seconds of trouble, then peace.
func (s *sim) story() {
	const trouble, peace = 90 * time.Second, 150 * time.Second
	targets := []string{"*", "tag.role=web", "tag.role=web and os.name=debian", "node-2"}
	for i := range 8 {
		s.after(s.between(5*time.Second, trouble), func() {
			o := s.command(s.Operator, targets[i%len(targets)])
			if i%3 != 0 {
				return
			}
			k := len(s.sent) - 1
			s.after(s.between(0, 5*time.Second), func() {
				s.sent[k].cancel = true
				s.commit(consensus.PutCancel{Statement: s.Sign(auth.ForCancel, exec.Cancel{Header: s.Header(time.Hour), Command: idOf(o)})})
			})
		})
	}
	last := s.hosts[len(s.hosts)-1]
	s.after(20*time.Second, func() {
		s.commit(act(s.TagNode(last.n.ID, map[string]string{"role": "db"}, false)))
	})
	s.after(30*time.Second, func() { // a new operator, and at once a command: many nodes are behind
		signer, p := s.NewOperator("bob", 0, auth.RootTeam)
		s.commit(act(p))
		s.after(time.Second, func() { s.commandOf("bob", signer) })
	})
	s.after(60*time.Second, func() {
		last.removed = true
		s.commit(act(s.RemoveNode(last.n.ID)))
	})
	s.hosts[3].wrong = time.Hour // until somebody sets it
	s.after(70*time.Second, func() { s.hosts[3].wrong = 0 })
	for range 6 + min(len(s.hosts)/10, 5) {
		s.after(s.between(time.Second, trouble), s.killSome)
	}
	for len(s.queue) > 0 && s.now < peace {
		x := heap.Pop(&s.queue).(queued)
		s.now = x.at
		x.then()
	}
}

// commandOf sends a command as soon as its operator was taken in.
func (s *sim) commandOf(name string, signer auth.Signer) {
	if _, ok := s.Record.Charter.OperatorByName(name); !ok {
		s.after(100*time.Millisecond, func() { s.commandOf(name, signer) })
		return
	}
	s.command(signer, "*")
}

func act(p authtest.Proposal) consensus.PutAct { return consensus.PutAct(p) }

// killSome kills a host for a while; of the servers, one at a time.
func (s *sim) killSome() {
	h := s.hosts[s.rand.IntN(len(s.hosts))]
	if h.isServer(s) && slices.ContainsFunc(s.servers, func(o *simHost) bool { return !o.up }) || !h.up {
		return
	}
	s.kill(h)
	s.after(s.between(time.Second, 15*time.Second), func() { s.start(h) })
}

func (s *sim) check() {
	for _, sent := range s.sent {
		id := idOf(sent.order)
		for _, h := range s.hosts {
			if h.runs[id] > 1 {
				s.Errorf("%s ran %s %d times", h.n.Name, id, h.runs[id])
			}
			if !sent.order.Has(h.n.ID) {
				if h.runs[id] > 0 {
					s.Errorf("%s ran %s, which is not for it", h.n.Name, id)
				}
				continue
			}
			if h.removed {
				continue
			}
			known, ok := h.ledger.Get(id)
			switch {
			case !ok:
				s.Errorf("%s never heard of %s", h.n.Name, id)
			case known.Started == nil && known.Cancelled == nil && known.Refused == nil:
				s.Errorf("%s heard of %s and did nothing", h.n.Name, id)
			case known.Started == nil && !sent.cancel && h != s.hosts[len(s.hosts)-1]: // the last one's tags changed
				s.Errorf("%s did not run %s: %+v", h.n.Name, id, known.Refused)
			case sent.cancel && known.Cancelled == nil && known.Ended == nil:
				s.Errorf("%s never heard that %s was cancelled", h.n.Name, id)
			}
			s.checkReports(h, id, known)
		}
	}
	for _, h := range s.hosts {
		if !h.removed && h.node.record.Head != s.Record.Head {
			s.Errorf("%s has another record", h.n.Name)
		}
	}
}

func (s *sim) checkReports(h *simHost, id fleet.UUID, known exec.State) {
	copies := 0
	for _, server := range s.servers {
		if r := server.store[fmt.Sprint(id, h.n.ID)]; r.Status.Final() || r.Status == exec.Unknown && known.Status() == exec.Unknown {
			copies++
		}
	}
	if known.Status() == exec.Unknown && h == s.hosts[3] {
		return // its clock was set back: what it said before looks newer
	}
	if copies < 2 {
		s.Errorf("%d servers have the report of %s on %s (%s)", copies, id, h.n.Name, known.Status())
	}
}

func TestSimulation(t *testing.T) {
	for _, c := range []struct {
		nodes int
		loss  float64
		seeds int
	}{
		{5, 0, 2}, {5, 0.1, 2}, {5, 0.25, 2}, {50, 0, 1}, {50, 0.1, 1}, {50, 0.25, 1}, {300, 0.25, 1},
	} {
		for seed := range c.seeds {
			t.Run(fmt.Sprintf("%d nodes, %.0f %% lost, seed %d", c.nodes, 100*c.loss, seed), func(t *testing.T) {
				if c.nodes > 50 && testing.Short() {
					t.Skip("takes a few seconds")
				}
				t.Parallel()
				s := newSim(t, c.nodes, c.loss, uint64(seed)+1)
				s.story()
				s.check()
				if c.nodes > 5 && c.loss < 0.25 || c.nodes > 50 || t.Failed() {
					return
				}
				again := newSim(t, c.nodes, c.loss, uint64(seed)+1)
				again.story()
				if again.trace != s.trace || again.steps != s.steps {
					t.Errorf("the same seed went another way: %d steps, then %d", s.steps, again.steps)
				}
			})
		}
	}
}

func decodeEnrolment(data []byte) (e auth.Enrolment, err error) {
	err = wire.Unmarshal(data, &e)
	return e, err
}
