package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// ask makes one request of a peer, or of this host itself.
func (a *Agent) ask(ctx context.Context, id fleet.ID, kind byte, request, answer any) error {
	kindBack, body, err := a.askRaw(ctx, id, kind, wire.Marshal(request))
	if err != nil {
		return err
	}
	if kindBack != done {
		return fleet.Errorf(fleet.Unavailable, "%s gave no answer", id)
	}
	if answer == nil {
		return nil
	}
	return wire.Unmarshal(body, answer)
}

func (a *Agent) askRaw(ctx context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	if id == a.self {
		return a.answer(ctx, a.self, kind, body)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request := a.peers.Request
	if laned(kind, body) {
		request = a.askSoon
	}
	kindBack, answer, err := request(ctx, id, kind, body)
	a.hearRefusal(err)
	return kindBack, answer, err
}

// hearRefusal notices that peers treat this node as removed.
func (a *Agent) hearRefusal(err error) {
	why := ""
	switch {
	case err == nil:
	case fleet.KindOf(err) == fleet.Denied && strings.Contains(err.Error(), auth.RemovedText):
		why = err.Error()
	default:
		return
	}
	a.mu.Lock()
	changed := a.gone != why
	a.gone = why
	a.mu.Unlock()
	if changed && why != "" {
		a.log.Warn("a peer refuses this node", "err", why)
	}
}

func (a *Agent) fetchActs(ctx context.Context, e node.FetchActs) {
	var body actsBody
	err := a.ask(ctx, e.From, askActs, actsAsk{e.Position}, &body)
	if err != nil {
		a.log.Debug("no acts", "peer", e.From, "err", err)
	}
	a.Post(node.ActsFetched{From: e.From, Acts: body.Acts, Failed: err != nil})
}

func (a *Agent) fetchOrder(ctx context.Context, e node.FetchOrder) {
	var o exec.Order
	err := a.ask(ctx, e.From, askOrder, orderAsk{e.Command}, &o)
	if err != nil {
		a.log.Debug("no order", "peer", e.From, "command", e.Command, "err", err)
	}
	a.Post(node.OrderFetched{From: e.From, Command: e.Command, Order: o, Failed: err != nil})
}

func (a *Agent) fetchOrders(ctx context.Context, e node.FetchOrders) {
	var body ordersBody
	err := a.ask(ctx, e.From, askOrders, ordersAsk{Since: e.Since, Known: e.Known}, &body)
	if err != nil {
		a.log.Debug("no orders", "peer", e.From, "err", err)
	}
	a.Post(node.OrdersFetched{From: e.From, Orders: body.Orders, Next: body.Next, Failed: err != nil})
}

func (a *Agent) fetchCancel(ctx context.Context, e node.FetchCancel) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var body cancelBody
	answer, err := a.atLeader(ctx, askCancel, wire.Marshal(orderAsk{e.Command}))
	if err == nil {
		err = wire.Unmarshal(answer, &body)
	}
	if err != nil {
		a.log.Debug("nobody says whether it was cancelled", "command", e.Command, "err", err)
	}
	a.Post(node.CancelFetched{Command: e.Command, Cancel: body.Cancel, RecordLen: body.RecordLen, Failed: err != nil})
}

func (a *Agent) sendReport(ctx context.Context, e node.SendReport) {
	signed := a.signer.Sign(auth.ForReport, a.cfg.Fleet, e.Report)
	if err := a.ask(ctx, e.To, askReport, signed, nil); err != nil {
		a.log.Debug("a report was not taken", "peer", e.To, "command", e.Report.Command, "err", err)
		a.Post(node.ReportLost{Command: e.Report.Command, Seq: e.Report.Seq, Server: e.To})
		return
	}
	a.Post(node.ReportTaken{Command: e.Report.Command, Seq: e.Report.Seq, Server: e.To})
}

// retryLeader is how soon the leader is sought again. firstTry is how long the first one asked has to answer; later
// ones have up to eight times that, for a leader with a slow disk.
const (
	retryLeader = 100 * time.Millisecond
	firstTry    = time.Second
)

// askOnce asks who is thought to lead, until it answers, its time is over, or this host's replica knows better.
func (a *Agent) askOnce(ctx context.Context, id fleet.ID, kind byte, body []byte, patience time.Duration) (byte, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if a.quorum != nil && id != a.self {
		go func() {
			look := time.NewTicker(retryLeader / 2)
			defer look.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-look.C:
				}
				if s := a.quorum.Status(); s.Member && !s.Leader.IsZero() && s.Leader != id {
					cancel()
					return
				}
			}
		}()
	}
	kindBack, answer, err := a.askRaw(ctx, id, kind, body)
	if err != nil && ctx.Err() != nil {
		err = fleet.Errorf(fleet.Unavailable, "%s does not answer", a.nameOf(id))
	}
	return kindBack, answer, err
}

