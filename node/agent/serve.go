package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// may says who may make a request. The transport has proved the peer's key and checked that it is enrolled.
type may uint8

const (
	anyMember may = iota + 1
	serversOnly
)

// requests is the whole table of what members may ask of each other. What is not here is refused.
var requests = map[byte]may{
	askBeacon: anyMember, askActs: anyMember, askOrder: anyMember, askOrders: anyMember,
	askPropose: anyMember, // every entry but its time is verified by its own signatures when it is applied
	askRead:    anyMember, // an operator's signature is verified here
	askReport:  anyMember, // of the peer's own runs
	askWatch:   anyMember, // an operator's signature is verified here
	askKey:     anyMember, askReplica: serversOnly, askTerm: serversOnly,
	askPutFacts:   anyMember, // the peer's own
	askFacts:      anyMember,
	askCancel:     anyMember, // a cancel is no secret: its bell is rung
	askGrant:      anyMember, // for the peer itself
	askDocument:   anyMember, // of a digest that one has to know
	askNodeReport: anyMember, // an operator's signature is verified here
	askDecisions:  anyMember, // an operator's signature is verified here
	askEnrol:      anyMember, // the join secret's signature is verified here
	askParams:     anyMember, // an operator's signature is verified here, or policy asked about the peer
	askParamWatch: anyMember, // the same
	askLane:       anyMember, // as each of its asks
	askSeed:       anyMember, // of the peer's own keyrings, by the roster
	askHandOver:   anyMember, // an operator's signature is verified here
	askHPKE:       anyMember, // a public key
	askHeld:       anyMember, // which keys are here is no secret
	askNamed:      anyMember, // an operator's signature is verified here
	askPlight:     anyMember, // the peer's own
	askPlights:    anyMember, // a courtesy to people
	askLevel:      anyMember, // what a host's program can is no secret
	askCheckup:    anyMember, // of what members tell each other anyway
}

// Serve answers one stream of a member.
func (a *Agent) Serve(s Stream) {
	defer s.Close()
	kind, body, err := s.ReadFrame()
	if err != nil {
		return
	}
	if stream := a.streamed(kind); stream != nil {
		err := stream(s, body)
		a.counted.answered(err)
		if err != nil {
			_ = s.WriteError(err)
		}
		return
	}
	kindBack, answer, err := a.answer(withFrom(s), s.Peer(), kind, body)
	a.counted.answered(err)
	if err != nil {
		_ = s.WriteError(err)
		return
	}
	_ = s.WriteFrame(kindBack, answer)
}

// streamed returns what answers a request of that kind with any number of frames, or nil where there is one answer.
func (a *Agent) streamed(kind byte) func(Stream, []byte) error {
	switch kind {
	case askWatch:
		return a.serveWatch
	case askParamWatch:
		return a.serveParamWatch
	case askLane:
		return a.serveLane
	}
	return nil
}

// answer serves one request, of a peer or of this host itself.
func (a *Agent) answer(ctx context.Context, peer fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	who, known := requests[kind]
	if !known {
		return 0, nil, fleet.Errorf(fleet.Invalid, "request of kind %d is not understood by this version", kind)
	}
	if who == serversOnly && peer != a.self && !a.isServer(peer) {
		return 0, nil, fleet.Errorf(fleet.Denied, "only servers may ask that")
	}
	answer, err := a.dispatch(ctx, peer, kind, body)
	if lead, ok := errors.AsType[NotLeader](err); ok {
		return notLeader, wire.Marshal(leaderBody(lead)), nil
	}
	return done, answer, err
}

