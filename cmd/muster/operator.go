package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func newOperatorCommand(a *app) *cobra.Command {
	return newNoun("operator", "The people who may give orders",
		newOperatorListCommand(a), newOperatorRequestCommand(a), newOperatorApproveCommand(a), newOperatorDeleteCommand(a))
}

func newOperatorListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the operators", Args: noArgs,
		Example: `  muster operator list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ops, err := a.client().Operators(cmd.Context())
			if err != nil {
				return err
			}
			var out []shape.Operator
			for _, op := range ops {
				out = append(out, shape.OfOperator(op))
			}
			return operatorListing().show(a, out)
		},
	}
}

func operatorListing() listing[shape.Operator] {
	return listing[shape.Operator]{
		columns: []column[shape.Operator]{
			{head: "NAME", cell: func(o shape.Operator) string { return o.Name }},
			{head: "TEAMS", cell: func(o shape.Operator) string { return strings.Join(o.Teams, ",") }},
			{head: "EXPIRES", cell: func(o shape.Operator) string {
				if o.Expires.IsZero() {
					return "never"
				}
				return when(o.Expires)
			}},
			{head: "KEY", cell: func(o shape.Operator) string { return o.ID.String() }},
		},
		name: func(o shape.Operator) string { return o.Name },
		none: "no operators",
	}
}

func newOperatorRequestCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "request", Short: "Make a key and ask to become an operator", Args: noArgs,
		Long: `Make an operator's key on this host, if there is none yet, and ask the fleet to take it in. Read the code that comes
out to somebody who has a root key; they approve it. The key never leaves this host.`,
		Example: `  muster operator request --name alice
  muster operator approve CODE --team root      # elsewhere, by who has a root key`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.requestOperator(cmd.Context(), name) },
	}
	cmd.Flags().StringVar(&name, "name", "", "the operator's name (default: the account's)")
	return cmd
}

func (a *app) requestOperator(ctx context.Context, name string) error {
	client := a.client()
	status, err := a.inFleet(ctx, client)
	if err != nil {
		return err
	}
	path := a.identityPath()
	who, err := a.ownIdentity(path, status, name)
	if err != nil {
		return err
	}
	op, err := who.asOperator()
	if err != nil {
		return err
	}
	request := consensus.OperatorRequest{
		Nonce: newUUID(), Name: who.Operator, Key: op.Key, HPKE: op.HPKE, Node: status.Self.ID, Issued: status.Now.UnixMilli(),
	}
	if _, err := propose(ctx, client, consensus.PutRequest{Request: request}); err != nil {
		return err
	}
	code := request.Code().String()
	out := struct {
		Format   int    `json:"format"`
		Code     string `json:"code"`
		Name     string `json:"name"`
		Identity string `json:"identity"`
	}{shape.Format, code, who.Operator, path}
	if !a.forPeople() {
		return a.showOne(out, code, nil)
	}
	a.say("Asked for operator %s, with the key in %s. Within the hour, where a root key is:", who.Operator, path)
	_, err = fmt.Fprintln(a.stdout, "muster operator approve "+code)
	return err
}

// ownIdentity returns the key at path if it is one of this fleet, and makes it if there is none.
func (a *app) ownIdentity(path string, status node.Status, name string) (identity, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		name = cmp.Or(name, a.personName())
		if err := fleet.CheckName(name); err != nil {
			return identity{}, err
		}
		who, err := newIdentity(status.Fleet, status.FleetName, name)
		if err == nil {
			err = a.writeIdentity(path, who)
		}
		return who, err
	}
	who, err := a.readIdentity(path)
	switch {
	case err != nil:
		return who, err
	case who.Fleet != status.Fleet:
		return who, otherFleet(path, who.FleetName, status.FleetName)
	case name != "" && name != who.Operator:
		return who, fleet.Errorf(fleet.Conflict, "the key at %s is operator %s's", path, who.Operator).
			Hinted("leave --name out, or make another key with --identity FILE")
	}
	return who, nil
}

// rootChoice says where the root's signature comes from.
type rootChoice struct {
	file     string
	recovery string
}

func (r *rootChoice) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.file, "root-key", "", "file of the root key (default: beside the operator's key)")
	cmd.Flags().StringVar(&r.recovery, "recovery-key", "", "file with the recovery key instead, or - to type it")
}

// rootSigner returns a root key of the fleet.
func (a *app) rootSigner(choice rootChoice, status node.Status) (auth.Signer, error) {
	if choice.recovery != "" {
		return a.recoverySigner(choice.recovery)
	}
	path := cmp.Or(choice.file, a.rootKeyPath())
	key, err := a.readRootKey(path)
	if err != nil {
		return auth.Signer{}, err
	}
	if key.Fleet != status.Fleet {
		return auth.Signer{}, otherFleet(path, key.FleetName, status.FleetName)
	}
	return key.signer(), nil
}

func (a *app) recoverySigner(file string) (auth.Signer, error) {
	text, err := a.readSecret(file, "recovery key: ")
	if err != nil {
		return auth.Signer{}, err
	}
	seed, err := parseRecoveryText(text)
	if err != nil {
		return auth.Signer{}, err
	}
	return rootKey{Seed: seed}.signer(), nil
}

