package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// What the nodes of a town do.

// behave makes up what nodes do about an entry that was taken.
func (w *town) behave(e consensus.Entry) {
	switch e := e.(type) {
	case consensus.PutCommand:
		body, _ := auth.Peek[exec.Command](e.Statement)
		if !body.Pace.Limited {
			for _, id := range e.Nodes {
				w.start(body, id)
			}
		}
	case consensus.PutCancel:
		body, _ := auth.Peek[exec.Cancel](e.Statement)
		for _, r := range slices.Clone(w.reports[body.Command]) {
			if r.Status == exec.InProgress && body.Concerns(r.Node) {
				w.report(body.Command, r.Node, exec.Report{Seq: 2, Status: exec.Cancelled, ExitCode: -1, Signal: "killed"})
			}
		}
	}
	for w.takeTurns() {
	}
}

// start lets a node run a command, if it is there.
func (w *town) start(c exec.Command, id fleet.ID) (exec.Report, bool) {
	if w.status[id] != fleet.Online {
		return exec.Report{}, false
	}
	n, _ := w.state.Record.Roster.Node(id)
	r, out, err := w.obey(n.Name, c)
	w.outputs[wrote(c.Header.ID, id, exec.StdoutName)], w.outputs[wrote(c.Header.ID, id, exec.StderrName)] = out, err
	w.report(c.Header.ID, id, r)
	if n.Name == "web02" && c.Text() == "vanish" {
		w.status[id] = fleet.ConnectionLost
	}
	return r, true
}

func wrote(command fleet.UUID, id fleet.ID, stream string) string {
	return command.String() + id.Text() + stream
}

// takeTurns gives the nodes of paced commands their turns, once, as a leader would, and reports whether any has one.
func (w *town) takeTurns() (moved bool) {
	for _, c := range w.state.Paced() {
		if c.Rollout.Stopped != "" {
			w.terminate(c)
			continue
		}
		var there []uint32
		for i, id := range c.Order.Nodes {
			if w.status[id] == fleet.Online {
				there = append(there, uint32(i))
			}
		}
		turn := c.Rollout.Pick(c.Body.Pace, there)
		if len(turn) == 0 {
			continue
		}
		w.must(consensus.PutGrants{Command: c.ID(), Nodes: turn})
		moved = true
		for _, i := range turn {
			r, _ := w.start(c.Body, c.Order.Nodes[i])
			if as, ended := exec.EndKindOf(r.Status); ended {
				w.must(consensus.PutEndings{Command: c.ID(), Ends: []exec.Ending{{Node: i, As: as}}})
			}
		}
	}
	return moved
}

func (w *town) must(e consensus.Entry) {
	if err := w.apply(e); err != nil {
		panic(err)
	}
}

// terminate lets the nodes that are there say that they will not start what was stopped.
func (w *town) terminate(c *consensus.Command) {
	for i, id := range c.Order.Nodes {
		said := slices.ContainsFunc(w.reports[c.ID()], func(r exec.Report) bool { return r.Node == id })
		if c.Rollout.State(uint32(i)) == exec.NodeIdle && w.status[id] == fleet.Online && !said {
			w.report(c.ID(), id, exec.Report{Seq: 1, Status: exec.Terminated, ExitCode: -1, Detail: "never started: too many nodes failed"})
		}
	}
}

func (w *town) report(command fleet.UUID, id fleet.ID, r exec.Report) {
	r.Command, r.Node = command, id
	r.Received = time.Now().UnixMilli()
	r.Started = r.Received
	w.reports[command] = append(w.reports[command], r)
}

// obey says how a node of that name answers to a command, and all that it writes.
func (w *town) obey(name string, c exec.Command) (exec.Report, []byte, []byte) {
	if len(c.Documents) > 0 {
		return w.actDocument(name, c)
	}
	run := c.Run
	var secrets []steps.Filled
	var err error
	if run.Env, secrets, err = c.Store().Environment(run.Env); err != nil {
		panic(err)
	}
	for _, secret := range secrets {
		run.Env = append(run.Env, secret.Name+" is secret")
	}
	r, kept := act(name, run)
	if kept == nil {
		kept = r.Stdout.Head
	}
	return r, kept, r.Stderr.Head
}

