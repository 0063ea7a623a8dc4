package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// part is which part of a command's results is wanted.
type part struct {
	node   string
	step   string
	stdout bool
	stderr bool
	full   bool
	follow bool
}

// check reports flags that do not go together.
func (w part) check() error {
	n := 0
	for _, on := range []bool{w.stdout, w.stderr, w.full} {
		if on {
			n++
		}
	}
	if n > 1 {
		return fleet.Errorf(fleet.Invalid, "--stdout, --stderr and --full are one or the other").Hinted("--full is both")
	}
	if w.follow && !w.stdout && !w.stderr {
		return fleet.Errorf(fleet.Invalid, "--follow is for --stdout or --stderr")
	}
	return nil
}

// streams lists the streams that are wanted as they are; none: a summary is.
func (w part) streams() []string {
	switch {
	case w.stdout:
		return []string{exec.StdoutName}
	case w.stderr:
		return []string{exec.StderrName}
	case w.full:
		return []string{exec.StdoutName, exec.StderrName}
	}
	return nil
}

func newCommandShowCommand(a *app) *cobra.Command {
	var w part
	var how showing
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a command, and what it came to on every node", Args: exactly(1, oneCommand),
		Long: `Show a command, and what it came to on every node, or on one.

--stdout, --stderr and --full bring all of what it wrote on one node, from that node, where servers have only the beginning
and the end; it is held to the digest that the node reported. To a file or a pipe it comes as it was written.`,
		Example: `  muster command show 0195
  muster command show 0195 -o json
  muster command show 0195 --node web07
  muster command show 0195 --node web07 --full
  muster command show 0195 --node web07 --stdout > boot.log
  muster command show 0195 --node web07 --stderr --follow
  muster command show 0195 --node web07 --step install --stderr
  muster command show 0195 --output-dir ./out`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := w.check(); err != nil {
				return err
			}
			if err := how.check(false); err != nil {
				return err
			}
			ctx := cmd.Context()
			p, s, err := a.sighted(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.look(ctx, p, s); err != nil {
				return err
			}
			if w.node != "" || w.step != "" || len(w.streams()) > 0 {
				return a.showPart(ctx, p, s, w)
			}
			return a.showCommand(ctx, p, s, how)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&w.node, "node", "", "only this node")
	flags.StringVar(&w.step, "step", "", "only this step of its document")
	flags.BoolVar(&w.stdout, "stdout", false, "all of its standard output")
	flags.BoolVar(&w.stderr, "stderr", false, "all of its standard error")
	flags.BoolVar(&w.full, "full", false, "all of both")
	flags.BoolVar(&w.follow, "follow", false, "with --stdout or --stderr: go on until the run has ended")
	how.flags(cmd)
	a.completeNodeFlag(cmd, "node")
	return cmd
}

func (a *app) showCommand(ctx context.Context, p *pen, s *sight, how showing) error {
	outcomes := s.outcomes(p.now())
	if err := a.describe(p, s, outcomes, how); err != nil {
		return err
	}
	if how.outputDir != "" {
		return a.keepOutputs(ctx, p, s, outcomes, how.outputDir)
	}
	return nil
}

func (a *app) describe(p *pen, s *sight, outcomes []exec.Outcome, how showing) error {
	if !a.forPeople() {
		view := a.newProgress(s)
		view.show(outcomes, s.count(outcomes))
		view.clear()
		return a.showResult(s, outcomes, how, time.Time{}, aftermath{})
	}
	if err := a.showOne(nil, "", commandFacts(s)); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	var rows []nodeResult
	for _, o := range sortedByName(outcomes, s.roll.name) {
		rows = append(rows, resultOf(o, s.roll.name))
	}
	nodeResults().table(a, rows)
	fmt.Fprintln(a.stdout)
	a.printOutcomes(outcomes, s.roll.name, how)
	t := s.count(outcomes)
	a.say("%s", tallyLine(t))
	if why := stopLine(t, s.pace()); why != "" {
		a.say("%s", why)
	}
	return nil
}

