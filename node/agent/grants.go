package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// How the leader is asked for leave to start.
const (
	// grantWait is how long a question waits at the leader for the loop's answer. With the proof that it leads it stays
	// below askTimeout.
	grantWait = 4500 * time.Millisecond
	// grantHops is how many servers are asked who leads before the core is told that nobody says.
	grantHops = 4
	// grantsPerPeer is how many questions of one peer wait at a time, so that a few members of large sets cannot take all
	// tickets, nor keep the leader proving that it leads. A node that asks for more commands at once asks again a moment later.
	grantsPerPeer = 8
)

// fetchGrant asks the leader for leave to start, once: the core asks again.
func (a *Agent) fetchGrant(ctx context.Context, e node.AskGrant) {
	answer := node.GrantFailed
	for try := range grantHops {
		id, ok := a.leaderToTry(try)
		if !ok || ctx.Err() != nil {
			break
		}
		kind, body, err := a.askOnce(ctx, id, askGrant, wire.Marshal(orderAsk{e.Command}), askTimeout)
		if err == nil && kind == notLeader {
			a.followHint(body)
			continue
		}
		var got grantBody
		if err == nil {
			err = wire.Unmarshal(body, &got)
		}
		if err == nil && id != a.self && !a.isServer(id) { // its word would be for good: that the command was stopped, or has ended here
			err = fleet.Errorf(fleet.Unavailable, "%s is no server", a.nameOf(id))
		}
		if err == nil && (kind != done || got.Answer > node.GrantEnded) {
			err = fleet.Errorf(fleet.Unavailable, "%s gave an answer that is not understood by this version", id)
		}
		if err == nil {
			answer = got.Answer
			a.setLeader(id)
			break
		}
		a.log.Debug("no grant", "peer", id, "command", e.Command, "err", err)
		a.setLeader(fleet.ID{})
		if !retriable(err) {
			break
		}
	}
	a.Post(node.GrantAnswered{Command: e.Command, Asked: e.Asked, Answer: answer})
}

// answerGrant asks the core of the leader on behalf of a node of the set. Who waits longer than it may is told so.
func (a *Agent) answerGrant(ctx context.Context, peer fleet.ID, body []byte) ([]byte, error) {
	var ask orderAsk
	if err := errors.Join(wire.Unmarshal(body, &ask), a.needReplica()); err != nil {
		return nil, err
	}
	if s := a.quorum.Status(); !s.Leading {
		return nil, NotLeader{s.Leader}
	}
	c, ok := a.replica.State().Command(ask.Command)
	switch {
	case !ok:
		return nil, fleet.Errorf(fleet.Unavailable, "command %s is not known here", ask.Command)
	case !c.Order.Has(peer):
		return nil, fleet.Errorf(fleet.Denied, "command %s is not for %s", ask.Command, peer)
	}
	if !a.asking.begin(peer, grantsPerPeer) {
		return wire.Marshal(grantBody{node.GrantFailed}), nil
	}
	defer a.asking.end(peer)
	ctx, cancel := context.WithTimeout(ctx, grantWait)
	defer cancel()
	answer := a.askCore(ctx, ask.Command, peer)
	switch answer {
	case node.GrantedNow:
		answer = node.Granted
	case node.Granted:
		proved, err := a.holdsGrant(ctx, ask.Command, peer)
		if err != nil {
			return nil, err
		}
		if !proved {
			answer = node.GrantFailed
		}
	case node.GrantFailed, node.GrantWait, node.GrantStopped, node.GrantCancelled, node.GrantEnded:
	}
	return wire.Marshal(grantBody{answer}), nil
}

// askCore asks the loop. It never waits for room: unlimited commands come first.
func (a *Agent) askCore(ctx context.Context, command fleet.UUID, peer fleet.ID) node.GrantAnswer {
	ticket, waits := a.grants.open()
	if ticket == 0 {
		return node.GrantFailed
	}
	asked := node.GrantAsked{Command: command, Node: peer, Ticket: ticket}
	if len(a.queue) > queueSize/2 {
		a.grants.answer(ticket, node.GrantFailed)
	} else {
		select {
		case a.queue <- asked:
		default:
			a.grants.answer(ticket, node.GrantFailed)
		}
	}
	answer, ok := a.grants.wait(ctx, ticket, waits)
	if !ok {
		return node.GrantFailed
	}
	return answer
}

