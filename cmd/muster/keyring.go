package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func newKeyringCommand(a *app) *cobra.Command {
	return newNoun("keyring", "Keyrings: the nodes that can read a secret",
		newKeyringListCommand(a), newKeyringShowCommand(a), newKeyringPutCommand(a), newKeyringRotateCommand(a),
		newKeyringHandOverCommand(a), newKeyringDeleteCommand(a))
}

// keyringShape is a keyring, as JSON.
type keyringShape struct {
	Format  int             `json:"format"`
	Name    string          `json:"name"`
	Target  string          `json:"target"`
	Epoch   uint32          `json:"epoch"`           // to which new secrets are sealed
	Newest  uint32          `json:"newest"`          // it may still wait for members to hold it
	Due     string          `json:"due,omitempty"`   // why its members must make a new epoch
	Closed  bool            `json:"closed"`          // nothing can be sealed to it until they have
	Alone   string          `json:"alone,omitempty"` // the one member that has the key in use, of several that were asked
	Members []keyringMember `json:"members"`         // by name
	Former  []keyringFormer `json:"former"`          // who had been able to read
	Escrow  []string        `json:"escrow"`          // who else has the newest key: operator:NAME, recovery
	By      string          `json:"by"`              // of the newest change
	Changed time.Time       `json:"changed,omitzero"`
}

type keyringMember struct {
	ID    fleet.ID `json:"id"`
	Name  string   `json:"name"`
	Alive bool     `json:"alive"`
	Key   string   `json:"key"`             // holds, waits or unknown
	Holds uint32   `json:"holds,omitempty"` // the newest epoch whose key it has
}

type keyringFormer struct {
	ID    fleet.ID  `json:"id"`
	Name  string    `json:"name"`
	Last  uint32    `json:"last"` // the newest epoch that it may know
	Left  time.Time `json:"left"`
	Knows []string  `json:"knows"` // parameters whose newest version it had been able to read
}

