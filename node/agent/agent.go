package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// Config is what an agent is made of.
type Config struct {
	Key     ed25519.PrivateKey
	Fleet   fleet.ID
	Name    string
	Version string
	Facts   fleet.Facts
	Record  auth.Record
	Floor   int64 // Unix milliseconds
	Keys    map[uint32][32]byte
	HPKE    []byte                        // private key by which keys of keyrings are handed over to this node
	Hints   map[fleet.ID][]netip.AddrPort // where members were last
	Folder  Folder
	Clock   func() auth.Instant
	// SessionHost returns what judging a session takes of this host, but its ID and whether its clock is right. It is asked
	// anew for every session, for accounts come and go. Nil: this host says nothing of it.
	SessionHost func() node.SessionHost
	// Level returns the newest level that this host may be counted on for; nil: its program's newest. A host that may go back
	// to an older program in a moment says that program's.
	Level func() fleet.Level
	// Idle is why this host does nothing any more: it runs and opens nothing. Empty: it works.
	Idle string
	Seed uint64
	Log  *slog.Logger
	// Consent is what the host's own root withholds; SetConsent changes it.
	Consent config.Consent
}

// Agent is one host's agent.
type Agent struct {
	cfg    Config
	self   fleet.ID
	signer auth.Signer
	log    *slog.Logger

	peers     Peers
	gossip    Gossip
	runner    Runner
	reports   Reports
	decisions Decisions
	outlets   Outlets
	seeds     Seeds
	quorum    Quorum
	replica   *Replica

	queue   chan node.Event
	picture atomic.Pointer[picture]
	turns   atomic.Uint64 // of the loop, ended ones
	counted counted
	own     atomic.Pointer[auth.Envelope] // the beacon that this server made last

	mu       sync.Mutex
	keys     map[uint32][32]byte
	seen     map[fleet.ID]node.Sighting
	hints    map[fleet.ID][]netip.AddrPort
	orders   held
	facts    factsCache
	leader   fleet.ID        // who answered as the leader last
	gone     string          // why peers refuse this node; empty: they do not
	leave    chan struct{}   // closed by Leave
	began    time.Duration   // by boot time
	withheld *config.Consent // since the start; nil: what cfg says
	over     chan struct{}   // closed when the loop ends
	copies   copies
	notes    notes
	shelf    shelf
	grants   tickets[node.GrantAnswer]
	asking   perPeer                // for grants
	words    tickets[[]exec.Report] // this node's own, asked for
	giving   giving
	taking   taking

	reading paramReading
	lanes   lanes
	kept    keptParams

	holding holding // of seeds

	levels   levels
	versions versions
	outgrown atomic.Pointer[string] // why this host does not follow the record any more; nil or empty: it does

	grown    growth // of the record
	uplinks  uplinks
	sessions sessions
	checkups checkups
	plights  *plights
	releases releases
}

// picture is what everybody on this host reads without waiting.
type picture struct {
	record   auth.Record
	beacon   auth.Beacon
	envelope auth.Envelope
	clock    auth.Clock
}

// New makes an agent that does nothing until Run.
func New(cfg Config) *Agent {
	a := &Agent{
		cfg: cfg, signer: auth.NewSigner(cfg.Key), log: cfg.Log, queue: make(chan node.Event, queueSize),
		keys: cfg.Keys, hints: cfg.Hints, seen: map[fleet.ID]node.Sighting{}, orders: newHeld(),
		leave: make(chan struct{}), over: make(chan struct{}), copies: copies{}, notes: newNotes(),
		shelf: newShelf(), grants: newTickets[node.GrantAnswer](), words: newTickets[[]exec.Report](),
		holding: newHolding(), kept: newKept(), sessions: sessions{host: cfg.SessionHost, wanting: newWanting()}, releases: newReleases(cfg.Seed),
		checkups: newCheckups(), plights: newPlights(),
	}
	if a.keys == nil {
		a.keys = map[uint32][32]byte{}
	}
	if a.hints == nil {
		a.hints = map[fleet.ID][]netip.AddrPort{}
	}
	a.self = a.signer.ID()
	if cfg.Idle != "" {
		a.SetPlight("idle", node.ClonePlight)
	}
	a.began = cfg.Clock().Boot
	a.tellConsent(cfg.Consent)
	a.picture.Store(&picture{record: cfg.Record, clock: auth.Clock{Floor: cfg.Floor}})
	return a
}