func (a *Agent) dispatch(ctx context.Context, peer fleet.ID, kind byte, body []byte) ([]byte, error) {
	switch kind {
	case askBeacon:
		return a.answerBeacon(peer, body)
	case askActs:
		return a.answerActs(body)
	case askOrder:
		return a.answerOrder(peer, body)
	case askOrders:
		return a.answerOrders(peer, body)
	case askPropose:
		return a.answerPropose(ctx, peer, body)
	case askRead:
		return a.answerRead(ctx, body)
	case askReport:
		return nil, a.takeReport(ctx, peer, body)
	case askKey:
		return a.answerKey(body)
	case askReplica:
		return a.answerReplica()
	case askTerm:
		return nil, a.answerTerm(body)
	case askPutFacts:
		return nil, a.takeFacts(peer, body)
	case askFacts:
		return a.answerFacts()
	case askCancel:
		return a.answerCancel(ctx, peer, body)
	case askEnrol:
		return a.answerEnrol(ctx, body)
	case askGrant:
		return a.answerGrant(ctx, peer, body)
	case askDocument:
		return a.answerDocument(body)
	case askNodeReport:
		return a.answerNodeReport(ctx, body)
	case askDecisions:
		return a.answerDecisions(body)
	case askParams:
		return a.answerParams(ctx, peer, body)
	case askSeed:
		return a.answerSeeds(peer, body)
	case askHandOver:
		return nil, a.takeHandOver(ctx, body)
	case askHPKE:
		return a.answerHPKE()
	case askHeld:
		return a.answerHeld()
	case askNamed:
		return a.answerNamed(peer, body)
	case askPlight:
		return nil, a.takePlight(peer, body)
	case askPlights:
		return a.answerPlights()
	case askLevel:
		return a.answerLevel()
	case askCheckup:
		return a.answerCheckup(ctx, peer, body)
	}
	return nil, fleet.Errorf(fleet.Internal, "request of kind %d has no answer", kind)
}

func (a *Agent) isServer(id fleet.ID) bool {
	entry, err := a.record().Roster.Enrolled(id)
	return err == nil && entry.Server
}

func (a *Agent) answerBeacon(peer fleet.ID, body []byte) ([]byte, error) {
	theirs, mine := beaconBody{}, beaconBody{Act: a.newestOrder()}
	if err := wire.Unmarshal(body, &theirs); err != nil {
		return nil, err
	}
	if len(theirs.Beacon) == 1 {
		a.Post(node.BeaconHeard{From: peer, Envelope: theirs.Beacon[0], Act: theirs.Act})
	}
	if own := a.own.Load(); own != nil && len(theirs.Beacon) == 0 {
		mine.Beacon = []auth.Envelope{*own}
	} else if p := a.picture.Load(); p.envelope.Format != 0 {
		mine.Beacon = []auth.Envelope{p.envelope}
	}
	return wire.Marshal(mine), nil
}

func (a *Agent) answerActs(body []byte) ([]byte, error) {
	var ask actsAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	acts, err := a.cfg.Folder.ReadActs(ask.From, actsPage)
	return wire.Marshal(actsBody{acts}), err
}

// answerOrder gives an order to those it names, and to servers.
func (a *Agent) answerOrder(peer fleet.ID, body []byte) ([]byte, error) {
	var ask orderAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	a.mu.Lock()
	o, ok := a.orders.get(ask.Command)
	a.mu.Unlock()
	if !ok && a.replica != nil {
		if c, found := a.replica.State().Command(ask.Command); found {
			o, ok = c.Order, true
		}
	}
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "no order %s here", ask.Command)
	}
	if !o.Has(peer) && !a.isServer(peer) {
		return nil, fleet.Errorf(fleet.Denied, "order %s is not for %s", ask.Command, peer)
	}
	return o.Encode(), nil
}

func (a *Agent) needReplica() error {
	if a.replica == nil {
		return fleet.Errorf(fleet.Unavailable, "%s holds no replicated state", a.cfg.Name)
	}
	return nil
}

func (a *Agent) answerOrders(peer fleet.ID, body []byte) ([]byte, error) {
	var ask ordersAsk
	if err := errors.Join(wire.Unmarshal(body, &ask), a.needReplica()); err != nil {
		return nil, err
	}
	commands, next := a.replica.State().CommandsFor(peer, ask.Since, ordersPage)
	out := ordersBody{Next: next}
	for _, c := range commands {
		if of := committedOf(c, peer); len(of.Cancel) > 0 || !slices.Contains(ask.Known, c.ID()) {
			out.Orders = append(out.Orders, of)
		}
	}
	return wire.Marshal(out), nil
}

// answerCancel says whether a command was cancelled by now: this server must lead.
func (a *Agent) answerCancel(ctx context.Context, peer fleet.ID, body []byte) ([]byte, error) {
	var ask orderAsk
	if err := errors.Join(wire.Unmarshal(body, &ask), a.needReplica()); err != nil {
		return nil, err
	}
	if err := a.quorum.Read(ctx); err != nil {
		return nil, err
	}
	state := a.replica.State()
	c, ok := state.Command(ask.Command)
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "no command %s", ask.Command)
	}
	return wire.Marshal(cancelBody{committedOf(c, peer).Cancel, state.Record.Length}), nil
}

// committedOf returns a command as a node gets it: with the cancel that is for that node.
func committedOf(c *consensus.Command, to fleet.ID) node.Committed {
	out := node.Committed{Act: c.Act, Order: c.Order}
	if cancel, ok := c.CancelFor(to); ok {
		out.Cancel = []auth.Envelope{cancel}
	}
	return out
}

