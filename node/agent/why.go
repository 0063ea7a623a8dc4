package agent

import (
	"context"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// answerDecisions tells what this node decided about a command, to whoever brings an operator's signed request.
func (a *Agent) answerDecisions(body []byte) ([]byte, error) {
	var signed auth.Envelope
	if err := wire.Unmarshal(body, &signed); err != nil {
		return nil, err
	}
	read, err := node.OpenNodeRead(a.record(), signed, a.self, node.ReadWhy, a.now())
	if err == nil && a.decisions == nil {
		err = fleet.Errorf(fleet.Unavailable, "%s keeps no log of its decisions", a.cfg.Name).Hinted("its agent's log says why it could not be opened")
	}
	if err != nil {
		return nil, err
	}
	all, err := a.decisions.Of(read.Arg)
	if err == nil && len(all) == 0 {
		err = fleet.Errorf(fleet.NotFound, "%s knows nothing of command %s: it never heard of it, or it was long ago", a.cfg.Name, read.Arg).
			Hinted("muster command show %s says whether %s is among its targets", read.Arg, a.cfg.Name)
	}
	return exec.EncodeDecisions(all), err
}

// Decisions asks a node what it decided about a command, in order. NotFound: it knows nothing of it.
func (a *Agent) Decisions(ctx context.Context, of fleet.ID, signed auth.Envelope) ([]exec.Decision, error) {
	kind, body, err := a.askRaw(ctx, of, askDecisions, wire.Marshal(signed))
	if err != nil {
		return nil, err
	}
	if kind != done {
		return nil, fleet.Errorf(fleet.Unavailable, "%s gave no answer", a.nameOf(of))
	}
	return exec.DecodeDecisions(body)
}
