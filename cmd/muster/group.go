package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// mostLooks bounds the commands that group show reads to find each member's last one.
const mostLooks = 20

func newGroupCommand(a *app) *cobra.Command {
	return newNoun("group", "Saved targets: @NAME in a target",
		newGroupPutCommand(a), newGroupListCommand(a), newGroupShowCommand(a), newGroupDeleteCommand(a))
}

func newGroupPutCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "put NAME EXPR", Short: "Save a target under a name, or change it", Args: exactly(2, "a NAME and a target"),
		Long: `Save a target under a name. @NAME then stands for it in any target, in parentheses; who is in the group is asked anew
each time, when a command's set of nodes is frozen. Groups in EXPR are written out as they are now.`,
		Example: `  muster group put web 'tag.role=web and not web13'
  muster run --target '@web and tag.rack=a7' -- uptime`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.putGroup(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) putGroup(ctx context.Context, name, expr string) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	all, err := callRollWithGroups(ctx, p.client)
	if err != nil {
		return err
	}
	target, err := readTarget(all, expr)
	if err != nil {
		return err
	}
	change := auth.GroupChange{Header: p.header(0), Name: name, Target: target.String()}
	if err := change.Check(); err != nil {
		return err
	}
	if err := proposeAct(ctx, p.client, auth.ActGroup, p.sign(auth.ForGroup, change)); err != nil {
		return err
	}
	members := all.view.Select(target)
	return a.showOne(shape.Group{Name: name, Target: change.Target, By: p.who.Operator}, name, []fact{
		{"@" + name, change.Target}, {"now", count(len(members), "node")},
	})
}

func newGroupListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the groups", Args: noArgs,
		Example: `  muster group list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := callRoll(cmd.Context(), a.client())
			if err != nil {
				return err
			}
			groups, err := a.client().Groups(cmd.Context())
			if err != nil {
				return err
			}
			return groupListing(all, time.Now()).show(a, shape.OfGroups(groups))
		},
	}
}

func groupListing(all roll, now time.Time) listing[shape.Group] {
	return listing[shape.Group]{
		columns: []column[shape.Group]{
			{head: "NAME", cell: func(g shape.Group) string { return g.Name }},
			{head: "NODES", cell: func(g shape.Group) string {
				target, err := fleet.ParseTarget(g.Target)
				if err != nil {
					return "-"
				}
				return fmt.Sprint(len(all.view.Select(target)))
			}},
			{head: "TARGET", cell: func(g shape.Group) string { return g.Target }},
			{head: "BY", wide: true, cell: func(g shape.Group) string { return g.By }},
			{head: "CHANGED", wide: true, cell: func(g shape.Group) string { return ago(g.Changed, now) }},
		},
		name: func(g shape.Group) string { return g.Name },
		none: "no groups: muster group put NAME EXPR",
	}
}

// groupMember is a member of a group with the last command that was for it.
type groupMember struct {
	ID      fleet.ID     `json:"id"`
	Name    string       `json:"name"`
	Status  fleet.Status `json:"status"`
	Command *fleet.UUID  `json:"command"` // null: none is known
	Runs    string       `json:"runs,omitempty"`
	When    time.Time    `json:"when,omitzero"`
	By      string       `json:"by,omitempty"`
	Result  exec.Status  `json:"result,omitempty"` // empty: nobody was asked
	Exit    *int         `json:"exit_code,omitempty"`
}

func newGroupShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a group's members, and what each was last given to do", Args: exactly(1, "one group's NAME"),
		Example:           `  muster group show web`,
		ValidArgsFunction: a.completeGroups,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.showGroup(cmd.Context(), args[0]) },
	}
}

func (a *app) showGroup(ctx context.Context, name string) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	all, err := callRollWithGroups(ctx, p.client)
	if err != nil {
		return err
	}
	target, ok := all.group(name)
	if !ok {
		return noGroup(name)
	}
	answer, err := p.read(ctx, node.ReadCommands, fleet.UUID{})
	if err != nil {
		return err
	}
	members := membersOf(all.view.Select(target))
	p.lastActs(ctx, a, all, members, answer.Commands)
	out := struct {
		Format  int           `json:"format"`
		Name    string        `json:"name"`
		Target  string        `json:"target"`
		Members []groupMember `json:"members"`
	}{shape.Format, name, target.String(), members}
	if !a.forPeople() && a.flags.output != asNames {
		return a.showOne(out, name, nil)
	}
	if a.forPeople() {
		if err := a.showOne(nil, "", []fact{{"@" + name, target.String()}}); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	return memberListing(p.now()).show(a, members)
}

func noGroup(name string) error {
	return fleet.Errorf(fleet.NotFound, "no group @%s", name).Hinted("muster group list")
}

func membersOf(members []fleet.Member) []groupMember {
	out := make([]groupMember, 0, len(members))
	for _, m := range members {
		out = append(out, groupMember{ID: m.ID, Name: m.Name, Status: m.Status})
	}
	return out
}

// lastActs fills in what members were last given to do. commands are newest first; as many are read as it takes, within
// bounds.
func (p *pen) lastActs(ctx context.Context, a *app, all roll, members []groupMember, commands []node.CommandInfo) {
	left := len(members)
	for _, c := range commands[:min(len(commands), mostLooks)] {
		if left == 0 || ctx.Err() != nil {
			return
		}
		if !c.Body.After.IsZero() {
			continue // a gate tells less than what it was for
		}
		s, err := p.sight(ctx, all, c.ID.String())
		if err != nil || a.look(ctx, p, s) != nil {
			continue
		}
		left -= takeActs(members, *s.info, s.outcomes(p.now()))
	}
}

// takeActs notes a command as the last one of those members that it was for and that have none yet, and counts them.
func takeActs(members []groupMember, c node.CommandInfo, outcomes []exec.Outcome) (taken int) {
	byNode := map[fleet.ID]exec.Outcome{}
	for _, o := range outcomes {
		byNode[o.Node] = o
	}
	for i := range members {
		m := &members[i]
		o, is := byNode[m.ID]
		if !is || m.Command != nil {
			continue
		}
		taken++
		m.Command, m.Runs, m.When, m.By, m.Result = &c.ID, c.Body.Text(), shape.At(c.Committed), c.Operator, o.Status
		if exited(o.Status, o.Report.ExitCode, o.Report.Signal) {
			m.Exit = &o.Report.ExitCode
		}
	}
	return taken
}

func memberListing(now time.Time) listing[groupMember] {
	return listing[groupMember]{
		columns: []column[groupMember]{
			{head: "NODE", cell: func(m groupMember) string { return m.Name }},
			{head: "STATUS", cell: func(m groupMember) string { return string(m.Status) }},
			{head: "LAST COMMAND", cell: func(m groupMember) string { return cut(oneLine(cmp.Or(m.Runs, "-")), 40) }},
			{head: "WHEN", cell: func(m groupMember) string {
				if m.Command == nil {
					return "-"
				}
				return ago(m.When, now)
			}},
			{head: "CAME TO", cell: func(m groupMember) string {
				if m.Exit != nil {
					return fmt.Sprintf("%s (exit %d)", m.Result, *m.Exit)
				}
				return cmp.Or(string(m.Result), "-")
			}},
			{head: "BY", wide: true, cell: func(m groupMember) string { return m.By }},
			{head: "COMMAND ID", wide: true, cell: func(m groupMember) string {
				if m.Command == nil {
					return "-"
				}
				return m.Command.String()
			}},
		},
		name: func(m groupMember) string { return m.Name },
		none: "nobody is in it now",
	}
}

func newGroupDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Forget a group", Args: exactly(1, "one group's NAME"),
		Long:              "Forget a group. Commands that were sent to it keep the nodes that they were frozen for.",
		Example:           `  muster group delete web`,
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := a.takePen(ctx)
			if err != nil {
				return err
			}
			change := auth.GroupChange{Header: p.header(0), Name: args[0]}
			if err := change.Check(); err != nil {
				return err
			}
			if err := proposeAct(ctx, p.client, auth.ActGroup, p.sign(auth.ForGroup, change)); err != nil {
				return err
			}
			return a.showOne(shape.Group{Name: args[0], By: p.who.Operator}, args[0], []fact{{"deleted", "@" + args[0]}})
		},
	}
}

// groupNames returns the names of groups, as far as the agent tells them at once.
func (a *app) groupNames(cmd *cobra.Command) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	groups, _ := a.client().Groups(ctx) // nothing known: nothing offered
	var names []string
	for _, g := range groups {
		names = append(names, g.Name)
	}
	return names
}

// completeGroups offers the names of groups for the first argument.
func (a *app) completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.groupNames(cmd), cobra.ShellCompDirectiveNoFileComp
}
