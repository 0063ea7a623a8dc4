package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// largeAct is the number of nodes above which a person confirms.
const largeAct = 50

// runFlags is what muster run is told beside the command itself.
type runFlags struct {
	target  string
	all     bool
	timeout time.Duration
	expires time.Duration
	user    string
	dir     string
	env     []string
	stdin   bool
	script  string
	async   bool
	dryRun  bool
	yes     bool
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run {--target EXPR | --all} [flags] -- COMMAND…", Short: "Run a command on many nodes",
		Long: `Run a command on the nodes that a target selects, wait for all that can be reached, and show what came of it: equal
results are shown once.

One argument is a shell line (sh -c); several are a program with its arguments, without a shell. Nodes that cannot be
reached now get the command when they come back, until it expires.

Ctrl-C once says how to come back to the command, twice cancels it, three times stops watching.`,
		Example: `  muster run --all -- uptime
  muster run --target 'tag.role=web and not web13' -- systemctl restart nginx
  muster run --target 'web[01-20]' --timeout 10m -- 'apt-get update && apt-get -y upgrade'
  muster run --target db01 --script ./check.sh -- --verbose
  muster run --all -o json -- cat /etc/hostname`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command's first word belongs to the command
	flags.StringVar(&f.target, "target", "", "which nodes: names, nodesets, tag.K=V, and, or, not")
	flags.BoolVar(&f.all, "all", false, "all nodes")
	flags.DurationVar(&f.timeout, "timeout", exec.DefaultTimeout, "how long it may run on a node")
	flags.DurationVar(&f.expires, "expires", exec.DefaultExpires, "how long a node may wait before it starts")
	flags.StringVar(&f.user, "user", "", "account it runs as (default: the agent's)")
	flags.StringVar(&f.dir, "cwd", "", "folder it runs in (default: the account's home)")
	flags.StringArrayVar(&f.env, "env", nil, "environment variable K=V; may be repeated")
	flags.BoolVar(&f.stdin, "stdin", false, "give it what is on standard input")
	flags.StringVar(&f.script, "script", "", "run this file (- is standard input); COMMAND is its arguments")
	flags.BoolVar(&f.async, "async", false, "do not wait; print the command's ID")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show which nodes it would run on, and do nothing")
	flags.BoolVar(&f.yes, "yes", false, fmt.Sprintf("do not ask, also for more than %d nodes", largeAct))
	a.completeTargets(cmd)
	return cmd
}

// check reports what is wrong with the flags and the command's words, before anybody is asked.
func (f runFlags) check(args []string) error {
	switch {
	case f.target == "" && !f.all:
		err := fleet.Errorf(fleet.Invalid, "muster run needs --target EXPR or --all")
		if dash := slices.Index(args, "--"); dash == 1 {
			return err.Hinted("muster run --target %s -- %s", args[0], strings.Join(args[2:], " "))
		}
		return err.Hinted("muster run --target 'tag.role=web' -- COMMAND")
	case f.target != "" && f.all:
		return fleet.Errorf(fleet.Invalid, "--target and --all at once")
	case f.script == "" && len(args) == 0:
		return fleet.Errorf(fleet.Invalid, "nothing to run").Hinted("muster run --target … -- COMMAND")
	case f.stdin && f.script == "-":
		return fleet.Errorf(fleet.Invalid, "--stdin and --script - both want standard input")
	}
	return nil
}

func (a *app) run(ctx context.Context, f runFlags, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	what, err := a.runOf(f, args)
	if err != nil {
		return err
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	all, err := callRoll(ctx, p.client)
	if err != nil {
		return err
	}
	target, chosen, err := choose(all, f)
	if err != nil {
		return err
	}
	a.say("%s", matchedLine(chosen))
	if f.dryRun {
		return a.showDryRun(target, what, chosen)
	}
	if len(chosen) > largeAct {
		if err := a.confirm(f.yes, "Run it on %d nodes?", len(chosen)); err != nil {
			return err
		}
	}
	order, err := p.order(target, what, chosen, f.expires)
	if err != nil {
		return err
	}
	if _, err := propose(ctx, p.client, consensus.PutCommand{Statement: order.Statement, Nodes: order.Nodes}); err != nil {
		return doubtful(err, order.id)
	}
	if f.async {
		return a.showOne(struct {
			Format int        `json:"format"`
			ID     fleet.UUID `json:"id"`
			Count  int        `json:"count"`
		}{shape.Format, order.id, len(order.Nodes)}, order.id.String(), []fact{{order.id.String(), "muster command watch " + order.id.String()}})
	}
	return a.followToEnd(ctx, p, newSight(order.id, order.Nodes, order.expires, all))
}

// doubtful says, when nobody answered, that the command may have been taken all the same.
func doubtful(err error, id fleet.UUID) error {
	if fleet.KindOf(err) != fleet.Unavailable {
		return err
	}
	return fleet.Errorf(fleet.Unavailable, "%w; the command may have been taken all the same", err).
		Hinted("before you repeat it: muster command show %s", id)
}

// runOf reads what shall run.
func (a *app) runOf(f runFlags, args []string) (exec.Run, error) {
	run := exec.Run{Argv: args, Env: f.env, Dir: f.dir, User: f.user, Timeout: f.timeout.Milliseconds()}
	var err error
	switch {
	case f.script == "-":
		run.Script, err = readBounded(a.stdin, "the script")
	case f.script != "":
		run.Script, err = readScript(f.script)
	}
	if err == nil && f.script != "" && len(run.Script) == 0 {
		err = fleet.Errorf(fleet.Invalid, "the script is empty")
	}
	if err == nil && f.stdin {
		run.Stdin, err = readBounded(a.stdin, "standard input")
	}
	return run, err
}

func readScript(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "--script: %w", err)
	}
	defer file.Close()
	return readBounded(file, path)
}