func (a *app) readSecret(file, prompt string) (string, error) {
	if file != "-" {
		return a.readKey(file)
	}
	if isTerminal(a.stdin) {
		return a.askSecret(prompt)
	}
	raw, err := io.ReadAll(io.LimitReader(a.stdin, maxKeyFile))
	if err != nil {
		return "", fleet.Errorf(fleet.Invalid, "cannot read the key: %w", err)
	}
	return string(raw), nil
}

func newOperatorApproveCommand(a *app) *cobra.Command {
	var teams []string
	var choice rootChoice
	cmd := &cobra.Command{
		Use: "approve CODE", Short: "Take in an operator who asked", Args: exactly(1, "the whole CODE that muster operator request printed"),
		Long: `Take in an operator who asked, by the code that they read to you. The code is a hash of their key and their name: when
it fits, nobody on the way has changed either. It takes your own operator's key and a root key.`,
		Example: `  muster operator approve CODE
  muster operator approve CODE --team web --team db`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.approve(cmd.Context(), args[0], teams, choice) },
	}
	cmd.Flags().StringArrayVar(&teams, "team", []string{auth.RootTeam}, "team that policy knows the operator by; may be repeated")
	choice.flags(cmd)
	return cmd
}

func (a *app) approve(ctx context.Context, code string, teams []string, choice rootChoice) error {
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	root, err := a.rootSigner(choice, p.status)
	if err != nil {
		return err
	}
	answer, err := p.read(ctx, node.ReadRequests, fleet.UUID{})
	if err != nil {
		return err
	}
	request, err := findRequest(answer.Requests, code)
	if err != nil {
		return err
	}
	op := auth.Operator{Name: request.Name, Key: request.Key, HPKE: request.HPKE, Teams: teams}
	if err := p.amend(ctx, root, auth.CharterPutOperator, op); err != nil {
		return err
	}
	return a.showOne(shape.OfOperator(op), op.Name, []fact{
		{"operator", op.Name}, {"teams", strings.Join(teams, ", ")}, {"key", op.ID().String()},
	})
}

// findRequest returns the request whose code is exactly code: a part of it could be hit by trying keys.
func findRequest(requests []consensus.OperatorRequest, code string) (consensus.OperatorRequest, error) {
	code = strings.ToLower(strings.TrimSpace(code))
	for _, r := range requests {
		if full := r.Code(); code == full.String() || code == full.Text() {
			return r, nil
		}
	}
	return consensus.OperatorRequest{}, fleet.Errorf(fleet.NotFound, "nobody asks with code %s (requests lapse after %s)", code, span(consensus.KeepRequests)).
		Hinted("compare the code letter by letter, or let them repeat: muster operator request")
}

// amend signs the charter's next entry with a root and brings it to the fleet.
func (p *pen) amend(ctx context.Context, root auth.Signer, kind auth.CharterKind, content any) error {
	entry := auth.SignCharterAt(p.status.Fleet, p.status.CharterHead, p.status.CharterLen, p.header(0), kind, content, root)
	return proposeAct(ctx, p.client, auth.ActCharter, entry)
}

func newOperatorDeleteCommand(a *app) *cobra.Command {
	var compromised, yes bool
	var choice rootChoice
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Take an operator's rights away", Args: exactly(1, "the NAME of one operator"),
		Long: `Take an operator's rights away. What they signed before (tags, tokens) stays, unless --compromised says that nothing
their key ever signed counts any more. It takes one root key.`,
		Example: `  muster operator delete alice
  muster operator delete mallory --compromised`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deleteOperator(cmd.Context(), args[0], compromised, yes, choice)
		},
	}
	cmd.Flags().BoolVar(&compromised, "compromised", false, "nothing that the key ever signed counts any more")
	cmd.Flags().BoolVar(&yes, "yes", false, "also when it is the last operator")
	choice.flags(cmd)
	return cmd
}

func (a *app) deleteOperator(ctx context.Context, name string, compromised, yes bool, choice rootChoice) error {
	client := a.client()
	status, err := a.inFleet(ctx, client)
	if err != nil {
		return err
	}
	op, last, err := findOperator(ctx, client, name)
	if err != nil {
		return err
	}
	root, err := a.rootSigner(choice, status)
	if err != nil {
		return err
	}
	if last {
		if err := a.confirm(yes, "%s is the last operator; after this only a root key can make another. Go on?", name); err != nil {
			return err
		}
	}
	off, err := a.clockOff(status)
	if err != nil {
		return err
	}
	p := pen{client: client, status: status, off: off} // a root needs no operator's key for this
	content := auth.DeleteOperator{Name: op.Name, Key: op.ID(), Compromised: compromised}
	if err := p.amend(ctx, root, auth.CharterDeleteOperator, content); err != nil {
		return err
	}
	return a.showOne(shape.Named{ID: op.ID(), Name: op.Name}, op.Name, []fact{{"removed", op.Name + "  " + op.ID().String()}})
}

func findOperator(ctx context.Context, client *api.Client, name string) (op auth.Operator, last bool, err error) {
	ops, err := client.Operators(ctx)
	if err != nil {
		return op, false, err
	}
	i := slices.IndexFunc(ops, func(o auth.Operator) bool { return o.Name == name })
	if i < 0 {
		return op, false, fleet.Errorf(fleet.NotFound, "no operator %q", name).Hinted("muster operator list")
	}
	return ops[i], len(ops) == 1, nil
}
