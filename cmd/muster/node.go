package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/metrics"
)

func newNodeCommand(a *app) *cobra.Command {
	return newNoun("node", "The hosts of the fleet",
		newNodeListCommand(a), newNodeShowCommand(a), newNodeTagCommand(a), newNodeDrainCommand(a), newNodeUndrainCommand(a), newNodeLeaveCommand(a), newNodeDeleteCommand(a))
}

// roll is the fleet's nodes with what one needs to sign about them.
type roll struct {
	view   fleet.View
	nodes  map[fleet.ID]api.Node
	groups map[string]string // saved targets by name; nil where nobody asked
}

func callRoll(ctx context.Context, c *api.Client) (roll, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return roll{}, err
	}
	return newRoll(nodes), nil
}

// callRollWithGroups is callRoll for whoever reads a target.
func callRollWithGroups(ctx context.Context, c *api.Client) (roll, error) {
	all, err := callRoll(ctx, c)
	if err != nil {
		return all, err
	}
	groups, err := c.Groups(ctx)
	all.groups = map[string]string{}
	for _, g := range groups {
		all.groups[g.Name] = g.Target
	}
	return all, err
}

// group returns a saved group's target.
func (r roll) group(name string) (fleet.Target, bool) {
	text, ok := r.groups[name]
	if !ok {
		return fleet.Target{}, false
	}
	target, err := fleet.ParseTarget(text)
	return target, err == nil
}

func newRoll(nodes []api.Node) roll {
	r := roll{nodes: make(map[fleet.ID]api.Node, len(nodes))}
	members := make([]fleet.Member, 0, len(nodes))
	for _, n := range nodes {
		members = append(members, n.Member)
		r.nodes[n.ID] = n
	}
	r.view = fleet.NewView(members)
	return r
}

// name returns a node's name, or its ID when it is no longer there.
func (r roll) name(id fleet.ID) string {
	if n, ok := r.nodes[id]; ok {
		return n.Name
	}
	return id.String()
}

func (r roll) online(id fleet.ID) bool { return r.nodes[id].Status == fleet.Online }

func (r roll) find(text string) (api.Node, error) {
	m, err := r.view.Find(text)
	return r.nodes[m.ID], err
}

func newNodeListCommand(a *app) *cobra.Command {
	var expr string
	var port uint16
	cmd := &cobra.Command{
		Use: "list", Short: "List the nodes", Args: noArgs,
		Long: `List the nodes of the fleet, also those that are lost or have left.

-o ansible prints a dynamic inventory for Ansible: a group for each tag (tag_role_web), status and operating system.
-o file_sd prints targets for Prometheus, with tags as labels; --port says what is scraped there.`,
		Example: `  muster node list
  muster node list --target 'tag.role=web and not web13' -o name
  muster node list -o file_sd --port 9100 > nodes.json`,
		Annotations: map[string]string{hasForms: asAnsible + "," + asFileSD},
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := callRollWithGroups(cmd.Context(), a.client())
			if err != nil {
				return err
			}
			target := fleet.All()
			if expr != "" {
				if target, err = readTarget(all, expr); err != nil {
					return err
				}
			}
			var out []shape.Node
			for _, m := range all.view.Select(target) {
				out = append(out, shape.OfNode(m, all.nodes[m.ID].Seq))
			}
			if done, err := a.showNodes(out, port); done {
				return err
			}
			return nodeListing(time.Now(), all.name).withNotes(out).show(a, out)
		},
	}
	cmd.Flags().StringVar(&expr, "target", "", "only the nodes that this target selects")
	cmd.Flags().Uint16Var(&port, "port", metrics.Port, "with -o file_sd: the port that is scraped; by default where agents serve their own metrics")
	a.completeTargets(cmd)
	return cmd
}

