package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// largeAct is the number of nodes above which a person confirms.
const largeAct = 50

// runFlags is what muster run is told beside the command itself.
type runFlags struct {
	targeting
	doing
	limits
	showing
	gate         string // NAME[:VERSION]
	gateParams   []string
	onStop       string
	onStopParams []string
	expires      time.Duration
	expiresSaid  bool
	comment      string
	outputTo     string
	direct       bool
	async        bool
	dryRun       bool
	yes          bool
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run {--target EXPR | --all} [flags] [--doc NAME] -- {COMMAND… | KEY=VALUE…}", Short: "Run a command or a document on many nodes",
		Long: `Run a command on the nodes that a target selects, wait for all that can be reached, and show what came of it: equal
results are shown once.

One argument is a shell line (sh -c); several are a program with its arguments, without a shell. With --doc the arguments
are values for the document's parameters; they are checked and completed before anything is sent. Nodes that cannot be
reached now get the command when they come back, until it expires.

Limits make it spread: --max-concurrency nodes at a time, and no more are started once more than --max-errors have failed;
given one of them, the other is SSM's (50, 0). With --strict no more nodes than that plus one can fail, counting those that
run. --canary starts it in waves, each when the one before has ended; --gate runs a document on the wave's nodes before
the next begins, and --on-stop on all nodes where it was started if it is stopped.

Ctrl-C once says how to come back to the command, twice cancels it, three times stops watching.

Exit codes: 0 all succeeded, 1 some failed, 2 usage, 3 refused, 4 stopped by the error budget or a gate, 5 some unknown or
not reached.`,
		Example: `  muster run --all -- uptime
  muster run --target 'tag.role=web and not web13' -- systemctl restart nginx
  muster run --target 'web[01-20]' --timeout 10m -- 'apt-get update && apt-get -y upgrade'
  muster run --target db01 --script ./check.sh -- --verbose
  muster run --target @web --doc Deploy --max-concurrency 10% --max-errors 2 -- release=7.1
  muster run --all --doc Deploy --canary 1,5%,100% --gate Smoke --on-stop Rollback -- release=7.1
  muster run --failed-of 0195 -- systemctl restart nginx
  muster run --all --sample 5% --seed 7 -o json -- cat /etc/hostname
  muster run --all --output-dir ./out -- journalctl -b
  muster run --all --expires 30d --comment 'new kernel' --async -- apt-get -y dist-upgrade
  muster run --all --max-concurrency 2 --dry-run -- reboot`,
		RunE: func(cmd *cobra.Command, args []string) error {
			words, err := wordsOf(cmd, f.doc, args)
			if err != nil {
				return err
			}
			f.expiresSaid = cmd.Flags().Changed("expires")
			return a.run(cmd.Context(), f, words)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command's first word belongs to the command
	f.targeting.flags(a, cmd)
	f.doing.flags(a, cmd)
	f.limits.flags(cmd)
	f.showing.flags(cmd)
	flags.StringVar(&f.gate, "gate", "", "document that must succeed on a wave's nodes before the next wave begins")
	flags.StringArrayVar(&f.gateParams, "gate-param", nil, "value for --gate, key=value; may be repeated")
	flags.StringVar(&f.onStop, "on-stop", "", "document that is run where the command was started, if it is stopped")
	flags.StringArrayVar(&f.onStopParams, "on-stop-param", nil, "value for --on-stop, key=value; may be repeated")
	f.expires = exec.DefaultExpires
	flags.Var((*lifespan)(&f.expires), "expires", "how long a node may wait before it starts; at most 30d")
	flags.StringVar(&f.comment, "comment", "", "what it is for; shown in lists")
	flags.StringVar(&f.outputTo, "output-to", "", "where nodes copy their full output besides: a folder there, syslog or s3://BUCKET/PREFIX")
	flags.BoolVar(&f.direct, "direct", false, "without the quorum, by gossip alone, where policy allows it; for 15 minutes, without limits")
	flags.BoolVar(&f.async, "async", false, "do not wait; print the command's ID")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show nodes, waves, the worst case and policy's verdict, and send nothing")
	flags.BoolVar(&f.yes, "yes", false, fmt.Sprintf("do not ask, also for more than %d nodes", largeAct))
	a.completeDocuments(cmd, "gate", "on-stop")
	cmd.ValidArgsFunction = a.completeValues(func() string { return f.doc })
	return cmd
}

func (l *limits) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.concurrency, "max-concurrency", "", "how many nodes at a time: N or N% of them")
	flags.StringVar(&l.errors, "max-errors", "", "how many failures are borne; one more stops it: N or N%")
	flags.BoolVar(&l.strict, "strict", false, "failed and running nodes together never exceed max-errors + 1")
	flags.StringVar(&l.canary, "canary", "", "waves: how many nodes are started by the end of each, 1,5%,100%")
}

// wordsOf returns the words of a command. Those of a document are values, so flags may stand behind them.
func wordsOf(cmd *cobra.Command, doc string, args []string) ([]string, error) {
	if doc == "" || !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") }) {
		return args, nil
	}
	flags := cmd.Flags()
	flags.SetInterspersed(true)
	if err := flags.Parse(args); err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "%w", err).Hinted("%s --help", cmd.CommandPath())
	}
	return flags.Args(), nil
}