func (a *Agent) answerPropose(ctx context.Context, peer fleet.ID, body []byte) ([]byte, error) {
	if err := a.needReplica(); err != nil {
		return nil, err
	}
	item, err := consensus.Stamp(body, a.stamp())
	if err != nil {
		return nil, err
	}
	prepared := a.replica.State().Prepare(item)
	entry, err := prepared.Entry()
	if err == nil {
		err = a.mayPropose(peer, entry)
	}
	if err != nil {
		return nil, err
	}
	result, err := a.commitItem(ctx, item, prepared)
	return wire.Marshal(result), err
}

// mayPropose reports why a peer may not propose an entry of which no signature says all, or nil. What only the leader may is
// no request at all: the leader commits it itself, and what comes from this host may come from any account here.
func (a *Agent) mayPropose(peer fleet.ID, entry consensus.Entry) error {
	switch e := entry.(type) {
	case consensus.PutAct:
		if e.Kind == auth.ActGossipEpoch {
			return fleet.Errorf(fleet.Denied, "only the leader turns the gossip key")
		}
	case consensus.PutRequest:
		if e.Request.Node != peer {
			return fleet.Errorf(fleet.Denied, "an operator request comes from the host it was made on")
		}
	case consensus.PutGrants:
		return fleet.Errorf(fleet.Denied, "only the leader gives leave to start")
	case consensus.ParamsDue:
		return fleet.Errorf(fleet.Denied, "only the leader says that something is due")
	case consensus.SetLevel:
		return fleet.Errorf(fleet.Denied, "only the leader raises the fleet's level")
	case consensus.PutEndings:
		if freesPlaces(e.Ends) || peer != a.self && !a.isServer(peer) { // the leader commits its own itself
			return fleet.Errorf(fleet.Denied, "servers tell of endings, and the leader alone gives a silent node's place away")
		}
	case consensus.PutDocument: // a state machine does not read texts, for versions of it might disagree
		p, err := auth.Peek[exec.Publication](e.Statement)
		if err == nil && len(e.Statement.Body) <= exec.MaxPublication {
			return p.Check()
		}
	case consensus.PutToken, consensus.DeleteToken, consensus.PutCommand, consensus.PutCancel, consensus.ChangeDocument,
		consensus.PutParams:
	}
	return nil
}

// fleetsOwn reports whether an entry is what the agents find out by themselves, with no signature in it: nobody may bring
// such a one from outside.
func fleetsOwn(entry consensus.Entry) bool {
	switch e := entry.(type) {
	case consensus.PutAct:
		return e.Kind == auth.ActGossipEpoch
	case consensus.PutGrants, consensus.PutEndings, consensus.ParamsDue, consensus.SetLevel:
		return true
	case consensus.PutToken, consensus.DeleteToken, consensus.PutCommand, consensus.PutCancel, consensus.PutRequest, consensus.PutDocument,
		consensus.ChangeDocument, consensus.PutParams:
	}
	return false
}

// commit stamps an entry with this leader's time and proposes it, unless the newest state answers it already: a
// statement that was taken before, or one that would be refused. So a member that floods the leader fills no log. What is
// found out about the entry here is not found out again when its turn comes.
func (a *Agent) commit(ctx context.Context, e consensus.Entry) (consensus.Result, error) {
	item := consensus.Encode(e, a.stamp())
	return a.commitItem(ctx, item, a.replica.State().Prepare(item))
}

func (a *Agent) commitItem(ctx context.Context, item []byte, prepared consensus.Prepared) (consensus.Result, error) {
	if result, known := a.rehearse(prepared); known {
		if err := a.quorum.Read(ctx); err != nil { // the state may be behind, and this host no leader any more
			return result, err
		}
		if result, known = a.rehearse(prepared); known {
			return result, nil
		}
	}
	defer a.replica.readied.put(item, prepared)()
	v, err := a.quorum.Propose(ctx, item)
	if err != nil {
		return consensus.Result{}, err
	}
	return resultOf(v), nil
}

// rehearse applies an entry to a copy of the state. known says that proposing it would change nothing.
func (a *Agent) rehearse(p consensus.Prepared) (result consensus.Result, known bool) {
	state := a.replica.State()
	next, result := state.ApplyPrepared(p)
	return result, result.Why != "" || next.Taken == state.Taken
}