func readBounded(r io.Reader, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, exec.MaxCommand+1))
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "cannot read %s: %w", what, err)
	}
	if len(raw) > exec.MaxCommand {
		return nil, fleet.Errorf(fleet.Exhausted, "%s has more than %d bytes, what a command may carry", what, exec.MaxCommand).
			Hinted("put it on the hosts, or let the command fetch it")
	}
	return raw, nil
}

// choose freezes the target into nodes.
func choose(all roll, f runFlags) (fleet.Target, []fleet.Member, error) {
	target := fleet.All()
	if !f.all {
		var err error
		if target, err = readTarget(all, f.target); err != nil {
			return target, nil, err
		}
	}
	chosen := all.view.Select(target)
	if len(chosen) == 0 {
		return target, nil, fleet.Errorf(fleet.NotFound, "no node matches %s", target).Hinted("muster node list")
	}
	return target, chosen, nil
}

// matchedLine says whom a command will meet.
func matchedLine(chosen []fleet.Member) string {
	var away []string
	for _, m := range chosen {
		if m.Status != fleet.Online {
			away = append(away, m.Name)
		}
	}
	line := fmt.Sprintf("matched %d, alive %d, unreachable %d", len(chosen), len(chosen)-len(away), len(away))
	if len(away) > 0 {
		line += ": " + fleet.FoldNames(away)
	}
	return line
}

func (a *app) showDryRun(target fleet.Target, what exec.Run, chosen []fleet.Member) error {
	nodes := make([]shape.Named, 0, len(chosen))
	names := make([]string, 0, len(chosen))
	for _, m := range chosen {
		nodes = append(nodes, shape.Named{ID: m.ID, Name: m.Name})
		names = append(names, m.Name)
	}
	if a.flags.output == asNames {
		_, err := fmt.Fprintln(a.stdout, strings.Join(names, "\n"))
		return err
	}
	return a.showOne(struct {
		Format int           `json:"format"`
		DryRun bool          `json:"dry_run"`
		Target string        `json:"target"`
		Nodes  []shape.Named `json:"nodes"`
	}{shape.Format, true, target.String(), nodes}, "", []fact{
		{"would run", what.Text()}, {"as", cmp.Or(what.User, "the agent's account")}, {"on", fleet.FoldNames(names)},
	})
}

// signedOrder is an order with what its sender knows about it.
type signedOrder struct {
	exec.Order
	id      fleet.UUID
	expires time.Time
}

// order signs a command for the nodes that were chosen.
func (p *pen) order(target fleet.Target, what exec.Run, chosen []fleet.Member, expires time.Duration) (signedOrder, error) {
	ids := make([]fleet.ID, 0, len(chosen))
	for _, m := range chosen {
		ids = append(ids, m.ID)
	}
	ids = exec.SortIDs(ids)
	body := exec.Command{
		Header: p.header(expires), Target: target.String(), Count: uint32(len(ids)), Set: exec.SetDigest(ids), Run: what,
	}
	if err := body.Check(); err != nil {
		return signedOrder{}, err
	}
	o := signedOrder{
		Order: exec.Order{Statement: p.sign(auth.ForCommand, body), Nodes: ids}, id: body.Header.ID, expires: time.UnixMilli(body.Header.Expires),
	}
	if len(o.Statement.Body) > exec.MaxCommand {
		return o, fleet.Errorf(fleet.Exhausted, "the command takes %d bytes; at most %d", len(o.Statement.Body), exec.MaxCommand).
			Hinted("put a long script on the hosts, or let the command fetch it")
	}
	return o, nil
}