func nodeListing(now time.Time, name func(fleet.ID) string) nodeList {
	return nodeList{listing[shape.Node]{
		columns: []column[shape.Node]{
			{head: "NAME", cell: func(n shape.Node) string { return n.Name }},
			{head: "STATUS", cell: func(n shape.Node) string { return string(n.Status) }, tint: statusTint},
			{head: "ROLE", cell: func(n shape.Node) string { return string(n.Role) }},
			{head: "ADDRESS", cell: func(n shape.Node) string { return whereText(n, name) }},
			{head: "OS", cell: func(n shape.Node) string { return strings.TrimSpace(n.OS + " " + n.OSVersion) }},
			{head: "ARCH", wide: true, cell: func(n shape.Node) string { return n.Arch }},
			{head: "VERSION", wide: true, cell: func(n shape.Node) string { return n.Version }},
			{head: "LAST SEEN", wide: true, cell: func(n shape.Node) string { return ago(n.LastSeen, now) }},
			{head: "TAGS", cell: func(n shape.Node) string { return tagText(without(n.Tags, fleet.DrainTag)) }},
			{head: "ID", wide: true, cell: func(n shape.Node) string { return n.ID.String() }},
		},
		name: func(n shape.Node) string { return n.Name },
		none: "no nodes",
	}}
}

// nodeList is how nodes are listed.
type nodeList struct{ listing[shape.Node] }

// withNotes adds what keeps nodes from work, by their own word or an operator's, where there is such a node.
func (l nodeList) withNotes(nodes []shape.Node) listing[shape.Node] {
	if slices.ContainsFunc(nodes, func(n shape.Node) bool { return noteText(n) != "" }) {
		l.columns = append(l.columns, column[shape.Node]{head: "NOTES", cell: noteText})
	}
	return l.listing
}

func without(tags map[string]string, key string) map[string]string {
	tags = maps.Clone(tags)
	delete(tags, key)
	return tags
}

func noteText(n shape.Node) string {
	var notes []string
	for _, note := range []string{fleet.DrainNote(n.Tags), n.Plight} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return strings.Join(notes, "; ")
}

// whereText says where a node is: its first address, or, of an outbound-only one, through whom it is reached.
func whereText(n shape.Node, name func(fleet.ID) string) string {
	if len(n.Via) == 0 {
		return n.Address
	}
	return "via " + viaText(n.Via, name)
}

func viaText(via []fleet.ID, name func(fleet.ID) string) string {
	names := make([]string, 0, len(via))
	for _, id := range via {
		names = append(names, name(id))
	}
	return strings.Join(names, ", ")
}

// outboundText says that nobody can dial a node, and who can reach it; nothing of others.
func outboundText(via []fleet.ID, name func(fleet.ID) string) string {
	if len(via) == 0 {
		return ""
	}
	return "reached through " + viaText(via, name) + "; nobody can dial it"
}

func statusTint(n shape.Node) tint {
	switch n.Status {
	case fleet.Online:
		return green
	case fleet.ConnectionLost:
		return red
	case fleet.Left:
		return faint
	}
	return plain
}

func newNodeShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NODE", Short: "Show one node", Args: exactly(1, "one NODE: a name, an ID or the beginning of one"),
		Example:           `  muster node show web07`,
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := callRoll(cmd.Context(), a.client())
			if err != nil {
				return err
			}
			n, err := all.find(args[0])
			if err != nil {
				return err
			}
			out := shape.OfNode(n.Member, n.Seq)
			return a.showOne(out, out.Name, []fact{
				{"name", out.Name}, {"id", out.ID.String()}, {"status", string(out.Status)},
				{"last seen", ago(out.LastSeen, time.Now())}, {"addresses", strings.Join(out.Addresses, ", ")},
				{"does not work", out.Plight}, {"outbound-only", outboundText(out.Via, all.name)},
				{"role", string(out.Role)}, {"may be server", strconv.FormatBool(out.Server)}, {"tags", tagText(out.Tags)},
				{"os", strings.TrimSpace(out.OS + " " + out.OSVersion)}, {"arch", out.Arch}, {"version", out.Version}, {"boot", out.BootID},
			})
		},
	}
}

