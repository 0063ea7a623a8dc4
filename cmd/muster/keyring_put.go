package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func newKeyringPutCommand(a *app) *cobra.Command {
	var expr string
	cmd := &cobra.Command{
		Use: "put NAME --target EXPR", Short: "Make a keyring, or change whom it follows", Args: exactly(1, "one keyring's NAME"),
		Long: `Make a keyring: a key that the nodes of a target share, and nobody else. The target is over signed tags, and who is in it
follows them from then on; nodes that are named are written as their IDs, for a name is what a host calls itself. The key is made here, put in escrow for you and for recovery, and handed over to members that
are up; the others get it from them.

For a keyring that is there, --target is its new target. Whoever is not in it any more makes its members make a new key.`,
		Example: `  muster keyring put web --target 'tag.role=web'
  muster keyring put web --target 'tag.role=web and not web13'`,
		ValidArgsFunction: a.completeKeyrings,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.putKeyring(cmd.Context(), args[0], expr) },
	}
	cmd.Flags().StringVar(&expr, "target", "", "whom it follows: tag.K=V, names (written as IDs), @group (written out as it is now), and, or, not")
	a.completeTargets(cmd)
	return cmd
}

func (a *app) putKeyring(ctx context.Context, name, expr string) error {
	if expr == "" {
		return fleet.Errorf(fleet.Invalid, "a keyring follows a target").Hinted("muster keyring put %s --target 'tag.role=web'", name)
	}
	if err := fleet.CheckName(name); err != nil {
		return err
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	all, err := callRollWithGroups(ctx, c.keys)
	if err != nil {
		return err
	}
	target, _, err := a.keyringTarget(all, expr)
	if err != nil {
		return err
	}
	k, err := c.keyring(ctx, name)
	switch {
	case fleet.KindOf(err) == fleet.NotFound:
		made, err := c.makeKeyring(ctx, name, target)
		if err != nil {
			return err
		}
		made.tell(a, name)
	case err != nil:
		return err
	case k.Target == target.String():
		a.say("keyring %s follows that already", name)
	default:
		if err := c.changeKeyring(ctx, auth.KeyringChange{Name: name, Target: target.String()}); err != nil {
			return err
		}
	}
	return a.showPutKeyring(ctx, c, name)
}

func (a *app) showPutKeyring(ctx context.Context, c *cabinet, name string) error {
	c.forgetKeyrings()
	k, err := c.keyring(ctx, name)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, c.keys)
	if err != nil {
		return err
	}
	out := shapeOfKeyring(k)
	return a.showOne(out, name, []fact{
		{"keyring", name}, {"target", all.withNames(out.Target)}, {"nodes", fmt.Sprint(len(out.Members))}, {"epoch", fmt.Sprint(out.Epoch)},
		{"state", keyringState(out)}, {"due", out.Due},
	})
}

// changeKeyring signs a change of a keyring that is there, and brings it to the fleet.
func (c *cabinet) changeKeyring(ctx context.Context, change auth.KeyringChange) error {
	change.Header = c.pen.header(0)
	if err := change.Check(); err != nil {
		return err
	}
	return proposeAct(ctx, c.client, auth.ActKeyring, c.pen.sign(auth.ForKeyring, change))
}

func newKeyringRotateCommand(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Have a keyring's members make a new key", Args: exactly(1, "one keyring's NAME"),
		Long: `Ask the members of a keyring to make a new key. One of them makes it, and it is used once three of them hold it, or all where
there are fewer. What is put from then on is sealed to it; what was put before stays as it is. A member that leaves makes
them do so by themselves.`,
		Example:           `  muster keyring rotate web`,
		ValidArgsFunction: a.completeKeyrings,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.rotateKeyring(cmd.Context(), args[0], wait) },
	}
	cmd.Flags().DurationVar(&wait, "wait", keyringPatience, "how long to wait for the new key to be used; 0: not at all")
	return cmd
}

func (a *app) rotateKeyring(ctx context.Context, name string, wait time.Duration) error {
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	k, err := c.keyring(ctx, name)
	if err != nil {
		return err
	}
	before, _ := usedEpoch(k)
	if err := c.changeKeyring(ctx, auth.KeyringChange{Name: name, Target: k.Target, Rotate: true}); err != nil {
		return err
	}
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		c.forgetKeyrings()
		if k, err = c.keyring(ctx, name); err != nil {
			return err
		}
		if epoch, _ := usedEpoch(k); epoch.Number > before.Number {
			return a.showPutKeyring(ctx, c, name)
		}
		if err := pause(ctx, keyringLook); err != nil {
			return err
		}
	}
	if err := a.showPutKeyring(ctx, c, name); err != nil || wait == 0 {
		return err
	}
	return fleet.Errorf(fleet.Unavailable, "no new key is used after %s: its members make it when they are up", wait).Hinted("muster keyring show %s", name)
}

