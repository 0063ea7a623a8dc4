package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
)

func newNodeDrainCommand(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Have a node start nothing new", Args: exactly(1, "a NODE"),
		Long: `Have a node start nothing new, until muster node undrain: for work on the host, or before it goes. What runs there goes on.

Commands leave the node out and say so, unless they are given with --include-drained; sessions are refused unless they say what
for (--reason). A drained node gives up the lead, and its vote as soon as another server can take it; it still hears everything,
and its tags, keys and what it enforces stay.

It is the tag ` + fleet.DrainTag + ` whose value is the reason, signed by you: muster node list --target 'tag.` + fleet.DrainTag + `=*' shows who is
drained.`,
		Example: `  muster node drain web07 --reason 'memory is replaced'
  muster node undrain web07`,
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				reason = "true"
			}
			if err := fleet.CheckTags(map[string]string{fleet.DrainTag: reason}); err != nil {
				return fleet.Errorf(fleet.Invalid, "--reason: at most %d bytes that can be seen", fleet.MaxTagValue)
			}
			return a.tagNode(cmd.Context(), args[0], []string{fleet.DrainTag + "=" + reason}, false, false)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what whoever is refused is told")
	return cmd
}

func newNodeUndrainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "undrain NODE", Short: "Take back muster node drain", Args: exactly(1, "a NODE"),
		Long:              `Take back muster node drain. What the node refused meanwhile stays refused: give it again (muster command rerun).`,
		Example:           `  muster node undrain web07`,
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tagNode(cmd.Context(), args[0], []string{fleet.DrainTag + "-"}, false, false)
		},
	}
}

// leaveDrained leaves drained nodes out of a selection, and says so; included, they are meant. What is signed says either, so that
// each node decides the same by its own tags when it acts. A target that speaks of drained nodes itself has the last word.
func (a *app) leaveDrained(s selection, include bool) (selection, error) {
	drained := func(m fleet.Member) bool { return fleet.DrainOf(m.Tags) != "" }
	if fleet.MeansDrained(s.target.String()) || !slices.ContainsFunc(s.chosen, drained) {
		return s, nil
	}
	if include {
		return s.asking(s.target.WithDrained())
	}
	var left []string
	for _, m := range s.chosen {
		if drained(m) {
			left = append(left, m.Name)
		}
	}
	s.chosen = slices.DeleteFunc(slices.Clone(s.chosen), drained)
	if len(s.chosen) == 0 {
		return s, fleet.Errorf(fleet.NotFound, "%s drained, and no other node is meant", isAre(left)).
			Hinted("--include-drained, or muster node undrain NODE")
	}
	a.say("%s drained and left out (--include-drained)", isAre(left))
	return s.asking(s.target.WithoutDrained())
}

// asking returns the selection with another target, which every node of it must match.
func (s selection) asking(target fleet.Target) (selection, error) {
	if _, err := fleet.ParseTarget(target.String()); err != nil {
		return s, fleet.Errorf(fleet.Exhausted, "with what it says of drained nodes: %w", err)
	}
	s.target = target
	return s, nil
}

func isAre(names []string) string {
	verb := "is"
	if len(names) > 1 {
		verb = "are"
	}
	return fmt.Sprintf("%s %s", fleet.FoldNames(names), verb)
}