func (a *Agent) answerRead(ctx context.Context, body []byte) ([]byte, error) {
	var signed auth.Envelope
	if err := errors.Join(wire.Unmarshal(body, &signed), a.needReplica()); err != nil {
		return nil, err
	}
	read, err := node.OpenRead(a.record(), signed, a.now())
	if err == nil {
		err = a.quorum.Read(ctx)
	}
	if err != nil {
		return nil, err
	}
	answer, err := lookUp(a.replica.State(), read)
	return wire.Marshal(answer), err
}

func lookUp(s consensus.State, read node.Read) (node.Answer, error) {
	var out node.Answer
	switch read.What {
	case node.ReadCommands:
		for _, c := range s.Commands(maxCommands) {
			out.Commands = append(out.Commands, node.ListOf(c))
		}
	case node.ReadCommand:
		c, ok := s.Command(read.Arg)
		if !ok {
			return out, fleet.Errorf(fleet.NotFound, "no command %s", read.Arg).Hinted("muster command list")
		}
		out.Commands = []node.CommandInfo{node.InfoOf(c).Thin()}
	case node.ReadTokens:
		for _, t := range s.Tokens() {
			op := "?"
			if signer, err := s.Record.Charter.Standing(t.Statement.Key, t.Body.Header.Issued); err == nil {
				op = signer.Name
			}
			out.Tokens = append(out.Tokens, node.TokenInfo{ID: t.Body.Header.ID, Operator: op, Used: t.Used, Body: t.Body})
		}
	case node.ReadRequests:
		out.Requests = s.Requests()
	case node.ReadDocuments:
		for _, d := range s.Documents() {
			out.Documents = append(out.Documents, node.DocumentLine(d))
		}
	case node.ReadDocument:
		d, number, text, err := node.ReadText(s, read.Name)
		if err != nil {
			return out, err
		}
		out.Documents, out.Version, out.Text = []node.DocumentInfo{node.DocumentInfoOf(d)}, number, text
	case node.ReadOutput, node.ReadWhy, node.ReadReport:
		return out, fleet.Errorf(fleet.Invalid, "%q is read at the node itself", read.What)
	default:
		return out, fleet.Errorf(fleet.Invalid, "%q cannot be read", read.What)
	}
	return out, nil
}

func (a *Agent) takeReport(ctx context.Context, peer fleet.ID, body []byte) error {
	var signed auth.Envelope
	if err := wire.Unmarshal(body, &signed); err != nil {
		return err
	}
	if a.reports == nil {
		return a.needReplica()
	}
	report, err := exec.OpenReport(a.record(), signed)
	if err == nil && report.Node != peer {
		err = fleet.Errorf(fleet.Denied, "a node reports for itself")
	}
	if err == nil {
		err = a.expects(ctx, report)
	}
	if err == nil {
		err = a.reports.Put(report, signed)
	}
	if err == nil && a.isPaced(report.Command) {
		a.Post(node.ReportKept{Command: report.Command, Node: report.Node, Status: report.Status})
	}
	return err
}

// behindWait is how long a report waits for this replica to catch up with its command: a node may be faster than a
// spare.
const behindWait = time.Second

// expects refuses reports of commands that this replica does not know for that node: made-up ones would push real ones
// out of the store.
func (a *Agent) expects(ctx context.Context, r exec.Report) error {
	ctx, cancel := context.WithTimeout(ctx, behindWait)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, ok := a.replica.State().Command(r.Command); ok {
			if !c.Order.Has(r.Node) {
				return fleet.Errorf(fleet.Denied, "command %s was not for node %s", r.Command, r.Node)
			}
			return nil
		}
		if a.holdsDirect(r.Command, r.Node) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fleet.Errorf(fleet.Unavailable, "command %s is not known here", r.Command)
		case <-tick.C:
		}
	}
}

func (a *Agent) answerReplica() ([]byte, error) {
	if a.quorum == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "%s has no replica", a.cfg.Name)
	}
	return wire.Marshal(replicaBody{a.quorum.Incarnation()}), nil
}

func (a *Agent) answerTerm(body []byte) error {
	var ask termAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return err
	}
	if a.quorum == nil {
		return fleet.Errorf(fleet.Unavailable, "%s has no replica", a.cfg.Name)
	}
	return a.quorum.ConfirmTerm(ask.Incarnation, ask.Term)
}

// ConfirmTerm asks a voter whether its term is still that one.
func (a *Agent) ConfirmTerm(ctx context.Context, voter fleet.ID, incarnation, term uint64) error {
	return a.ask(ctx, voter, askTerm, termAsk{incarnation, term}, nil)
}