func newKeyringHandOverCommand(a *app) *cobra.Command {
	var nodes []string
	var recoveryKey string
	cmd := &cobra.Command{
		Use: "hand-over NAME", Short: "Give the key to members that wait for it", Args: exactly(1, "one keyring's NAME"),
		Long: `Give a keyring's key to members that wait for it, out of the escrow that is for you: all epochs that there are. Members give it
to each other by themselves; this is for when no member that has it is up, or none is left. With --recovery-key it is the
escrow for the fleet's recovery key.`,
		Example: `  muster keyring hand-over web
  muster keyring hand-over web --node web7 --recovery-key recovery.txt`,
		ValidArgsFunction: a.completeKeyrings,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.handOverKeyring(cmd.Context(), args[0], nodes, recoveryKey)
		},
	}
	cmd.Flags().StringArrayVar(&nodes, "node", nil, "only to this member; may be repeated")
	cmd.Flags().StringVar(&recoveryKey, "recovery-key", "", "use the escrow for the fleet's recovery key in this file; - is standard input")
	a.completeNodeFlag(cmd, "node")
	return cmd
}

func (a *app) handOverKeyring(ctx context.Context, name string, nodes []string, recoveryKey string) error {
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	if recoveryKey != "" {
		if c.recovery, err = a.readRecoveryKey(recoveryKey); err != nil {
			return err
		}
	}
	k, err := c.keyring(ctx, name)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, c.keys)
	if err != nil {
		return err
	}
	to, err := waitingMembers(all, k, nodes)
	if err != nil {
		return err
	}
	if len(to) == 0 {
		a.say("nobody who is up waits for the key of keyring %s", name)
		return a.showPutKeyring(ctx, c, name)
	}
	given := map[string]bool{}
	var failed error
	for _, epoch := range slices.Backward(k.Epochs) {
		seed, err := c.openEscrow(k, epoch)
		if err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		b := params.SeedBinding{Fleet: c.status.Fleet, Keyring: name, Life: k.Life, Number: epoch.Number}
		took, refused := c.handOverAll(ctx, b, seed, to)
		clear(seed)
		for _, n := range took {
			given[n] = true
		}
		for _, n := range sortedKeys(refused) {
			failed = fleet.Errorf(fleet.KindOf(refused[n]), "%s: %w", n, refused[n])
		}
	}
	if len(given) > 0 {
		a.say("%s took the key", fleet.FoldNames(sortedKeys(given)))
	}
	if failed != nil {
		return failed
	}
	return a.showPutKeyring(ctx, c, name)
}

// waitingMembers returns who is to be given the key: those that were named, or all that say that they have it not.
func waitingMembers(all roll, k node.KeyringInfo, named []string) ([]node.KeyringMember, error) {
	used, _ := usedEpoch(k)
	var out []node.KeyringMember
	for _, text := range named {
		n, err := all.find(text)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(k.Members, func(m node.KeyringMember) bool { return m.ID == n.ID })
		if i < 0 {
			return nil, fleet.Errorf(fleet.Denied, "%s is not in keyring %s", n.Name, k.Name).Hinted("muster keyring show %s", k.Name)
		}
		out = append(out, k.Members[i])
	}
	if len(named) > 0 {
		return out, nil
	}
	for _, m := range k.Members {
		if keyOf(m, used) == "waits" {
			out = append(out, m)
		}
	}
	return out, nil
}

func newKeyringDeleteCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "End a keyring", Args: exactly(1, "one keyring's NAME"),
		Long: `End a keyring: nothing can be sealed to it any more, and its nodes need not keep its key. Secrets whose newest version is
sealed to it are said, and --yes is needed: put them for other readers first.`,
		Example:           `  muster keyring delete web`,
		ValidArgsFunction: a.completeKeyrings,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.deleteKeyring(cmd.Context(), args[0], yes) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "also when secrets are sealed to it")
	return cmd
}

func (a *app) deleteKeyring(ctx context.Context, name string, yes bool) error {
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	if _, err := c.keyring(ctx, name); err != nil {
		return err
	}
	sealed, err := c.list(ctx, []params.Filter{{Key: "KeyId", Values: []string{"keyring:" + name}}})
	if err != nil {
		return err
	}
	if len(sealed) > 0 {
		for _, v := range sealed {
			a.say("sealed to it: %s", v.name())
		}
		if err := a.confirm(yes, "%s could not be read by its nodes any more. Delete keyring %s?", count(len(sealed), "secret"), name); err != nil {
			return err
		}
	}
	if err := c.changeKeyring(ctx, auth.KeyringChange{Name: name}); err != nil {
		return err
	}
	return a.showOne(struct {
		Format  int    `json:"format"`
		Deleted string `json:"deleted"`
	}{1, name}, name, []fact{{"deleted", "keyring " + name}})
}