func commandFacts(s *sight) []fact {
	c := shape.OfCommand(*s.info)
	facts := []fact{
		{"command", c.ID.String()}, {"runs", s.info.Body.Text()}, {"comment", commandComment(c)}, {"as", c.Run.User}, {"in", c.Run.Dir},
		{"by", c.Operator}, {"target", c.Target}, {"nodes", fmt.Sprint(c.Count)}, {"committed", when(c.Committed)},
		{"expires", when(c.Expires)}, {"cancelled", strings.TrimPrefix(when(c.Cancelled), "-")}, {"cancelled on", s.names(c.Cancels)},
		{"act", fmt.Sprint(c.Act)}, {"output to", c.OutputTo},
	}
	for _, d := range s.info.Body.Documents {
		facts = append(facts, fact{"document", fmt.Sprintf("%s:%d  sha256 %s", d.Name, d.Version, shortHex(d.Digest))})
	}
	facts = append(facts, paramFacts(s.info.Body.Params)...)
	p, r := s.pace(), s.rollout()
	if !p.Limited {
		return facts
	}
	facts = append(facts, fact{"at a time", limitText(p)}, fact{"errors", fmt.Sprintf("%d of %d borne", r.Failed, p.Errors)})
	if len(p.Waves) > 0 {
		facts = append(facts, fact{"waves", fmt.Sprintf("%s; now in wave %d", wavesText(p.Waves), r.Wave+1)})
	}
	for i, g := range p.Gates {
		facts = append(facts, fact{fmt.Sprintf("gate %d", i+1), g.String()})
	}
	if !p.OnStop.IsZero() {
		facts = append(facts, fact{"on stop", p.OnStop.String()})
	}
	return append(facts, fact{"stopped", r.Stopped})
}

// showPart shows what became of a command on one node, or the output there.
func (a *app) showPart(ctx context.Context, p *pen, s *sight, w part) error {
	o, err := oneOutcome(s, s.outcomes(p.now()), w.node)
	if err != nil {
		return err
	}
	r := resultOf(o, s.roll.name)
	if w.step != "" {
		if r.Steps, err = stepNamed(r, w.step); err != nil {
			return err
		}
	}
	if len(w.streams()) == 0 {
		return a.showNode(o, r, w.step)
	}
	for _, stream := range w.streams() {
		if err := a.showStream(ctx, p, s, o, r, w, stream); err != nil {
			return err
		}
	}
	return nil
}

// oneOutcome returns what became of a command on the node that is meant; without a name it must be for one only.
func oneOutcome(s *sight, outcomes []exec.Outcome, name string) (exec.Outcome, error) {
	if name == "" {
		if len(outcomes) == 1 {
			return outcomes[0], nil
		}
		return exec.Outcome{}, fleet.Errorf(fleet.Invalid, "the command is for %s; say which is meant", count(len(outcomes), "node")).Hinted("--node NODE")
	}
	if n, err := s.roll.find(name); err == nil {
		name = n.ID.Text()
	}
	for _, o := range outcomes {
		if o.Node.Text() == name || o.Node.String() == name { // a node that is gone has its ID only
			return o, nil
		}
	}
	return exec.Outcome{}, fleet.Errorf(fleet.NotFound, "command %s is not for node %s", s.id, name).Hinted("muster command show %s", s.id)
}

func stepNamed(r nodeResult, name string) ([]shape.Step, error) {
	i := slices.IndexFunc(r.Steps, func(step shape.Step) bool { return step.Name == name })
	if i >= 0 {
		return r.Steps[i : i+1], nil
	}
	var names []string
	for _, step := range r.Steps {
		names = append(names, step.Name)
	}
	if len(names) == 0 {
		return nil, fleet.Errorf(fleet.NotFound, "%s has told of no steps", r.Name)
	}
	return nil, fleet.Errorf(fleet.NotFound, "no step %q on %s; its steps are %s", name, r.Name, strings.Join(names, ", "))
}

