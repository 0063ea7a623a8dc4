package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

func newQuorumCommand(a *app) *cobra.Command {
	return newNoun("quorum", "The servers that keep what must be agreed", newQuorumStatusCommand(a))
}

func newQuorumStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show leader, voters and spares, and what would stop writes", Args: noArgs,
		Long: "Show leader, voters and spares, and what would stop writes. -o wide and -o json add what this host's own replica has\n" +
			"come to: replicas with the same act have the same digest.",
		Example: `  muster quorum status
  muster quorum status -o wide
  muster quorum status -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := a.client().Quorum(cmd.Context())
			if err != nil {
				return err
			}
			if !a.forPeople() && a.flags.output != asNames {
				return a.showOne(shape.OfQuorum(q), "", nil)
			}
			if err := quorumListing().show(a, quorumRows(q)); err != nil {
				return err
			}
			if a.flags.output == asWide && !q.Replica.Digest.IsZero() {
				fmt.Fprintf(a.stdout, "\nthe replica here is at act %d, digest %s\n", q.Replica.Act, q.Replica.Digest)
			}
			if q.Danger != "" {
				a.say("! %s", q.Danger)
			}
			for _, line := range levelLines(q.Level) {
				a.say("%s", line)
			}
			if text := barredText(q.Outbound); text != "" {
				a.say("%s", text)
			}
			return nil
		},
	}
}

// barredText says why some that may keep the state do not.
func barredText(outbound []node.ServerStatus) string {
	if len(outbound) == 0 {
		return ""
	}
	var names []string
	for _, o := range outbound {
		names = append(names, o.Name)
	}
	return "never a voter or spare, for nobody can dial it (outbound-only): " + fleet.FoldNames(names)
}

type quorumRow struct {
	node.ServerStatus
	role string
}

func quorumRows(q node.QuorumStatus) []quorumRow {
	var rows []quorumRow
	for _, v := range q.Voters {
		role := "voter"
		if v.ID == q.Leader {
			role = "leader"
		}
		rows = append(rows, quorumRow{v, role})
	}
	for _, s := range q.Spares {
		rows = append(rows, quorumRow{s, "spare"})
	}
	return rows
}

func quorumListing() listing[quorumRow] {
	state := func(r quorumRow) string {
		if r.Online {
			return "Online"
		}
		return "ConnectionLost"
	}
	return listing[quorumRow]{
		columns: []column[quorumRow]{
			{head: "NAME", cell: func(r quorumRow) string { return r.Name }},
			{head: "ROLE", cell: func(r quorumRow) string { return r.role }},
			{head: "STATUS", cell: state, tint: func(r quorumRow) tint {
				if r.Online {
					return green
				}
				return red
			}},
			{head: "ID", wide: true, cell: func(r quorumRow) string { return r.ID.String() }},
		},
		name: func(r quorumRow) string { return r.Name },
		none: "no quorum is known here",
	}
}

// quorumLine says in a few words who keeps the state.
func quorumLine(q node.QuorumStatus) string {
	leader := "no leader known"
	for _, v := range q.Voters {
		if v.ID == q.Leader {
			leader = "leader " + cmp.Or(v.Name, v.ID.String())
		}
	}
	return fmt.Sprintf("%s, voters %d, spares %d, term %d", leader, len(q.Voters), len(q.Spares), q.Term)
}