// act says how a node of that name answers to a run; kept is its whole output where the report has less.
func act(name string, run exec.Run) (r exec.Report, kept []byte) {
	ok := func(text string) exec.Report {
		return exec.Report{Seq: 1, Status: exec.Success, Stdout: stream(text), Rule: "root-operators-do-everything"}
	}
	odd := name == "web02"
	switch text := run.Text(); {
	case text == "hostname":
		return ok(name + "\n"), nil
	case text == "flaky" && odd, text == "broken":
		return exec.Report{Seq: 1, Status: exec.Failed, ExitCode: 3, Stderr: stream("trying\ndisk full\n")}, nil
	case text == "refuse":
		return exec.Report{Seq: 1, Status: exec.Refused, Detail: "policy: operator alice may not run"}, nil
	case text == "hang", text == "sleep infinity", text == "vanish" && odd:
		return exec.Report{Seq: 1, Status: exec.InProgress}, []byte("it works\n") // of which no report has told
	case text == "evil":
		return ok("\x1b]0;owned\x07fine\n"), nil
	case text == "nproc" && odd:
		return ok("2\n"), nil
	case text == "nproc":
		return ok("4\n"), nil
	case text == "df -h /var" && odd:
		return exec.Report{Seq: 1, Status: exec.Failed, ExitCode: 1, Stderr: stream("df: /var: Input/output error\n")}, nil
	case text == "df -h /var":
		return ok("/dev/vda1  20G  7G  13G  35% /\n"), nil
	case text == "cat /etc/motd" && odd:
		return ok("welcome\nbe quick\n"), nil
	case text == "cat /etc/motd":
		return ok("welcome\nbe careful\n"), nil
	case text == "systemctl reload nginx":
		return ok(""), nil
	case text == "false":
		return exec.Report{Seq: 1, Status: exec.Failed, ExitCode: 1}, nil
	case text == "binary":
		return ok("\xff\xfe"), nil
	case text == "config" && odd:
		return ok("listen 80\nworkers 2\nlog off\n"), nil
	case text == "config":
		return ok("listen 80\nworkers 4\nlog off\n"), nil
	case text == "big", text == "journalctl -b", text == "forged" && odd, text == "forged", text == "pruned":
		kept = []byte(strings.Repeat("a", 992) + "the end\n")
		r := ok(string(kept[:90]))
		r.Stdout.Size, r.Stdout.Kept, r.Stdout.Tail, r.Stdout.Digest = 1000, 1000, kept[992:], fleet.Sum(kept)
		if text == "forged" && odd {
			kept = []byte(strings.Repeat("b", 1000))
		}
		return r, kept
	case text == "lost":
		return exec.Report{Seq: 1, Status: exec.Unknown, Detail: "the host lost power"}, nil
	case text == "stdin", text == "tee /run/wish":
		return ok(string(run.Stdin)), nil
	case text == "env":
		return ok(fmt.Sprintf("%q in %s as %s for %d\n", run.Env, run.Dir, run.User, run.Timeout)), nil
	case len(run.Script) > 0:
		return ok(fmt.Sprintf("script %q with %q\n", run.Script, run.Argv)), nil
	}
	return ok("done\n"), nil
}

// actDocument runs a document's true plan, but for its processes: each step says its name and the values. A step fails on
// the nodes that a parameter failOn lists.
func (w *town) actDocument(name string, c exec.Command) (exec.Report, []byte, []byte) {
	doc, values := w.readDocument(c)
	plan, err := doc.Plan(values, document.Host{Platform: document.Linux}, w.library(c))
	if err != nil {
		return exec.Report{Seq: 1, Status: exec.Failed, ExitCode: -1, Detail: err.Error()}, nil, nil
	}
	given := map[string]string{}
	for _, v := range c.Run.Values {
		given[v.Name] = plainValue(v.Value)
	}
	var failOn []string
	_ = json.Unmarshal([]byte(given["failOn"]), &failOn)
	r := exec.Report{Seq: 1, Status: exec.Success, Rule: "root-operators-do-everything"}
	var out strings.Builder
	for _, step := range plan.Steps {
		s := exec.StepReport{Name: step.Name, Action: step.Action, Status: exec.Success, Attempts: 1, Started: 1, Ended: 2, Stdout: exec.Span{From: int64(out.Len())}}
		if step.Verdict == steps.Skipped {
			s.Status, s.Attempts, s.Detail = exec.Skipped, 0, step.Why
		} else {
			fmt.Fprintf(&out, "%s: %s\n", step.Name, said(given))
			for _, kv := range step.Env {
				if strings.HasPrefix(kv, "MUSTER_PARAM_") {
					fmt.Fprintf(&out, "%s\n", kv)
				}
			}
			for _, secret := range step.Secrets {
				fmt.Fprintf(&out, "%s is secret\n", secret.Name)
			}
		}
		if slices.Contains(failOn, name) {
			s.Status, s.ExitCode, r.Status, r.ExitCode = exec.Failed, 1, exec.Failed, 1
		}
		s.Stdout.To = int64(out.Len())
		r.Steps = append(r.Steps, s)
	}
	r.Stdout = stream(out.String())
	return r, []byte(out.String()), nil
}

func said(values map[string]string) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if k != "failOn" {
			words = append(words, k+"="+values[k])
		}
	}
	return strings.Join(words, " ")
}

func (w *town) readDocument(c exec.Command) (*document.Document, document.Values) {
	doc, ok := w.pinned(c.Documents[0])
	if !ok {
		panic("a command of a document that is not there")
	}
	var args []document.Argument
	for _, v := range c.Run.Values {
		args = append(args, document.Argument(v))
	}
	doc = doc.Bind(c.Store())
	values, err := doc.Complete(args)
	if err != nil {
		panic(err)
	}
	return doc, values
}