func shapeOfKeyring(k node.KeyringInfo) keyringShape {
	used, _ := usedEpoch(k)
	out := keyringShape{
		Format: shape.Format, Name: k.Name, Target: k.Target, Epoch: used.Number, Due: k.Due, Closed: k.Closed, Alone: k.Alone,
		Members: []keyringMember{}, Former: []keyringFormer{}, Escrow: []string{}, By: k.By, Changed: shape.At(k.Changed),
	}
	if n := len(k.Epochs); n > 0 {
		out.Newest = k.Epochs[n-1].Number
		for _, box := range k.Epochs[n-1].Escrow {
			out.Escrow = append(out.Escrow, escrowReader(box).String())
		}
	}
	for _, m := range k.Members {
		member := keyringMember{ID: m.ID, Name: m.Name, Alive: m.Alive, Key: keyOf(m, used), Holds: m.Holds}
		out.Members = append(out.Members, member)
	}
	slices.SortFunc(out.Members, func(a, b keyringMember) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range k.Could {
		out.Former = append(out.Former, keyringFormer{ID: f.ID, Name: f.Name, Last: f.Last, Left: shape.At(f.Left), Knows: []string{}})
	}
	return out
}

// keyOf says whether a member has the key that secrets are sealed to.
func keyOf(m node.KeyringMember, used auth.KeyEpoch) string {
	switch {
	case !m.Said:
		return "unknown"
	case m.Holds >= used.Number:
		return "holds"
	}
	return "waits"
}

func newKeyringListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keyrings", Args: noArgs,
		Example: `  muster keyring list
  muster keyring list -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := callRoll(cmd.Context(), a.client())
			if err != nil {
				return err
			}
			rings, err := a.client().Keyrings(cmd.Context(), "")
			if err != nil {
				return err
			}
			var rows []keyringShape
			for _, k := range rings.All {
				rows = append(rows, shapeOfKeyring(k))
			}
			return keyringListing(all, time.Now()).show(a, rows)
		},
	}
}

func keyringListing(all roll, now time.Time) listing[keyringShape] {
	return listing[keyringShape]{
		columns: []column[keyringShape]{
			{head: "NAME", cell: func(k keyringShape) string { return k.Name }},
			{head: "NODES", cell: func(k keyringShape) string { return fmt.Sprint(len(k.Members)) }},
			{head: "EPOCH", cell: func(k keyringShape) string { return fmt.Sprint(k.Epoch) }},
			{head: "STATE", cell: keyringState, tint: keyringTint},
			{head: "TARGET", cell: func(k keyringShape) string { return all.withNames(k.Target) }},
			{head: "BY", wide: true, cell: func(k keyringShape) string { return k.By }},
			{head: "CHANGED", wide: true, cell: func(k keyringShape) string { return ago(k.Changed, now) }},
		},
		name: func(k keyringShape) string { return k.Name },
		none: "no keyrings: muster keyring put NAME --target EXPR, or muster param put NAME --readers EXPR",
	}
}

// keyringState says in a word or two what becomes of a secret that is sealed now.
func keyringState(k keyringShape) string {
	waits := 0
	for _, m := range k.Members {
		if m.Key == "waits" {
			waits++
		}
	}
	switch {
	case k.Closed:
		return "closed: waits for a new key"
	case k.Due != "" || k.Newest > k.Epoch:
		return "a new key is being made"
	case waits > 0:
		return count(waits, "node") + " without the key"
	}
	return "ready"
}

func keyringTint(k keyringShape) tint {
	if keyringState(k) == "ready" {
		return green
	}
	return yellow
}

func newKeyringShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show who reads what is sealed to a keyring", Args: exactly(1, "one keyring's NAME"),
		Long: `Show a keyring: who is in it, who of them has its key, and who waits for it; who was in it before, and which parameters those
had been able to read and that have not changed since. New versions are closed to them; what they know already only a new
value mends: muster param rotate, or muster param put --overwrite.`,
		Example:           `  muster keyring show web`,
		ValidArgsFunction: a.completeKeyrings,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.showKeyring(cmd.Context(), args[0]) },
	}
}

func (a *app) showKeyring(ctx context.Context, name string) error {
	rings, err := a.client().Keyrings(ctx, name)
	if err != nil {
		return err
	}
	if len(rings.All) == 0 {
		return noKeyring(name)
	}
	all, err := callRoll(ctx, a.client())
	if err != nil {
		return err
	}
	out := shapeOfKeyring(rings.All[0])
	unread := a.whatTheyKnow(ctx, &out)
	a.checkEscrow(ctx, rings.All[0])
	if !a.forPeople() {
		return a.showOne(out, name, nil)
	}
	facts := []fact{{"keyring", name}, {"target", all.withNames(out.Target)}, {"epoch", fmt.Sprint(out.Epoch)}, {"state", keyringState(out)}}
	if out.Due != "" {
		facts = append(facts, fact{"due", out.Due})
	}
	facts = append(facts, fact{"escrow", strings.Join(out.Escrow, ", ")}, fact{"by", strings.TrimSpace(out.By + " " + when(out.Changed))})
	if err := a.showOne(nil, "", facts); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	if len(out.Members) == 0 {
		fmt.Fprintln(a.stdout, "nobody is in it now")
	} else {
		keyringMembers().table(a, out.Members)
	}
	if len(out.Former) > 0 {
		fmt.Fprintln(a.stdout)
		keyringFormers(time.Now()).table(a, out.Former)
	}
	if unread != nil {
		a.say("what former members had been able to read is not shown: %s", unread)
	}
	if out.Alone != "" {
		a.say("warning: only %s, which made the key in use, has it: no other member can read what is put now; muster keyring rotate %s", out.Alone, name)
	}
	if waiting := waitingFor(out); len(waiting) > 0 {
		a.say("%s without the key; where no other member is up: muster keyring hand-over %s", fleet.FoldNames(waiting), name)
	}
	for _, f := range out.Former {
		if len(f.Knows) > 0 {
			a.say("new values mend what they know: muster param rotate NAME, or muster param put NAME --overwrite")
			break
		}
	}
	return nil
}

func waitingFor(k keyringShape) (names []string) {
	for _, m := range k.Members {
		if m.Key == "waits" {
			names = append(names, m.Name)
		}
	}
	return names
}

// checkEscrow opens what is in escrow for the operator, where there is one, and warns where it is not what it should be: nobody
// else can tell, and it would be found only when it is needed.
func (a *app) checkEscrow(ctx context.Context, k node.KeyringInfo) {
	if !a.hasIdentity() {
		return
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return
	}
	for _, epoch := range k.Epochs {
		if _, err := c.openEscrow(k, epoch); fleet.KindOf(err) == fleet.Invalid {
			a.printError(err)
		}
	}
}

// whatTheyKnow notes which parameters former members had been able to read: those whose newest version is sealed to an epoch
// that they may know. The error says why it cannot be told; nil also where nobody has left.
func (a *app) whatTheyKnow(ctx context.Context, k *keyringShape) error {
	if len(k.Former) == 0 {
		return nil
	}
	c, err := a.openCabinet(ctx, access{})
	if err != nil {
		return err
	}
	found, err := c.list(ctx, []params.Filter{{Key: "KeyId", Values: []string{"keyring:" + k.Name}}})
	if err != nil {
		return err
	}
	for _, v := range found {
		for _, r := range v.put.Readers {
			if r.Kind != params.ByKeyring || r.Name != k.Name {
				continue
			}
			for i := range k.Former {
				if f := &k.Former[i]; r.Epoch <= f.Last {
					f.Knows = append(f.Knows, v.put.Name)
				}
			}
		}
	}
	return nil
}

func keyringMembers() listing[keyringMember] {
	return listing[keyringMember]{
		columns: []column[keyringMember]{
			{head: "MEMBER", cell: func(m keyringMember) string { return m.Name }},
			{head: "UP", cell: func(m keyringMember) string { return yesNo(m.Alive) }},
			{head: "KEY", cell: func(m keyringMember) string { return m.Key }, tint: func(m keyringMember) tint {
				return map[string]tint{"holds": green, "waits": yellow}[m.Key]
			}},
		},
		name: func(m keyringMember) string { return m.Name },
	}
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func keyringFormers(now time.Time) listing[keyringFormer] {
	return listing[keyringFormer]{
		columns: []column[keyringFormer]{
			{head: "FORMER", cell: func(f keyringFormer) string { return f.Name }},
			{head: "LEFT", cell: func(f keyringFormer) string { return ago(f.Left, now) }},
			{head: "HAD BEEN ABLE TO READ", cell: func(f keyringFormer) string {
				if len(f.Knows) == 0 {
					return "nothing that has not changed since"
				}
				return strings.Join(f.Knows, ", ")
			}},
		},
		name: func(f keyringFormer) string { return f.Name },
	}
}