// Shells are the parts that an agent drives. Quorum and Reports are nil on a host that is no server.
type Shells struct {
	Peers   Peers
	Gossip  Gossip
	Runner  Runner
	Reports Reports
	Quorum  Quorum
	Replica *Replica
	// Decisions is nil where none are kept.
	Decisions Decisions
	// Outlets is nil where output is copied nowhere.
	Outlets Outlets
	// Copies is nil where no copies of parameters are kept.
	Copies ParamCopies
	// Seeds is nil on a host that keeps no keys of keyrings.
	Seeds Seeds
	// Sessions is nil on a host in whose sessions nothing runs.
	Sessions Sessions
	// Archive is nil on a host that keeps no copies of other nodes' recordings.
	Archive Archive
	// Releases is nil on a host that keeps none.
	Releases Releases
	// Uplinks is nil on a host that others can dial.
	Uplinks Uplinks
	// Dial connects from this host to HOST:PORT, for operators who may. Nil: nobody may.
	Dial func(ctx context.Context, to string) (net.Conn, error)
	// Listen listens at ADDRESS:PORT of this host, for operators who may. Nil: nobody may.
	Listen func(at string) (net.Listener, error)
	// API serves the local API to operators elsewhere. Nil: it is not served to them.
	API APIDoor
	// Prober tries the ways to other members. Nil: they are not tried.
	Prober Prober
}

// Attach gives the agent its shells. Call it before Run and before any peer is served.
func (a *Agent) Attach(s Shells) {
	a.peers, a.gossip, a.runner, a.reports, a.quorum, a.replica = s.Peers, s.Gossip, s.Runner, s.Reports, s.Quorum, s.Replica
	a.decisions, a.outlets, a.seeds = s.Decisions, s.Outlets, s.Seeds
	a.kept.store = s.Copies
	a.uplinks.shell = s.Uplinks
	a.sessions.shell, a.sessions.dial, a.sessions.api = s.Sessions, s.Dial, s.API
	a.sessions.listen = s.Listen
	a.sessions.archive = s.Archive
	a.releases.shell = s.Releases
	a.checkups.prober = s.Prober
	a.useKeys()
}

// queueSize bounds events that wait for the loop. Beyond it bells are dropped, and others wait.
const queueSize = 4096

// Post brings an event to the loop; when that has ended, nobody needs it.
func (a *Agent) Post(ev node.Event) {
	select {
	case a.queue <- ev:
	case <-a.over:
	}
}

// Bell takes a bell from the network. It never waits: a bell that finds no room is lost, as on the wire.
func (a *Agent) Bell(data []byte) {
	bell, err := node.DecodeBell(data)
	if err != nil {
		return
	}
	select {
	case a.queue <- node.BellHeard{Bell: bell}:
	default:
		a.counted.bellsLost.Add(1)
	}
}

// Run is the loop. It returns when ctx ends or the host leaves.
func (a *Agent) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	defer close(a.over)
	defer a.closeLane()
	defer func() { a.sessions.tunnels.close(a.now()) }()

	core := node.New(node.Config{
		Self: a.self, Facts: a.cfg.Facts, Seed: a.cfg.Seed, Record: a.cfg.Record,
		Clock: auth.Clock{Floor: a.cfg.Floor}, Keys: a.hashes(), Seeds: a.recallSeeds(),
		Consent: a.Consent(),
	})
	work.Go(func() { a.watchGossip(ctx) })
	work.Go(func() { a.tellFacts(ctx) })
	work.Go(func() { a.tellPlight(ctx) })
	work.Go(func() { a.tendCopies(ctx) })
	work.Go(func() { a.watchSessions(ctx) })
	if a.sessions.shell != nil {
		work.Go(func() { a.copyRecordings(ctx) })
	}
	if a.Outbound() {
		work.Go(func() { a.keepUplinks(ctx) })
	}
	if a.quorum != nil {
		work.Go(func() { a.serve(ctx) })
		work.Go(func() { a.feed(ctx) })
		work.Go(func() { a.tendLevel(ctx) })
	}
	step := func(ev node.Event) (next time.Duration) {
		at := a.cfg.Clock()
		for _, effect := range core.Step(at, ev) {
			a.perform(ctx, &work, core, effect)
		}
		a.readyCopy(ev)
		return max(core.Deadline(at)-at.Boot, time.Millisecond)
	}
	// Before anything is heard: a cancel of what ran here in an earlier life would find an order that never started.
	a.runner.Recall(func(ev node.Event) { step(ev) })
	work.Go(a.recallCopies)

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ev node.Event
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.leave:
			return nil
		case ev = <-a.queue:
		case <-timer.C:
			ev = node.Tick{}
		}
		timer.Reset(step(ev))
		a.turns.Add(1)
	}
}