// showNode shows what became of a command on one node, its steps, and what is known of its output.
func (a *app) showNode(o exec.Outcome, r nodeResult, step string) error {
	if !a.forPeople() {
		return a.showOne(r, r.Name, nil)
	}
	if step == "" {
		a.printHead(exec.Fold([]exec.Outcome{o}, func(fleet.ID) string { return r.Name })[0])
	}
	if len(r.Steps) > 0 {
		stepListing().table(a, r.Steps)
	}
	out, err := o.Report.Stdout, o.Report.Stderr
	if step != "" {
		out, err = cutStream(out, exec.Span(r.Steps[0].Stdout)), cutStream(err, exec.Span(r.Steps[0].Stderr))
	}
	shortened := printStream(a.stdout, "", out)
	if printStream(a.stdout, "stderr:", err) || shortened {
		a.say("  → --full")
	}
	return nil
}

// cutStream returns the part of a stream that a step wrote, as far as a report has it.
func cutStream(s exec.Stream, part exec.Span) exec.Stream {
	to := min(max(part.To, 0), s.Size)
	from := min(max(part.From, 0), to)
	out := exec.Stream{Size: to - from, Kept: max(min(to, s.Kept)-from, 0)}
	head := int64(len(s.Head))
	out.Head = s.Head[min(from, head):min(to, head)]
	if tailAt := s.Size - int64(len(s.Tail)); to > tailAt && len(s.Tail) > 0 {
		out.Tail = s.Tail[max(from-tailAt, 0):max(to-tailAt, 0)]
	}
	return out
}

func stepListing() listing[shape.Step] {
	return listing[shape.Step]{
		columns: []column[shape.Step]{
			{head: "STEP", cell: func(s shape.Step) string { return s.Name }},
			{head: "ACTION", cell: func(s shape.Step) string { return s.Action }},
			{head: "STATUS", cell: func(s shape.Step) string { return string(s.Status) }},
			{head: "EXIT", cell: func(s shape.Step) string {
				if s.ExitCode < 0 {
					return "-"
				}
				return fmt.Sprint(s.ExitCode)
			}},
			{head: "TRIES", cell: func(s shape.Step) string { return fmt.Sprint(s.Attempts) }},
			{head: "TOOK", cell: func(s shape.Step) string {
				if s.Started.IsZero() || s.Ended.IsZero() {
					return "-"
				}
				return span(max(s.Ended.Sub(s.Started), 0))
			}},
			{head: "WHY", cell: func(s shape.Step) string { return s.Detail }},
		},
		name: func(s shape.Step) string { return s.Name },
	}
}

// showStream writes all of one stream, or of a step's part of it: standard error to standard error.
func (a *app) showStream(ctx context.Context, p *pen, s *sight, o exec.Outcome, r nodeResult, w part, stream string) error {
	want := wanted{command: s.id, node: o.Node, name: r.Name, report: o.Report, stream: stream, to: s.outputTo(), follow: w.follow}
	out := a.stdout
	if stream == exec.StderrName && w.full {
		out = a.stderr
	}
	whole, span := w.step == "", exec.Span{}
	if !whole {
		span = exec.Span(r.Steps[0].Stdout)
		if stream == exec.StderrName {
			span = exec.Span(r.Steps[0].Stderr)
		}
	}
	err := p.writeOutput(ctx, want, span, whole, terminalSafe(out))
	if got := want.reported(); err == nil && whole && got.Kept < got.Size {
		a.say("… the node kept %d of %d bytes of %s", got.Kept, got.Size, stream)
	}
	return err
}

// terminalSafe returns w as what hosts wrote may be written to: made printable where it is a terminal.
func terminalSafe(w io.Writer) io.Writer {
	if isTerminal(w) {
		return &screen{w: w}
	}
	return w
}