// atLeader brings a request to the leader, through elections and lost peers, until ctx ends. It may be carried out
// twice: whatever goes this way is idempotent by its statement's ID.
func (a *Agent) atLeader(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var last error
	for try := 0; ; try++ {
		id, ok := a.leaderToTry(try)
		if ok {
			kindBack, answer, err := a.askOnce(ctx, id, kind, body, firstTry<<min(try, 3))
			switch {
			case err == nil && kindBack == notLeader:
				last = fleet.Errorf(fleet.Unavailable, "%s does not lead", a.nameOf(id))
				a.followHint(answer)
			case err == nil:
				a.setLeader(id)
				return answer, nil
			case !retriable(err):
				return nil, err
			default:
				last = err
				a.setLeader(fleet.ID{})
			}
		}
		select {
		case <-ctx.Done():
			return nil, a.noLeader(last)
		case <-time.After(retryLeader):
		}
	}
}

func retriable(err error) bool {
	return fleet.KindOf(err) == fleet.Unavailable || errors.Is(err, context.DeadlineExceeded)
}

func (a *Agent) noLeader(last error) error {
	e := fleet.Errorf(fleet.Unavailable, "no leader answers, so nothing can be written")
	if last != nil {
		e = fleet.Errorf(fleet.Unavailable, "no leader answers, so nothing can be written (last: %w)", last)
	}
	return e.Hinted("muster quorum status says who is missing; what nodes already hold goes on")
}

func (a *Agent) followHint(body []byte) {
	var hint leaderBody
	if wire.Unmarshal(body, &hint) == nil {
		a.setLeader(hint.Leader)
	}
}

// setLeader notes who is to be asked first as the leader; zero: nobody. Whoever says that he is none may name anybody, and
// only a server can be one.
func (a *Agent) setLeader(id fleet.ID) {
	if !a.isServer(id) {
		id = fleet.ID{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leader = id
}

// leaderToTry picks whom to ask: the own replica's leader, who answered last, the beacon's, then server after server.
func (a *Agent) leaderToTry(try int) (fleet.ID, bool) {
	if a.quorum != nil {
		if s := a.quorum.Status(); s.Member && !s.Leader.IsZero() {
			return s.Leader, true
		}
	}
	a.mu.Lock()
	known := a.leader
	a.mu.Unlock()
	servers := a.servers()
	beacon := a.picture.Load().beacon
	switch {
	case !known.IsZero():
		return known, true
	case try == 0 && !beacon.Leader.IsZero():
		return beacon.Leader, true
	case len(servers) == 0:
		return fleet.ID{}, false
	}
	return servers[try%len(servers)], true
}

// servers lists who may hold replicated state: the newest beacon's, before the first beacon every eligible node.
func (a *Agent) servers() []fleet.ID {
	p := a.picture.Load()
	if len(p.beacon.Voters) > 0 {
		return append(append([]fleet.ID{}, p.beacon.Voters...), p.beacon.Spares...)
	}
	var out []fleet.ID
	for entry := range p.record.Roster.All() {
		if entry.Server {
			out = append(out, entry.ID)
		}
	}
	return out
}

func (a *Agent) nameOf(id fleet.ID) string {
	if entry, ok := a.record().Roster.Node(id); ok {
		return entry.Name
	}
	return id.String()
}

// Propose brings an entry that anybody on this host may have made to the leader, and returns what it came to.
func (a *Agent) Propose(ctx context.Context, e consensus.Entry) (consensus.Result, error) {
	var result consensus.Result
	if fleetsOwn(e) {
		return result, fleet.Errorf(fleet.Denied, "an entry that nobody signs is made by the agents alone")
	}
	if put, ok := e.(consensus.PutCommand); ok {
		if err := exec.MayRun(exec.Order{Statement: put.Statement, Nodes: put.Nodes}, a.record(), a.now()); err != nil {
			return result, err
		}
	}
	return a.proposeItem(ctx, consensus.Encode(e, 0))
}

// ProposeItem is Propose of an encoded entry. A change of parameters, of which there may be thousands a second, is decoded by
// the leader alone.
func (a *Agent) ProposeItem(ctx context.Context, item []byte) (consensus.Result, error) {
	if len(item) > 0 && item[0] == consensus.Encode(consensus.PutParams{}, 0)[0] {
		return a.proposeItem(ctx, item)
	}
	e, _, err := consensus.Decode(item)
	if err != nil {
		return consensus.Result{}, err
	}
	return a.Propose(ctx, e)
}

func (a *Agent) proposeItem(ctx context.Context, item []byte) (consensus.Result, error) {
	var result consensus.Result
	answer, err := a.atLeader(ctx, askPropose, item)
	if err == nil {
		err = wire.Unmarshal(answer, &result)
	}
	if err == nil {
		err = result.Err()
	}
	return result, err
}

// Read passes a signed request to read to the leader.
func (a *Agent) Read(ctx context.Context, signed auth.Envelope) (node.Answer, error) {
	var answer node.Answer
	body, err := a.atLeader(ctx, askRead, wire.Marshal(signed))
	if err == nil {
		err = wire.Unmarshal(body, &answer)
	}
	for i := range answer.Commands {
		if err == nil {
			answer.Commands[i], err = answer.Commands[i].Full()
		}
	}
	return answer, err
}
