package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// smallFleet is the number of nodes below which tokens let nodes be servers unless told otherwise (decided).
const smallFleet = 20

func newTokenCommand(a *app) *cobra.Command {
	return newNoun("token", "Join strings: what a host needs to enter the fleet",
		newTokenCreateCommand(a), newTokenListCommand(a), newTokenDeleteCommand(a))
}

type tokenScope struct {
	uses    uint32
	expires time.Duration
	tags    []string
	pattern string
	server  string
	replace string
	yes     bool
}

func newTokenCreateCommand(a *app) *cobra.Command {
	var scope tokenScope
	cmd := &cobra.Command{
		Use: "create", Short: "Make a join string", Args: noArgs,
		Long: `Make a join string. It is a secret: whoever has it can enter the fleet, as often and as long as it says.

--server=auto lets the nodes hold the fleet's state while the fleet is below 20 nodes.

--replace NAME is for a host that was reinstalled, or whose key shall be used no more: it is good for one host, which takes the
name, the tags and the rights of that node. The old node is removed in the moment in which the new one enrols, with its key for
good; orders that it has not run are not for the new one. A node that is online is replaced with --yes only.`,
		Example: `  muster token create
  muster token create --uses 50 --expires 24h --tag role=web --name-pattern 'web*'
  muster token create --replace web07 > join    # on the new host: muster join --join-file join --name web07`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := scope.check(cmd); err != nil {
				return err
			}
			return a.createToken(cmd.Context(), scope)
		},
	}
	f := cmd.Flags()
	f.Uint32Var(&scope.uses, "uses", 1, "how many nodes may enter with it")
	f.DurationVar(&scope.expires, "expires", time.Hour, "how long it is good for")
	f.StringArrayVar(&scope.tags, "tag", nil, "tag K=V that every such node gets; may be repeated")
	f.StringVar(&scope.pattern, "name-pattern", "", "names that nodes may take, with * and ?")
	f.StringVar(&scope.server, "server", "auto", "whether nodes may hold the fleet's state: auto, yes or no")
	f.StringVar(&scope.replace, "replace", "", "a NODE whose name, tags and rights pass to the new one")
	f.BoolVar(&scope.yes, "yes", false, "also replace a node that is online")
	_ = cmd.RegisterFlagCompletionFunc("replace", func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return a.completeNodes(cmd, nil, begun)
	})
	_ = cmd.RegisterFlagCompletionFunc("server", cobra.FixedCompletions([]string{"auto", "yes", "no"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) createToken(ctx context.Context, scope tokenScope) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return err
	}
	server, err := mayServe(scope.server, all.view.Len())
	if err == nil && scope.replace != "" {
		scope.replace, server, err = a.mayReplace(all, scope)
	}
	if err != nil {
		return err
	}
	tags, err := readTags(scope.tags)
	if err != nil {
		return err
	}
	seed := newSeed()
	token := auth.Token{
		Header: p.header(scope.expires), Join: ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey), Uses: scope.uses,
		Tags: tags, Pattern: scope.pattern, Server: server, Replace: scope.replace,
	}
	if err := token.Check(); err != nil {
		return err
	}
	if _, err := propose(ctx, p.client, consensus.PutToken{Statement: p.sign(auth.ForToken, token)}); err != nil {
		return err
	}
	join := auth.JoinString{
		Seed: seed, Token: token.Header.ID, Fleet: p.status.Fleet, Head: p.status.CharterHead, Addrs: joinAddrs(slices.Collect(all.view.All())),
	}
	return a.showToken(token, join)
}

// check refuses what a token that replaces a node cannot say: the old node's name, tags and rights are what it gives.
func (scope tokenScope) check(cmd *cobra.Command) error {
	if scope.replace == "" {
		return nil
	}
	for _, flag := range []string{"tag", "name-pattern", "server", "uses"} {
		if cmd.Flags().Changed(flag) {
			return fleet.Errorf(fleet.Invalid, "--%s does not go with --replace: the new host takes what the old node has", flag).
				Hinted("leave it out, and change the new one afterwards: muster node tag")
		}
	}
	return nil
}

// mayReplace returns the name of the node that is replaced, which must be there and not at work, and whether it may be a
// server.
func (a *app) mayReplace(all roll, scope tokenScope) (name string, server bool, err error) {
	old, err := all.find(scope.replace)
	if err != nil {
		return "", false, err
	}
	if old.Status == fleet.Online {
		err = a.confirm(scope.yes, "%s is online: whoever joins with this string takes its place, and it is removed for good. Go on?", old.Name)
	}
	return old.Name, old.Server, err
}

