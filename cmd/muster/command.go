package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

func newCommandCommand(a *app) *cobra.Command {
	return newNoun("command", "What was run, and what came of it",
		newCommandListCommand(a), newCommandShowCommand(a), newCommandWatchCommand(a), newCommandCancelCommand(a), newCommandRerunCommand(a))
}

func newCommandListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List commands, newest first", Args: noArgs,
		Example: `  muster command list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.takePen(cmd.Context())
			if err != nil {
				return err
			}
			answer, err := p.read(cmd.Context(), node.ReadCommands, fleet.UUID{})
			if err != nil {
				return err
			}
			out := shape.OfAnswer(answer).Commands
			for i := range out {
				out[i].Nodes = nil // muster command show has them
			}
			return commandListing(p.now()).show(a, out)
		},
	}
}

func commandListing(now time.Time) listing[shape.Command] {
	return listing[shape.Command]{
		columns: []column[shape.Command]{
			{head: "ID", cell: func(c shape.Command) string { return c.ID.String() }},
			{head: "WHEN", cell: func(c shape.Command) string { return ago(c.Committed, now) }},
			{head: "BY", cell: func(c shape.Command) string { return c.Operator }},
			{head: "NODES", cell: func(c shape.Command) string { return fmt.Sprint(c.Count) }},
			{head: "TARGET", cell: func(c shape.Command) string { return cut(c.Target, 40) }},
			{head: "STATE", wide: true, cell: commandState(now)},
			{head: "COMMAND", cell: func(c shape.Command) string { return cut(oneLine(c.Command().Body.Text()), 60) }},
			{head: "COMMENT", wide: true, cell: commandComment},
		},
		name: func(c shape.Command) string { return c.ID.String() },
		none: "no commands",
	}
}

func commandState(now time.Time) func(shape.Command) string {
	return func(c shape.Command) string {
		switch {
		case !c.Cancelled.IsZero():
			return "cancelled"
		case c.Rollout != nil && c.Rollout.Stopped != "":
			return "stopped (" + c.Rollout.Stopped + ")"
		case now.After(c.Expires):
			return "expired"
		}
		return "open"
	}
}

// commandComment says what a command is for: its own words, or what it belongs to.
func commandComment(c shape.Command) string {
	switch {
	case c.After != nil && c.After.Wave > 0:
		return fmt.Sprintf("gate of %s, behind wave %d", c.After.Command, c.After.Wave)
	case c.After != nil:
		return fmt.Sprintf("on stop of %s", c.After.Command)
	}
	return cut(oneLine(c.Comment), 60)
}

// sighted reads a command by its ID or the beginning of it.
func (a *app) sighted(ctx context.Context, text string) (*pen, *sight, error) {
	p, err := a.takePen(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.sight(ctx, all, text)
	return p, s, err
}

func (p *pen) commandID(ctx context.Context, text string) (fleet.UUID, error) {
	if id, err := fleet.ParseUUID(text); err == nil {
		return id, nil
	}
	answer, err := p.read(ctx, node.ReadCommands, fleet.UUID{})
	if err != nil {
		return fleet.UUID{}, err
	}
	var ids []fleet.UUID
	for _, c := range answer.Commands {
		ids = append(ids, c.ID)
	}
	return findUUID("command", text, ids)
}

const oneCommand = "one command's ID, or the beginning of it"

func sortedByName(outcomes []exec.Outcome, name func(fleet.ID) string) []exec.Outcome {
	sorted := slices.Clone(outcomes)
	slices.SortFunc(sorted, func(a, b exec.Outcome) int { return strings.Compare(name(a.Node), name(b.Node)) })
	return sorted
}

func newCommandWatchCommand(a *app) *cobra.Command {
	var how showing
	cmd := &cobra.Command{
		Use: "watch ID", Short: "Follow a command until its nodes have ended", Args: exactly(1, oneCommand),
		Long: "Follow a command until all its nodes that can be reached have ended. It exits as muster run does.",
		Example: `  muster command watch 0195
  muster command watch 0195 --diff`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := how.check(false); err != nil {
				return err
			}
			p, s, err := a.sighted(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.followToEnd(cmd.Context(), p, s, how)
		},
	}
	how.flags(cmd)
	return cmd
}

func newCommandCancelCommand(a *app) *cobra.Command {
	var nodes []string
	cmd := &cobra.Command{
		Use: "cancel ID", Short: "Stop a command everywhere, or on some nodes", Args: exactly(1, oneCommand),
		Long: `Stop a command everywhere: nodes that have not started never will, and where it runs everything it started is killed.
With --node only there; the others go on.`,
		Example: `  muster command cancel 0195
  muster command cancel 0195 --node web07 --node web08`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.cancelCommand(cmd.Context(), args[0], nodes) },
	}
	cmd.Flags().StringArrayVar(&nodes, "node", nil, "only on this node; may be repeated")
	a.completeNodeFlag(cmd, "node")
	return cmd
}

func (a *app) cancelCommand(ctx context.Context, text string, nodes []string) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	id, err := p.commandID(ctx, text)
	if err != nil {
		return err
	}
	info, err := p.command(ctx, id)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return err
	}
	ids, names, err := nodesOf(all, info, nodes)
	if err != nil {
		return err
	}
	if err := p.cancelNodes(ctx, id, ids, cancelLife(&info)); err != nil {
		return err
	}
	return a.showOne(struct {
		ID    fleet.UUID `json:"id"`
		Nodes []string   `json:"nodes,omitempty"` // missing: all
	}{id, names}, id.String(), []fact{
		{"cancelled", id.String()}, {"on", fleet.FoldNames(names)}, {"see", "muster command watch " + id.String()},
	})
}

// nodesOf finds nodes by name or ID; each must be one that the command is for.
func nodesOf(all roll, info node.CommandInfo, texts []string) (ids []fleet.ID, names []string, err error) {
	for _, text := range texts {
		n, err := all.find(text)
		if err != nil {
			return nil, nil, err
		}
		if !(exec.Order{Nodes: info.Nodes}).Has(n.ID) {
			return nil, nil, fleet.Errorf(fleet.NotFound, "command %s is not for %s", info.ID, n.Name).Hinted("muster command show %s", info.ID)
		}
		ids, names = append(ids, n.ID), append(names, n.Name)
	}
	return ids, names, nil
}