// perform does one effect: what must keep its order at once, the rest beside the loop.
func (a *Agent) perform(ctx context.Context, work *sync.WaitGroup, core *node.Node, effect node.Effect) {
	switch e := effect.(type) {
	case node.KeepActs:
		a.keepActs(e)
	case node.KeepBeacon:
		p := *a.picture.Load()
		p.beacon, p.envelope, p.clock = e.Beacon, e.Envelope, core.Clock()
		a.picture.Store(&p)
	case node.KeepFloor:
		a.keepFloor(e.Floor)
	case node.HoldOrder:
		a.mu.Lock()
		a.orders.put(e.Command, e.Act, e.Order)
		a.mu.Unlock()
	case node.Ring:
		a.ring(e)
	case node.DropPeer:
		a.peers.Drop(e.Peer, e.Why)
		a.gossip.Evict(e.Peer)
	case node.Warn:
		a.log.Warn(e.Text)
	case node.Outgrown:
		a.outgrown.Store(&e.Why)
	case node.ExchangeBeacons:
		work.Go(func() { a.exchange(ctx, e.With) })
	case node.FetchActs:
		work.Go(func() { a.fetchActs(ctx, e) })
	case node.FetchOrder:
		work.Go(func() { a.fetchOrder(ctx, e) })
	case node.FetchDocuments:
		work.Go(func() { a.fetchDocuments(ctx, e) })
	case node.KeepDocument:
		work.Go(func() { a.keepDocument(e) })
	case node.AskGrant:
		work.Go(func() { a.fetchGrant(ctx, e) })
	case node.AnswerGrant:
		a.grants.answer(e.Ticket, e.Answer)
	case node.AnswerReport:
		a.words.answer(e.Ticket, e.Report)
	case node.ProposeGrants:
		work.Go(func() { a.proposeGrants(ctx, e) })
	case node.ProposeEndings:
		work.Go(func() { a.proposeEndings(ctx, e) })
	case node.Decided:
		if a.decisions != nil {
			a.decisions.Put(e.Command, e.Decision)
		}
	case node.FetchOrders:
		work.Go(func() { a.fetchOrders(ctx, e) })
	case node.FetchCancel:
		work.Go(func() { a.fetchCancel(ctx, e) })
	case node.FetchGossipKey:
		work.Go(func() { a.fetchKey(ctx, e) })
	case node.FetchSeeds:
		work.Go(func() { a.fetchSeeds(ctx, e) })
	case node.MakeEpoch:
		work.Go(func() { a.makeEpoch(ctx, e) })
	case node.TellHolding:
		work.Go(func() { a.tellHolding(ctx, e) })
	case node.DropSeed:
		work.Go(func() { a.dropSeed(e) })
	case node.SendReport:
		work.Go(func() { a.sendReport(ctx, e) })
	case node.StartRun:
		work.Go(func() { a.startRun(ctx, e) })
	case node.KillRun:
		work.Go(func() { a.complain("cancel", a.runner.Cancel(e.Command)) })
	case node.RefuseRun:
		work.Go(func() { a.refuse(e) })
	}
}

// complain logs what could not be done.
func (a *Agent) complain(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Warn("could not "+what, "err", err)
	}
}

// startRun hands an order to the runner.
func (a *Agent) startRun(ctx context.Context, e node.StartRun) {
	id := e.Command.Header.ID
	if a.idles(e) {
		return
	}
	var err error = TooLate{}
	a.expectCopy(e.Command)
	if e.By == 0 || a.cfg.Clock().Boot <= e.By {
		err = a.runner.Start(ctx, e)
	}
	if err == nil || ctx.Err() != nil { // the agent stops: the order comes again after the restart
		return
	}
	if _, late := errors.AsType[TooLate](err); late {
		a.Post(node.RunLate{Command: id})
		return
	}
	if not, ok := errors.AsType[NotStarted](err); ok {
		a.Post(node.RunNotStarted{Command: id, As: not.As, Why: err.Error()})
		return
	}
	if fleet.KindOf(err) == fleet.Conflict { // the ledger has it already, and Recall told what it knows
		return
	}
	a.log.Warn("a command could not be started", "command", id, "err", err)
	a.Post(node.RunNotStarted{Command: id, Why: "could not be started: " + err.Error()})
}

