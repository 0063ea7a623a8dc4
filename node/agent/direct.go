package agent

import (
	"context"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Direct gives an order to its nodes without the quorum, as far as gossip reaches. What it comes to is asked of each node:
// NodeReport.
func (a *Agent) Direct(ctx context.Context, o exec.Order) error {
	if err := node.MayDirect(o, a.record(), a.now()); err != nil {
		return err
	}
	select {
	case a.queue <- node.DirectOrder{Order: o}:
		return nil
	case <-a.over:
		return fleet.Errorf(fleet.Unavailable, "the agent is stopping")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// holdsDirect reports whether this server was told of an order for that node that no replica knows.
func (a *Agent) holdsDirect(command fleet.UUID, of fleet.ID) bool {
	a.mu.Lock()
	o, ok := a.orders.get(command)
	a.mu.Unlock()
	if !ok || !o.Has(of) {
		return false
	}
	cmd, err := auth.Peek[exec.Command](o.Statement)
	return err == nil && cmd.Header.Mode == auth.Direct
}

// NodeReport asks a node for its own newest report of a command, signed by it. signed is a node.Read of node.ReadReport
// for that node.
func (a *Agent) NodeReport(ctx context.Context, id fleet.ID, signed auth.Envelope) (auth.Envelope, error) {
	read, err := auth.Peek[node.Read](signed)
	if err != nil {
		return auth.Envelope{}, err
	}
	var answer auth.Envelope
	if err := a.ask(ctx, id, askNodeReport, signed, &answer); err != nil {
		return auth.Envelope{}, err
	}
	r, err := exec.OpenReport(a.record(), answer)
	if err == nil && (r.Node != id || r.Command != read.Arg) {
		err = fleet.Errorf(fleet.Denied, "%s answers with a report of something else", a.nameOf(id))
	}
	return answer, err
}

// answerNodeReport gives this node's own newest report of a command to an operator who may read.
func (a *Agent) answerNodeReport(ctx context.Context, body []byte) ([]byte, error) {
	var signed auth.Envelope
	if err := wire.Unmarshal(body, &signed); err != nil {
		return nil, err
	}
	read, err := node.OpenNodeRead(a.record(), signed, a.self, node.ReadReport, a.now())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ticket, answer := a.words.open()
	if ticket == 0 {
		return nil, fleet.Errorf(fleet.Exhausted, "too many ask this node at once")
	}
	select {
	case a.queue <- node.ReportAsked{Command: read.Arg, Ticket: ticket}:
	default:
		a.words.answer(ticket, nil)
	}
	reports, ok := a.words.wait(ctx, ticket, answer)
	if !ok || len(reports) == 0 {
		return nil, fleet.Errorf(fleet.NotFound, "%s has nothing to say of command %s", a.cfg.Name, read.Arg)
	}
	return wire.Marshal(a.signer.Sign(auth.ForReport, a.cfg.Fleet, reports[0])), nil
}
