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
		newCommandListCommand(a), newCommandShowCommand(a), newCommandWatchCommand(a), newCommandCancelCommand(a))
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
			{head: "COMMAND", cell: func(c shape.Command) string { return cut(oneLine(c.Run.Run().Text()), 60) }},
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
		case now.After(c.Expires):
			return "expired"
		}
		return "open"
	}
}

// sighted reads a command by its ID or the beginning of it.
func (a *app) sighted(ctx context.Context, text string) (*pen, *sight, error) {
	p, err := a.takePen(ctx)
	if err != nil {
		return nil, nil, err
	}
	id, err := p.commandID(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	answer, err := p.read(ctx, node.ReadCommand, id)
	if err == nil && len(answer.Commands) != 1 {
		err = fleet.Errorf(fleet.NotFound, "no command %s", id).Hinted("muster command list")
	}
	if err != nil {
		return nil, nil, err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return nil, nil, err
	}
	info := answer.Commands[0]
	s := newSight(id, info.Nodes, time.UnixMilli(info.Body.Header.Expires), all)
	return p, s, nil
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

func newCommandShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a command, and what it came to on every node", Args: exactly(1, oneCommand),
		Example: `  muster command show 0195
  muster command show 0195 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, s, err := a.sighted(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := a.look(cmd.Context(), p, s); err != nil {
				return err
			}
			return a.showCommand(p, s)
		},
	}
}

func (a *app) showCommand(p *pen, s *sight) error {
	outcomes := s.outcomes(p.now())
	if !a.forPeople() {
		view := a.newProgress(s)
		view.show(outcomes, exec.Count(outcomes))
		view.clear()
		return a.showResult(s, outcomes, time.Time{})
	}
	c := shape.OfCommand(*s.info)
	err := a.showOne(nil, "", []fact{
		{"command", c.ID.String()}, {"runs", c.Run.Run().Text()}, {"as", c.Run.User}, {"in", c.Run.Dir},
		{"by", c.Operator}, {"target", c.Target}, {"nodes", fmt.Sprint(c.Count)}, {"committed", when(c.Committed)},
		{"expires", when(c.Expires)}, {"cancelled", strings.TrimPrefix(when(c.Cancelled), "-")}, {"act", fmt.Sprint(c.Act)},
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	var rows []nodeResult
	for _, o := range sortedByName(outcomes, s.roll.name) {
		rows = append(rows, resultOf(o, s.roll.name))
	}
	nodeResults().table(a, rows)
	fmt.Fprintln(a.stdout)
	a.printGroups(exec.Fold(outcomes, s.roll.name))
	a.say("%s", tallyLine(exec.Count(outcomes)))
	return nil
}

func sortedByName(outcomes []exec.Outcome, name func(fleet.ID) string) []exec.Outcome {
	sorted := slices.Clone(outcomes)
	slices.SortFunc(sorted, func(a, b exec.Outcome) int { return strings.Compare(name(a.Node), name(b.Node)) })
	return sorted
}

func newCommandWatchCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Follow a command until its nodes have ended", Args: exactly(1, oneCommand),
		Long:    "Follow a command until all its nodes that can be reached have ended. It exits as muster run does.",
		Example: `  muster command watch 0195`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, s, err := a.sighted(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.followToEnd(cmd.Context(), p, s)
		},
	}
}

func newCommandCancelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel ID", Short: "Stop a command everywhere", Args: exactly(1, oneCommand),
		Long:    "Stop a command everywhere: nodes that have not started never will, and where it runs everything it started is killed.",
		Example: `  muster command cancel 0195`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := a.takePen(ctx)
			if err != nil {
				return err
			}
			id, err := p.commandID(ctx, args[0])
			if err != nil {
				return err
			}
			answer, err := p.read(ctx, node.ReadCommand, id)
			if err == nil && len(answer.Commands) != 1 {
				err = fleet.Errorf(fleet.NotFound, "no command %s", id).Hinted("muster command list")
			}
			if err != nil {
				return err
			}
			if err := p.cancel(ctx, id, cancelLife(&answer.Commands[0])); err != nil {
				return err
			}
			return a.showOne(struct {
				ID fleet.UUID `json:"id"`
			}{id}, id.String(), []fact{{"cancelled", id.String()}, {"see", "muster command watch " + id.String()}})
		},
	}
}