func (w *town) pinned(ref exec.DocumentRef) (*document.Document, bool) {
	text := []byte(nil)
	if d, ok := builtInDocument(ref.Name); ok {
		text = d.Text
	} else if e, ok := w.state.Publication(ref.Key()); ok {
		p, _ := auth.Peek[exec.Publication](e)
		text = p.Text
	}
	doc, err := document.Parse(text)
	return doc, err == nil && document.Digest(text) == ref.Digest
}

func (w *town) library(c exec.Command) document.Library {
	return func(name, _ string) (*document.Document, bool) {
		for _, ref := range c.Documents {
			if ref.Name == name {
				return w.pinned(ref)
			}
		}
		return nil, false
	}
}

func (w *town) Policy(context.Context) string { return w.charter().Policy().Text() }

func (w *town) Groups(context.Context) []auth.Group {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Record.Groups.All()
}

func (w *town) Settings(context.Context) []auth.Setting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Record.Settings.All()
}

func (w *town) Usage(context.Context) []api.Store {
	stores := []api.Store{
		{What: "runs", Path: "/var/lib/muster/runs", Bytes: 3 << 20, Bound: 4 << 30, Items: 12, Free: 5 << 30},
		{What: "decisions", Path: "/var/lib/muster/decisions", Bytes: 1500, Bound: 16 << 20, Free: 5 << 30},
	}
	if keep := w.state.Record.Settings.OutputKeep(); keep > 0 {
		stores[0].Bound = keep
	}
	return stores
}

// Output answers as the node would; what is lost is lost, and what was forged is told by its digest alone.
func (w *town) Output(_ context.Context, id fleet.ID, signed auth.Envelope, ask exec.OutputAsk, each func(exec.OutputPiece) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	read, err := node.OpenNodeRead(w.state.Record, signed, id, node.ReadOutput, time.Now())
	n, _ := w.state.Record.Roster.Node(id)
	switch {
	case err != nil:
		return err
	case w.status[id] != fleet.Online:
		return fleet.Errorf(fleet.Unavailable, "the full output is lost with %s, unless it comes back", n.Name)
	}
	if c, ok := w.state.Command(read.Arg); ok && c.Body.Text() == "pruned" {
		return fleet.Errorf(fleet.Expired, "the output of command %s is no longer kept on this node (retention)", read.Arg)
	}
	data, ok := w.outputs[wrote(read.Arg, id, ask.Stream)]
	if !ok {
		return fleet.Errorf(fleet.NotFound, "command %s was not run on %s", read.Arg, n.Name)
	}
	head := exec.OutputHead{Sum: exec.OutputSum{Size: int64(len(data)), Kept: int64(len(data)), Digest: fleet.Sum(data)}, Ended: !ask.Follow}
	if err := each(exec.OutputPiece{Head: &head}); err != nil {
		return err
	}
	for rest := data[ask.From:ask.Ends(head.Sum.Kept)]; len(rest) > 0; {
		n := min(len(rest), 300)
		if err := each(exec.OutputPiece{Data: rest[:n]}); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return each(exec.OutputPiece{Head: &head})
}

func (w *town) Decisions(_ context.Context, id fleet.ID, signed auth.Envelope) ([]exec.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	read, err := node.OpenNodeRead(w.state.Record, signed, id, node.ReadWhy, time.Now())
	n, _ := w.state.Record.Roster.Node(id)
	switch {
	case err != nil:
		return nil, err
	case w.status[id] != fleet.Online:
		return nil, fleet.Errorf(fleet.Unavailable, "%s cannot be reached", n.Name)
	case len(w.reports[read.Arg]) == 0:
		return nil, fleet.Errorf(fleet.NotFound, "%s knows no command %s", n.Name, read.Arg)
	}
	at := int64(1_700_000_000_123)
	return []exec.Decision{
		{At: at, What: exec.DecidedBell, Detail: "heard of it from web01"},
		{At: at + 2, What: exec.DecidedSignature, Detail: "signed by alice"},
		{At: at + 3, What: exec.DecidedPolicy, Detail: "permitted by root-operators-do-everything"},
		{At: at + 9, What: exec.DecidedEnd, Detail: "exit 0"},
	}, nil
}

// Direct runs a command on whom this host can reach, as its nodes would.
func (w *town) Direct(_ context.Context, order exec.Order) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, _, err := order.Verify(w.charter(), time.Now())
	if err == nil && c.Header.Mode != auth.Direct {
		err = fleet.Errorf(fleet.Invalid, "it was not signed for the direct way")
	}
	if err != nil {
		return err
	}
	w.direct[c.Header.ID] = true
	for _, id := range order.Nodes {
		w.start(c, id)
	}
	return nil
}

func (w *town) NodeReport(_ context.Context, id fleet.ID, signed auth.Envelope) (auth.Envelope, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	read, err := node.OpenNodeRead(w.state.Record, signed, id, node.ReadReport, time.Now())
	if err != nil {
		return auth.Envelope{}, err
	}
	for _, r := range slices.Backward(w.reports[read.Arg]) {
		if r.Node == id {
			return rootKey{Seed: w.seeds[id]}.signer().Sign(auth.ForReport, w.who.Fleet, r), nil
		}
	}
	return auth.Envelope{}, fleet.Errorf(fleet.NotFound, "no report of command %s", read.Arg)
}
