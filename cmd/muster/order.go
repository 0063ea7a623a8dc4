package main

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// directLife is how long an order without the quorum is good for, at most (decided).
const directLife = 15 * time.Minute

// manner is how a command goes out and spreads.
type manner struct {
	mode     auth.Mode
	expires  time.Duration
	pace     exec.Pace
	gate     []work // none or one: run between waves
	onStop   []work // none or one: run where the command was, when it is stopped
	comment  string
	outputTo string
}

// signedOrder is an order with what its sender knows about it.
type signedOrder struct {
	exec.Order
	id   fleet.UUID
	body exec.Command
}

func (o signedOrder) expires() time.Time { return time.UnixMilli(o.body.Header.Expires) }

func (o signedOrder) entry() consensus.Entry {
	return consensus.PutCommand{Statement: o.Statement, Nodes: o.Nodes}
}

// info returns the command as servers will show it.
func (o signedOrder) info(who string, now time.Time) node.CommandInfo {
	return node.CommandInfo{ID: o.id, Body: o.body, Operator: who, Committed: now.UnixMilli(), Nodes: o.Nodes}
}

// bundle is a command with those that wait for it. These are put first, so that no wave can begin without its gate.
type bundle struct {
	before []signedOrder
	main   signedOrder
}

// signOrder signs one command, if it is well formed.
func (p *pen) signOrder(body exec.Command, ids []fleet.ID) (signedOrder, error) {
	if err := body.Check(); err != nil {
		return signedOrder{}, err
	}
	o := signedOrder{Order: exec.Order{Statement: p.sign(auth.ForCommand, body), Nodes: ids}, id: body.Header.ID, body: body}
	if len(o.Statement.Body) > exec.MaxCommand {
		return o, fleet.Errorf(fleet.Exhausted, "the command takes %d bytes; at most %d", len(o.Statement.Body), exec.MaxCommand).
			Hinted("put a long script on the hosts, or let the command fetch it")
	}
	return o, nil
}

// order signs w for the nodes that were chosen, and its gates and its on-stop command for the same nodes.
func (p *pen) order(target fleet.Target, w work, chosen []fleet.Member, m manner) (bundle, error) {
	ids := make([]fleet.ID, 0, len(chosen))
	for _, member := range chosen {
		ids = append(ids, member.ID)
	}
	ids = exec.SortIDs(ids)
	bodyOf := func(w work, pace exec.Pace, after exec.After) exec.Command {
		h := p.header(m.expires)
		h.Mode = m.mode
		return exec.Command{
			Header: h, Target: target.String(), Count: uint32(len(ids)), Set: exec.SetDigest(ids), Run: w.run, Documents: w.documents, Params: w.params,
			Pace: pace, After: after, Comment: m.comment, OutputTo: m.outputTo,
		}
	}
	main := bodyOf(w, m.pace, exec.After{})
	var bodies []exec.Command
	for _, g := range m.gate {
		for wave := range max(len(m.pace.Waves)-1, 0) {
			// The first node that fails a gate closes it.
			gate := bodyOf(g, exec.Pace{Limited: true}, exec.After{Command: main.Header.ID, Wave: uint32(wave) + 1})
			main.Pace.Gates = append(main.Pace.Gates, gate.Header.ID)
			bodies = append(bodies, gate)
		}
	}
	for _, s := range m.onStop {
		// One node's failure does not keep what is to be undone from the others.
		stop := bodyOf(s, exec.Pace{Limited: true, Errors: uint32(len(ids))}, exec.After{Command: main.Header.ID})
		main.Pace.OnStop = stop.Header.ID
		bodies = append(bodies, stop)
	}
	var out bundle
	for _, body := range bodies {
		o, err := p.signOrder(body, ids)
		if err != nil {
			return out, err
		}
		out.before = append(out.before, o)
	}
	var err error
	out.main, err = p.signOrder(main, ids)
	return out, err
}

// put brings a bundle to the fleet.
func (p *pen) put(ctx context.Context, b bundle) error {
	if b.main.body.Header.Mode == auth.Direct {
		return p.client.Direct(ctx, b.main.Order)
	}
	for _, o := range b.before {
		if _, err := propose(ctx, p.client, o.entry()); err != nil {
			return err
		}
	}
	if _, err := propose(ctx, p.client, b.main.entry()); err != nil {
		return doubtful(err, b.main.id)
	}
	return nil
}

// doubtful says, when nobody answered, that the command may have been taken all the same.
func doubtful(err error, id fleet.UUID) error {
	if fleet.KindOf(err) != fleet.Unavailable {
		return err
	}
	return fleet.Errorf(fleet.Unavailable, "%w; the command may have been taken all the same", err).
		Hinted("before you repeat it: muster command show %s", id)
}