func (a *app) showToken(token auth.Token, join auth.JoinString) error {
	out := struct {
		Format  int        `json:"format"`
		ID      fleet.UUID `json:"id"`
		Join    string     `json:"join"`
		Expires time.Time  `json:"expires"`
		Uses    uint32     `json:"uses"`
		Server  bool       `json:"server"`
	}{shape.Format, token.Header.ID, join.String(), shape.At(token.Header.Expires), token.Uses, token.Server}
	if !a.forPeople() {
		return a.showOne(out, token.Header.ID.String(), nil)
	}
	if token.Replace == "" {
		a.say("For %s until %s; whoever has it can enter. On the new host: muster join JOIN-STRING", count(int(token.Uses), "node"), when(out.Expires))
	} else {
		a.say("For the host that takes the place of %s, until %s; whoever has it can. On the new host: muster join JOIN-STRING --name %s",
			token.Replace, when(out.Expires), token.Replace)
	}
	if len(join.Addrs) == 0 {
		a.say("! no address of a node is known: give one there with --address HOST:PORT")
	}
	_, err := fmt.Fprintln(a.stdout, join)
	return err
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func mayServe(flag string, nodes int) (bool, error) {
	switch flag {
	case "auto":
		return nodes < smallFleet, nil
	case "yes", "true":
		return true, nil
	case "no", "false":
		return false, nil
	}
	return false, fleet.Errorf(fleet.Invalid, "--server %s: it is auto, yes or no", flag)
}

func readTags(pairs []string) (map[string]string, error) {
	tags := map[string]string{}
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fleet.Errorf(fleet.Invalid, "--tag %q is not K=V", pair)
		}
		tags[k] = v
	}
	return tags, fleet.CheckTags(tags)
}

// joinAddrs chooses whom a joiner asks: servers first, then others that are online; of each node one address before any
// node's second.
func joinAddrs(members []fleet.Member) []string {
	members = slices.DeleteFunc(members, func(m fleet.Member) bool { return m.Status != fleet.Online })
	slices.SortStableFunc(members, func(a, b fleet.Member) int { return serves(b) - serves(a) })
	var out []string
	for round, more := 0, true; more; round++ {
		more = false
		for _, m := range members {
			if round >= len(m.Addrs) || len(out) >= auth.MaxJoinAddresses {
				continue
			}
			more = true
			if addr := m.Addrs[round].String(); !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
	}
	return out
}

// serves ranks a member by what it holds: a joiner is let in by voters.
func serves(m fleet.Member) int {
	switch m.Role {
	case fleet.Lead, fleet.Voter:
		return 2
	case fleet.Spare:
		return 1
	case fleet.Plain:
		return 0
	}
	return 0
}

func newTokenListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: noArgs,
		Example: `  muster token list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.takePen(cmd.Context())
			if err != nil {
				return err
			}
			answer, err := p.read(cmd.Context(), node.ReadTokens, fleet.UUID{})
			if err != nil {
				return err
			}
			return tokenListing().show(a, shape.OfAnswer(answer).Tokens)
		},
	}
}

func tokenListing() listing[shape.Token] {
	return listing[shape.Token]{
		columns: []column[shape.Token]{
			{head: "ID", cell: func(t shape.Token) string { return t.ID.String() }},
			{head: "USED", cell: func(t shape.Token) string { return fmt.Sprintf("%d of %d", t.Used, t.Uses) }},
			{head: "EXPIRES", cell: func(t shape.Token) string { return when(t.Expires) }},
			{head: "BY", cell: func(t shape.Token) string { return t.Operator }},
			{head: "SERVER", cell: func(t shape.Token) string {
				if t.Server {
					return "yes"
				}
				return "no"
			}},
			{head: "NAMES", cell: func(t shape.Token) string { return t.Pattern }},
			{head: "TAGS", cell: func(t shape.Token) string { return tagText(t.Tags) }},
		},
		name: func(t shape.Token) string { return t.ID.String() },
		none: "no tokens",
	}
}

func newTokenDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Take a token back", Args: exactly(1, "one token's ID, or the beginning of it"),
		Long:    "Take a token back. Nodes that have entered with it stay.",
		Example: `  muster token delete 0b7e`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := a.takePen(ctx)
			if err != nil {
				return err
			}
			answer, err := p.read(ctx, node.ReadTokens, fleet.UUID{})
			if err != nil {
				return err
			}
			var ids []fleet.UUID
			for _, t := range answer.Tokens {
				ids = append(ids, t.ID)
			}
			id, err := findUUID("token", args[0], ids)
			if err != nil {
				return err
			}
			statement := p.sign(auth.ForTokenDelete, auth.DeleteToken{Header: p.header(statementLife), Token: id})
			if _, err := propose(ctx, p.client, consensus.DeleteToken{Statement: statement}); err != nil {
				return err
			}
			return a.showOne(struct {
				ID fleet.UUID `json:"id"`
			}{id}, id.String(), []fact{{"taken back", id.String()}})
		},
	}
}

// statementLife is how long a statement waits to be taken, where it is not the operator who says so.
const statementLife = 10 * time.Minute

// findUUID returns the one ID that text is or begins.
func findUUID(what, text string, ids []fleet.UUID) (fleet.UUID, error) {
	if id, err := fleet.ParseUUID(text); err == nil {
		return id, nil
	}
	var found []fleet.UUID
	for _, id := range ids {
		if text != "" && strings.HasPrefix(id.String(), strings.ToLower(text)) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return fleet.UUID{}, fleet.Errorf(fleet.NotFound, "no %s %q", what, text).Hinted("muster %s list", what)
	}
	return fleet.UUID{}, fleet.Errorf(fleet.Invalid, "%q begins the IDs of %d %ss", text, len(found), what).Hinted("give more of it")
}
