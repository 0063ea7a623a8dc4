package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

func newWhyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "why NODE COMMAND", Short: "Show what a node decided about a command, and why", Args: exactly(2, "a NODE and a COMMAND's ID"),
		Long: `Show every decision of a node about a command, in order, with the node's own times: that it heard of it, whose signature
it verified, whether it is meant, which policy permits or refuses it, the grant it waited for, the ledger, each step, the
report. The node itself is asked; no quorum is needed where the ID is given in full.`,
		Example: `  muster why web07 0195
  muster why web07 0195 -o json`,
		ValidArgsFunction: a.completeNodes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.why(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) why(ctx context.Context, nodeText, commandText string) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return err
	}
	n, err := all.find(nodeText)
	if err != nil {
		return err
	}
	id, err := p.commandID(ctx, commandText)
	if err != nil {
		return err
	}
	decisions, err := p.client.Decisions(ctx, n.ID, p.requestAt(n.ID, node.ReadWhy, id))
	if err != nil {
		return err
	}
	if !a.forPeople() {
		return a.showOne(struct {
			Format    int              `json:"format"`
			Node      shape.Named      `json:"node"`
			Command   fleet.UUID       `json:"command"`
			Decisions []shape.Decision `json:"decisions"`
		}{shape.Format, shape.Named{ID: n.ID, Name: n.Name}, id, shape.OfDecisions(decisions)}, id.String(), nil)
	}
	if len(decisions) == 0 {
		a.say("%s decided nothing about %s: it has not heard of it", n.Name, id)
		return nil
	}
	for _, d := range decisions {
		fmt.Fprintln(a.stdout, a.tintedDecision(d))
	}
	return nil
}

func (a *app) tintedDecision(d exec.Decision) string {
	line := d.Line()
	if d.Hearsay() && a.colours(a.stdout) { // anybody can cause these
		return faint.on(line)
	}
	return line
}
