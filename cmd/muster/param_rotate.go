package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// The labels of a rotation, as Secrets Manager has its stages: what is used, what shall be, and what was used before.
const (
	labelCurrent  = "current"
	labelPending  = "pending"
	labelPrevious = "previous"
)

// defaultLength is how many characters a generated secret has.
const defaultLength = 32

// rotateFlags is how a secret is rotated. What is empty is as it was the last time.
type rotateFlags struct {
	doc     string
	target  string
	every   lifespan
	length  uint32
	stdin   bool
	due     bool
	same    bool // readers
	yes     bool
	timeout lifespan
}

func newParamRotateCommand(a *app) *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use: "rotate NAME --doc DOCUMENT --target EXPR [-- KEY=VALUE…]", Short: "Give a secret a new value, and set it where it is used", Args: cobra.ArbitraryArgs,
		Long: `Give a secret a new value, in order: a new version is put with the label pending; the document sets and tests it on the target,
where it reads {{ ssm-secure:NAME:pending }}; then the label current moves to it, and previous to the version before. Whoever
uses a rotated secret asks for NAME:current.

If the document fails on a node, current stays where it is, pending is taken off, and the newest version has the old value
again. If it is not known how it ended, pending stays, and it is said what to type.

A document that has parameters name or version is given them. Document, target and --every are kept with the secret, other
values (behind --) are not: the next time the name is enough. --every says how often it should be rotated, and muster param
rotate --due rotates all that are due, for a timer on a host with an operator's key: nothing is rotated by itself, for each
new value needs an operator's signature. Only what the same operator has kept there counts.`,
		Example: `  muster param rotate /app/prod/db/password --doc SetPassword --target db1
  muster param rotate /app/prod/db/password --doc SetPassword --target 'tag.role=db' --every 30d -- user=app
  muster param rotate /app/prod/db/password
  muster param rotate --due --yes`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.due {
				return a.rotateDue(cmd.Context(), f, args)
			}
			if len(args) == 0 {
				return lacks(cmd, "the NAME of a secret, or --due")
			}
			return a.rotateParam(cmd.Context(), f, args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.doc, "doc", "", "the document that sets and tests it: NAME or NAME:VERSION")
	flags.StringVar(&f.target, "target", "", "the nodes on which it does")
	flags.Var(&f.every, "every", "how often it should be rotated: days or hours; kept with the secret")
	flags.Uint32Var(&f.length, "length", 0, fmt.Sprintf("how many random letters and digits the new value has (default %d)", defaultLength))
	flags.BoolVar(&f.stdin, "stdin", false, "the new value comes from standard input")
	flags.BoolVar(&f.same, "same-readers", false, "also where another operator has named the readers of the version before")
	flags.BoolVar(&f.due, "due", false, "rotate all secrets that are due by their --every")
	flags.BoolVar(&f.yes, "yes", false, fmt.Sprintf("do not ask, also for more than %d nodes", largeAct))
	f.timeout = lifespan(exec.DefaultTimeout)
	flags.Var(&f.timeout, "timeout", "how long the document may run on a node")
	a.completeDocuments(cmd, "doc")
	a.completeTargets(cmd)
	return cmd
}

// rotation is one rotation under way.
type rotation struct {
	app    *app
	desk   *cabinet
	flags  rotateFlags
	words  []string
	how    params.Rotation
	name   string
	all    roll
	chosen selection
	old    paramVersion
	new    params.Put
}