func (a *Agent) refuse(e node.RefuseRun) {
	if err := a.runner.Refuse(e.Command, e.Digest, e.As, e.Reason); err != nil {
		a.log.Warn("could not note that a command never runs here", "command", e.Command, "err", err)
		a.Post(node.RefusalLost{Command: e.Command, Why: err.Error()})
		return
	}
	a.Post(node.RefusalKept{Command: e.Command})
}

// keepActs makes acts durable, then visible. A disk that does not keep them stops the agent's progress, not its truth:
// the acts come again after a restart.
func (a *Agent) keepActs(e node.KeepActs) {
	p := *a.picture.Load()
	heads := make([]fleet.ID, len(e.Acts))
	head := p.record.Head
	for i, act := range e.Acts {
		head = auth.NextHead(head, act)
		heads[i] = head
	}
	if err := a.cfg.Folder.AppendActs(e.Acts, heads); err != nil {
		a.log.Error("the record cannot be kept", "err", err)
	}
	p.record = e.Record
	a.picture.Store(&p)
	a.grown.tell()
	a.keepFloor(p.clock.Floor)
	a.useKeys()
}

func (a *Agent) keepFloor(floor int64) {
	r := a.record()
	a.complain("keep the floor", a.cfg.Folder.PutFloor(floor, r.Length, r.Head))
}

func (a *Agent) record() auth.Record { return a.picture.Load().record }

func (a *Agent) now() time.Time { return a.picture.Load().clock.Now(a.cfg.Clock()) }

// stamp returns the time that this server signs as the fleet's, in Unix milliseconds: its own clock's, or, where that is
// known to be wrong, the fleet's as it was heard. One server's wrong clock must not move everybody's.
func (a *Agent) stamp() int64 {
	at := a.cfg.Clock()
	return at.Wall.Add(-a.picture.Load().clock.Suspect(at)).UnixMilli()
}

func (a *Agent) ring(e node.Ring) {
	data := e.Bell.Encode()
	for _, id := range e.To {
		for _, way := range a.ways(id) { // to an outbound-only node through both relays: one of them may have lost it
			a.peers.Ring(way, data)
		}
	}
}

// When members' addresses are kept for the next start.
const (
	firstSave = 5 * time.Second
	saveEvery = time.Minute
)

// watchGossip passes gossip's picture on, and keeps addresses for the next start.
func (a *Agent) watchGossip(ctx context.Context) {
	save := time.NewTimer(firstSave) // a host that is killed early must find its fleet again too
	defer save.Stop()
	rejoin := time.NewTicker(10 * time.Second)
	defer rejoin.Stop()
	if a.mayJoinGossip() {
		a.gossip.Join(ctx, a.everyHint())
	}
	for {
		a.look()
		select {
		case <-ctx.Done():
			a.complain("keep the members' addresses", a.cfg.Folder.PutPeers(a.everyHint()))
			return
		case <-a.gossip.Changed():
		case <-rejoin.C:
			if !a.anyOnline() && a.mayJoinGossip() {
				a.gossip.Join(ctx, a.everyHint())
			}
		case <-save.C:
			a.complain("keep the members' addresses", a.cfg.Folder.PutPeers(a.everyHint()))
			save.Reset(saveEvery)
		}
	}
}

func (a *Agent) look() {
	members := a.gossip.Members()
	a.mu.Lock()
	a.seen = make(map[fleet.ID]node.Sighting, len(members))
	for _, m := range members {
		a.seen[m.ID] = m
		switch {
		case m.ID == a.self:
		case len(m.Addrs) > 0:
			a.hints[m.ID] = m.Addrs
		case len(m.Via) > 0:
			delete(a.hints, m.ID) // nobody is to try where it was before
		}
	}
	a.mu.Unlock()
	a.Post(node.Gossiped{Members: members})
}

func (a *Agent) anyOnline() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.seen {
		if id != a.self && s.Status == fleet.Online {
			return true
		}
	}
	return false
}

func (a *Agent) everyHint() map[fleet.ID][]netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[fleet.ID][]netip.AddrPort{}
	for id, addrs := range a.hints {
		if id != a.self {
			out[id] = addrs
		}
	}
	return out
}

// Addrs returns where a node may be, best first.
func (a *Agent) Addrs(id fleet.ID) []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hints[id]
}

// Hint adds an address at which a node may be, for a first contact.
func (a *Agent) Hint(id fleet.ID, addrs []netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.hints[id]) == 0 {
		a.hints[id] = addrs
	}
}