// holdsGrant reports whether a node holds a grant in the newest state, which this server must lead.
func (a *Agent) holdsGrant(ctx context.Context, command fleet.UUID, peer fleet.ID) (bool, error) {
	if err := a.quorum.Read(ctx); err != nil {
		return false, err
	}
	c, ok := a.replica.State().Command(command)
	if !ok {
		return false, nil
	}
	i, ok := node.Place(c.Order, peer)
	return ok && c.Rollout.State(i) == exec.NodeGranted && c.Rollout.Stopped == "", nil
}

// proposeGrants has the quorum agree on grants, as the leader.
func (a *Agent) proposeGrants(ctx context.Context, e node.ProposeGrants) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	result, err := a.commit(ctx, consensus.PutGrants{Command: e.Command, Nodes: e.Nodes})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		a.log.Debug("grants were not taken", "command", e.Command, "err", err)
	}
	a.Post(node.GrantsProposed{Command: e.Command, Failed: err != nil})
}

// proposeEndings brings endings to the leader, which may be this host.
func (a *Agent) proposeEndings(ctx context.Context, e node.ProposeEndings) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	put := consensus.PutEndings{Command: e.Command, Ends: e.Ends}
	var err error
	if freesPlaces(e.Ends) {
		err = a.commitInTerm(ctx, put, e.Term)
	} else {
		_, err = a.atLeader(ctx, askPropose, consensus.Encode(put, 0))
	}
	if err != nil {
		a.log.Debug("endings were not taken", "command", e.Command, "err", err)
	}
	a.Post(node.EndingsProposed{Command: e.Command, Failed: err != nil})
}

// freesPlaces reports whether ends give a silent node's place away.
func freesPlaces(ends []exec.Ending) bool {
	return slices.ContainsFunc(ends, func(x exec.Ending) bool { return x.As == exec.EndFreed })
}

// commitInTerm commits what only the leader of that term may decide: another may have given the same node leave to start
// since.
func (a *Agent) commitInTerm(ctx context.Context, e consensus.Entry, term uint64) error {
	if s := a.quorum.Status(); !s.Leading || s.Term != term {
		return NotLeader{s.Leader}
	}
	_, err := a.commit(ctx, e)
	return err
}

// postOffice tells the loop whether the quorum is led from here.
func (a *Agent) postOffice() {
	s := a.quorum.Status()
	a.Post(node.Office{Leading: s.Leading, Term: s.Term})
}

// postPaced tells the loop of all paced commands that may still go on, and, beside, of the reports that are here of them.
func (a *Agent) postPaced(ctx context.Context, beside *sync.WaitGroup) {
	for _, c := range a.replica.State().Paced() {
		a.Post(node.CommandChanged{Command: c})
		if !c.Rollout.Done() {
			beside.Go(func() { a.postKept(ctx, c.ID()) })
		}
	}
}

// recallFor is how long the reports that are here are read for the loop; what comes is posted as it comes.
const recallFor = time.Minute

// postKept tells the loop of a command's reports that are here. It reads some at a time: all of a large command's are
// more than the memory is for.
func (a *Agent) postKept(ctx context.Context, id fleet.UUID) {
	ctx, cancel := context.WithTimeout(ctx, recallFor)
	defer cancel()
	err := a.reports.Watch(ctx, id, func(e auth.Envelope) error {
		if r, err := auth.Peek[exec.Report](e); err == nil { // verified when it was put
			a.Post(node.ReportKept{Command: r.Command, Node: r.Node, Status: r.Status})
		}
		return nil
	})
	if ctx.Err() == nil {
		a.complain("read the reports of a command", err)
	}
}

// isPaced reports whether a command spreads by grants.
func (a *Agent) isPaced(id fleet.UUID) bool {
	c, ok := a.replica.State().Command(id)
	return ok && c.Body.Pace.Limited
}