func (a *app) rotateParam(ctx context.Context, f rotateFlags, nameText string, words []string) error {
	name, err := params.CanonicalName(nameText)
	if err != nil {
		return err
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	r := rotation{app: a, desk: c, flags: f, words: words, name: name}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.putPending(ctx); err != nil {
		return err
	}
	ran := r.run(ctx)
	code, ended := errors.AsType[exitCode](ran)
	switch {
	case ran == nil:
		return r.finish(ctx)
	case ended && code != exec.ExitUnknown, !ended && fleet.KindOf(ran) != fleet.Unavailable:
		return r.takeBack(ctx, ran)
	}
	return r.leaveOpen(ran)
}

// prepare finds out all that can be wrong before anything is put.
func (r *rotation) prepare(ctx context.Context) error {
	now, err := r.desk.newest(ctx, r.name)
	if err != nil {
		return err
	}
	if now == nil {
		return notThere(params.Missing{Selector: params.Selector{Name: r.name}})
	}
	if !now.secret() {
		return fleet.Errorf(fleet.Invalid, "%s is a %s; only a SecureString is rotated", r.name, now.put.Type).
			Hinted("muster param put %s VALUE --overwrite", r.name)
	}
	if pending, err := r.labelled(ctx, labelPending); err != nil {
		return err
	} else if pending != nil {
		return fleet.Errorf(fleet.Conflict, "a rotation of %s is under way or was broken off: version %d is pending", r.name, pending.put.Version).
			Hinted("if it is in use: muster param label %s %d current, then, and if not: muster param unlabel %s %d pending",
				r.name, pending.put.Version, r.name, pending.put.Version)
	}
	if r.all, err = callRollWithGroups(ctx, r.desk.client); err != nil {
		return err
	}
	if err := r.settle(*now); err != nil {
		return err
	}
	if _, err := r.values(ctx, now.put.Version+1); err != nil {
		return err
	}
	target, err := fleet.ParseTarget(r.how.Target)
	if err != nil {
		return err
	}
	r.chosen = selection{target, r.all.view.Select(target)}
	if len(r.chosen.chosen) == 0 {
		return nobody(targeting{}, target)
	}
	if len(r.chosen.chosen) > largeAct {
		if err := r.app.confirm(r.flags.yes, "Set it on %d nodes?", len(r.chosen.chosen)); err != nil {
			return err
		}
	}
	return r.findCurrent(ctx, *now)
}

// settle puts together how it is rotated: as flags say, else as the last time, if that was this operator's own word. What
// somebody else has put there would run with this operator's rights.
func (r *rotation) settle(now paramVersion) error {
	f := r.flags
	own := now.item.Change.Key == r.desk.mine()
	for _, before := range now.put.Rotation {
		if !own && (f.doc == "" || f.target == "") {
			return fleet.Errorf(fleet.Denied, "that %s is rotated by document %s on %s is the word of operator %s", r.name, before.Document, before.Target, now.item.Operator).
				Hinted("if you want that, too: muster param rotate %s --doc %s --target '%s'", r.name, before.Document, before.Target)
		}
		if own {
			r.how = before
		}
	}
	if f.doc != "" {
		r.how.Document = f.doc
	}
	if f.every != 0 {
		r.how.Every = time.Duration(f.every).Milliseconds()
	}
	if f.length != 0 {
		r.how.Length = f.length
	}
	if r.how.Length == 0 {
		r.how.Length = defaultLength
	}
	if f.target != "" {
		target, err := readTarget(r.all, f.target)
		if err != nil {
			return err
		}
		r.how.Target = target.String()
	}
	switch {
	case f.stdin && f.length != 0:
		return fleet.Errorf(fleet.Invalid, "--stdin and --length at once")
	case r.how.Document == "" || r.how.Target == "":
		return fleet.Errorf(fleet.Invalid, "%s was never rotated: how is not known", r.name).
			Hinted("muster param rotate %s --doc DOCUMENT --target EXPR", r.name)
	}
	return nil
}

func (r *rotation) labelled(ctx context.Context, label string) (*paramVersion, error) {
	found, _, err := r.desk.get(ctx, []params.Selector{{Name: r.name, Label: label}}, false)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// findCurrent finds the version that is in use. Before the first rotation it is the newest, which gets the label.
func (r *rotation) findCurrent(ctx context.Context, newest paramVersion) error {
	current, err := r.labelled(ctx, labelCurrent)
	if err != nil {
		return err
	}
	if current != nil {
		r.old = *current
		return nil
	}
	r.old = newest
	return r.desk.relabel(ctx, newest, []string{labelCurrent}, nil)
}

func (r *rotation) putPending(ctx context.Context) error {
	value := generated(int(r.how.Length))
	if r.flags.stdin {
		var err error
		if value, err = (valueSource{stdin: true}).read(r.app, r.name, nil); err != nil {
			return err
		}
	}
	defer clear(value)
	done, err := r.desk.putWish(ctx, wish{name: r.name, value: value, overwrite: true, labels: []string{labelPending}, rotation: &r.how, sameReaders: r.flags.same})
	r.new = done.put
	if err == nil {
		r.app.say("version %d of %s is pending", r.new.Version, r.name)
	}
	return err
}

// values returns what the document is given: what the person said, and the name and the version of the secret, if it takes
// them. It refuses what the document would refuse.
func (r *rotation) values(ctx context.Context, version uint32) ([]string, error) {
	name, of, err := splitVersion(r.how.Document)
	if err != nil {
		return nil, err
	}
	d, err := r.desk.pen.published(ctx, name, of)
	if err != nil {
		return nil, err
	}
	words := slices.Clone(r.words)
	for _, parameter := range d.doc.Parameters() {
		switch parameter.Name {
		case "name":
			words = append(words, "name="+r.name)
		case "version":
			words = append(words, fmt.Sprintf("version=%d", version))
		}
	}
	_, err = completeValues(name, d.doc, words)
	return words, err
}

// run has the document set and test the pending version.
func (r *rotation) run(ctx context.Context) error {
	words, err := r.values(ctx, r.new.Version)
	if err != nil {
		return err
	}
	p := r.desk.pen
	w, err := p.documentWork(ctx, exec.Run{Timeout: time.Duration(r.flags.timeout).Milliseconds()}, r.how.Document, words)
	if err != nil {
		return err
	}
	// What the document says goes where people read; the answer is what became of the secret.
	aside := *r.app
	aside.stdout, aside.flags.output = r.app.stderr, asTable
	m := manner{mode: auth.ByQuorum, expires: exec.DefaultExpires, comment: "rotate " + r.name}
	return aside.send(ctx, p, r.all, r.chosen, w, m, sending{yes: true})
}

// rotated is what became of a rotation, as JSON.
type rotated struct {
	Format   int    `json:"format"`
	Name     string `json:"name"`
	Rotated  bool   `json:"rotated"`
	Version  uint32 `json:"version"` // that is current
	Previous uint32 `json:"previous,omitempty"`
	Why      string `json:"why,omitempty"` // it was not
}

// finish moves the labels: previous first, so that whatever breaks off in between has a current version.
func (r *rotation) finish(ctx context.Context) error {
	if err := r.desk.relabel(ctx, r.old, []string{labelPrevious}, nil); err != nil {
		return err
	}
	if err := r.desk.relabel(ctx, paramVersion{put: r.new}, []string{labelCurrent}, []string{labelPending}); err != nil {
		return err
	}
	out := rotated{Format: shape.Format, Name: r.name, Rotated: true, Version: r.new.Version, Previous: r.old.put.Version}
	every := ""
	if r.how.Every != 0 {
		every = "again in " + millis(r.how.Every).String() + " (muster param rotate --due)"
	}
	return r.app.showOne(out, r.name, []fact{
		{"rotated", r.name}, {"current", fmt.Sprint(out.Version)}, {"previous", fmt.Sprint(out.Previous)}, {"every", every},
	})
}

// takeBack leaves the old version current, and makes its value the newest again for whoever asks without a label.
func (r *rotation) takeBack(ctx context.Context, why error) error {
	if _, said := errors.AsType[exitCode](why); !said {
		r.app.printError(why)
	}
	err := r.desk.relabel(ctx, paramVersion{put: r.new}, nil, []string{labelPending})
	if err == nil {
		err = r.restore(ctx)
	}
	if err != nil {
		r.app.printError(fleet.Errorf(fleet.KindOf(err), "the version that failed is still the newest of %s: %w", r.name, err).
			Hinted("muster param history %s", r.name))
	}
	out := rotated{Format: shape.Format, Name: r.name, Version: r.old.put.Version, Why: "document " + r.how.Document + " failed"}
	if err := r.app.showOne(out, r.name, []fact{
		{"not rotated", r.name}, {"current", fmt.Sprintf("%d, as before", out.Version)}, {"why", out.Why + ": see above"},
	}); err != nil {
		return err
	}
	if code, ok := errors.AsType[exitCode](why); ok {
		return code
	}
	return exitCode(exec.ExitFailed)
}

func (r *rotation) restore(ctx context.Context) error {
	old, err := r.desk.one(ctx, params.Selector{Name: r.name, Version: r.old.put.Version}, true)
	if err != nil {
		return err
	}
	value, err := r.desk.reveal(ctx, old)
	if err != nil {
		return err
	}
	defer clear(value)
	_, err = r.desk.putWish(ctx, wish{name: r.name, value: value, overwrite: true, ifVersion: &r.new.Version})
	return err
}

// leaveOpen says what to type where nobody knows how it ended.
func (r *rotation) leaveOpen(why error) error {
	if _, said := errors.AsType[exitCode](why); !said {
		r.app.printError(why)
	}
	r.app.say("nobody knows yet whether version %d of %s was set everywhere: it stays pending, and version %d current", r.new.Version, r.name, r.old.put.Version)
	r.app.say("  once it was: muster param label %s %d current; muster param unlabel %s %d pending", r.name, r.new.Version, r.name, r.new.Version)
	r.app.say("  if it was not: muster param unlabel %s %d pending; muster param rollback %s %d", r.name, r.new.Version, r.name, r.old.put.Version)
	return exitCode(exec.ExitUnknown)
}

// rotateDue rotates all secrets whose newest version is older than it should be.
func (a *app) rotateDue(ctx context.Context, f rotateFlags, args []string) error {
	if len(args) > 0 || f.doc != "" || f.target != "" || f.every != 0 || f.stdin {
		return fleet.Errorf(fleet.Invalid, "--due rotates secrets as they were the last time: no NAME, --doc, --target, --every or --stdin beside it")
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	found, err := c.list(ctx, []params.Filter{{Key: "Type", Values: []string{params.SecureString.String()}}})
	if err != nil {
		return err
	}
	next, err := c.nextRotations(ctx, found)
	if err != nil {
		return err
	}
	due, failed := 0, 0
	for _, v := range found {
		if at, ok := next[v.put.Name]; !ok || at.After(c.now()) {
			continue
		}
		if v.item.Change.Key != c.mine() {
			a.say("%s is due by the word of operator %s, and left to that operator", v.put.Name, v.item.Operator)
			continue
		}
		due++
		if err := a.rotateParam(ctx, f, v.put.Name, nil); err != nil {
			failed++
			if _, said := errors.AsType[exitCode](err); !said {
				a.printError(err)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.say("%s due, %d failed", count(due, "secret"), failed)
	if failed > 0 {
		return exitCode(exec.ExitFailed)
	}
	return nil
}

// nextRotations says when secrets are to be rotated next, by name: so long after the version that is current as was asked for.
// Those that are rotated by hand alone are left out.
func (c *cabinet) nextRotations(ctx context.Context, all []paramVersion) (map[string]time.Time, error) {
	since, every := map[string]int64{}, map[string]int64{}
	var current []params.Selector
	for _, v := range all {
		for _, r := range v.put.Rotation {
			if r.Every != 0 && every[v.put.Name] == 0 {
				since[v.put.Name], every[v.put.Name] = v.item.Time, r.Every
				current = append(current, params.Selector{Name: v.put.Name, Label: labelCurrent})
			}
		}
	}
	found, _, err := c.get(ctx, current, false)
	if err != nil {
		return nil, err
	}
	for _, v := range found {
		since[v.put.Name] = v.item.Time
	}
	out := map[string]time.Time{}
	for name, at := range since {
		out[name] = shape.At(at + every[name])
	}
	return out, nil
}