// check reports what is wrong with the flags and the command's words, before anybody is asked.
func (f runFlags) check(words []string) error {
	if err := f.targeting.check(); err != nil {
		if dash := slices.Index(words, "--"); dash == 1 {
			return fleet.Errorf(fleet.Invalid, "%w", err).Hinted("muster run --target %s -- %s", words[0], strings.Join(words[2:], " "))
		}
		return err
	}
	if err := f.doing.check(words); err != nil {
		return err
	}
	if err := f.showing.check(f.async); err != nil {
		return err
	}
	switch {
	case f.target == fromStdin && f.wantsStdin():
		return fleet.Errorf(fleet.Invalid, "--target - and %s both want standard input", cmp.Or(map[bool]string{true: "--stdin"}[f.stdin], "--script -"))
	case f.gate != "" && f.canary == "":
		return fleet.Errorf(fleet.Invalid, "--gate stands between waves").Hinted("--canary 1,5%%,100%% --gate %s", f.gate)
	case f.gate == "" && len(f.gateParams) > 0:
		return fleet.Errorf(fleet.Invalid, "--gate-param without --gate")
	case f.onStop != "" && !f.limits.any():
		return fleet.Errorf(fleet.Invalid, "without limits nothing stops a command, so --on-stop would never run").
			Hinted("--max-errors 0 --on-stop %s", f.onStop)
	case f.onStop == "" && len(f.onStopParams) > 0:
		return fleet.Errorf(fleet.Invalid, "--on-stop-param without --on-stop")
	case f.direct && f.limits.any():
		return fleet.Errorf(fleet.Invalid, "limits are kept by the quorum, which --direct does without")
	case f.direct && f.expiresSaid && f.expires > directLife:
		return fleet.Errorf(fleet.Invalid, "a --direct command is good for %s at most", lifespan(directLife))
	}
	return f.limits.check()
}

// check reports limits that mean nothing, whatever the number of nodes.
func (l limits) check() error {
	_, err := l.pace(exec.MaxTargets)
	return err
}

func (a *app) run(ctx context.Context, f runFlags, words []string) error {
	if err := f.check(words); err != nil {
		return err
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	w, err := a.workOf(ctx, p, f.doing, words)
	if err != nil {
		return err
	}
	all, err := callRollWithGroups(ctx, p.client)
	if err != nil {
		return err
	}
	chosen, err := a.choose(ctx, p, all, f.targeting)
	if err != nil {
		return err
	}
	m, err := p.mannerOf(ctx, f, len(chosen.chosen))
	if err != nil {
		return err
	}
	if len(m.gate) > 0 && len(m.pace.Waves) < 2 {
		a.say("--canary comes to one wave here: there is nothing for the gate to stand before")
	}
	if f.dryRun {
		a.say("%s", matchedLine(chosen.chosen))
		return a.preview(ctx, p, chosen, w, m)
	}
	return a.send(ctx, p, all, chosen, w, m, f.sending())
}

// sending is what becomes of a command after it was signed.
type sending struct {
	showing
	async bool
	yes   bool
}

func (f runFlags) sending() sending { return sending{f.showing, f.async, f.yes} }

// send signs a command, asks whether a large one is meant, brings it to the fleet and follows it.
func (a *app) send(ctx context.Context, p *pen, all roll, s selection, w work, m manner, f sending) error {
	a.say("%s", matchedLine(s.chosen))
	if len(s.chosen) > largeAct {
		if err := a.confirm(f.yes, "Run it on %d nodes?", len(s.chosen)); err != nil {
			return err
		}
	}
	b, err := p.order(s.target, w, s.chosen, m)
	if err != nil {
		return err
	}
	if err := p.put(ctx, b); err != nil {
		return err
	}
	if f.async {
		return a.showOne(struct {
			Format int        `json:"format"`
			ID     fleet.UUID `json:"id"`
			Count  int        `json:"count"`
		}{shape.Format, b.main.id, len(b.main.Nodes)}, b.main.id.String(), []fact{{b.main.id.String(), "muster command watch " + b.main.id.String()}})
	}
	seen := newSight(b.main.id, b.main.Nodes, b.main.expires(), all)
	if m.mode == auth.Direct { // no server tells of it
		info := b.main.info(p.who.Operator, p.now())
		seen.info, seen.direct = &info, true
	}
	return a.followToEnd(ctx, p, seen, f.showing)
}

// mannerOf reads how the command goes out to so many nodes.
func (p *pen) mannerOf(ctx context.Context, f runFlags, nodes int) (manner, error) {
	m := manner{mode: auth.ByQuorum, expires: f.expires, comment: f.comment, outputTo: f.outputTo}
	if f.direct {
		m.mode = auth.Direct
		if !f.expiresSaid {
			m.expires = directLife
		}
	}
	var err error
	if m.pace, err = f.limits.pace(nodes); err != nil {
		return m, err
	}
	run := exec.Run{User: f.user, Timeout: f.timeout.Milliseconds()}
	if f.gate != "" {
		w, err := p.documentWork(ctx, run, f.gate, f.gateParams)
		if err != nil {
			return m, fleet.Errorf(fleet.KindOf(err), "--gate: %w", err)
		}
		m.gate = []work{w}
	}
	if f.onStop != "" {
		w, err := p.documentWork(ctx, run, f.onStop, f.onStopParams)
		if err != nil {
			return m, fleet.Errorf(fleet.KindOf(err), "--on-stop: %w", err)
		}
		m.onStop = []work{w}
	}
	return m, nil
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