func newNodeTagCommand(a *app) *cobra.Command {
	var server, noServer bool
	cmd := &cobra.Command{
		Use: "tag NODE [K=V]… [K-]…", Short: "Set and drop a node's tags",
		Long: `Set tags (K=V) and drop tags (K-) of a node. Tags are signed by you; targets and policy go by them.

--server lets the node hold the fleet's state: grant it only to hosts that you trust with that. --no-server takes it back.`,
		Example: `  muster node tag web07 role=web rack=a7
  muster node tag web07 rack-
  muster node tag db01 --server`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || (len(args) == 1 && !server && !noServer) {
				return lacks(cmd, "a NODE and what to change: K=V, K-, --server or --no-server")
			}
			return nil
		},
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if server && noServer {
				return fleet.Errorf(fleet.Invalid, "--server and --no-server at once")
			}
			return a.tagNode(cmd.Context(), args[0], args[1:], server, noServer)
		},
	}
	cmd.Flags().BoolVar(&server, "server", false, "the node may hold the fleet's state")
	cmd.Flags().BoolVar(&noServer, "no-server", false, "the node may not hold the fleet's state")
	return cmd
}

func (a *app) tagNode(ctx context.Context, text string, changes []string, server, noServer bool) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return err
	}
	n, err := all.find(text)
	if err != nil {
		return err
	}
	tags, err := changeTags(n.Tags, changes)
	if err != nil {
		return err
	}
	statement := p.sign(auth.ForNodeTags, auth.NodeTags{
		Header: p.header(0), Node: n.ID, Seq: n.Seq + 1, Tags: tags, Server: (n.Server || server) && !noServer,
	})
	if err := proposeAct(ctx, p.client, auth.ActNodeTags, statement); err != nil {
		return err
	}
	n.Tags, n.Seq, n.Server = tags, n.Seq+1, (n.Server || server) && !noServer
	return a.showOne(shape.OfNode(n.Member, n.Seq), n.Name, []fact{{n.Name, cmp.Or(tagText(tags), "no tags")}})
}

// changeTags returns tags with K=V set and K- dropped, in the order given.
func changeTags(tags map[string]string, changes []string) (map[string]string, error) {
	next := maps.Clone(tags)
	if next == nil {
		next = map[string]string{}
	}
	for _, change := range changes {
		if k, v, ok := strings.Cut(change, "="); ok {
			next[k] = v
			continue
		}
		k, ok := strings.CutSuffix(change, "-")
		if !ok || k == "" {
			return nil, fleet.Errorf(fleet.Invalid, "%q neither sets a tag (K=V) nor drops one (K-)", change)
		}
		if _, there := next[k]; !there {
			return nil, fleet.Errorf(fleet.NotFound, "there is no tag %q to drop", k)
		}
		delete(next, k)
	}
	return next, fleet.CheckTags(next)
}

func newNodeDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delete NODE", Short: "Remove a node from the fleet for good", Args: exactly(1, "one NODE: a name, an ID or the beginning of one"),
		Long:              "Remove a node from the fleet for good: its key never comes back, and the fleet's gossip key changes.",
		Example:           `  muster node delete web07`,
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := a.takePen(ctx)
			if err != nil {
				return err
			}
			all, err := callRoll(ctx, p.client)
			if err != nil {
				return err
			}
			n, err := all.find(args[0])
			if err != nil {
				return err
			}
			statement := p.sign(auth.ForNodeRemove, auth.NodeRemove{Header: p.header(0), Node: n.ID, Seq: n.Seq + 1})
			if err := proposeAct(ctx, p.client, auth.ActNodeRemove, statement); err != nil {
				return err
			}
			return a.showOne(shape.Named{ID: n.ID, Name: n.Name}, n.Name, []fact{{"removed", n.Name + "  " + n.ID.String()}})
		},
	}
}
