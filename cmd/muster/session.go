package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

func newSessionCommand(a *app) *cobra.Command {
	return newNoun("session", "Who was let in where, and what it looked like",
		newSessionListCommand(a), newSessionShowCommand(a), newSessionWatchCommand(a), newSessionKillCommand(a), newSessionReplayCommand(a), newSessionExportCommand(a))
}

// askedAtOnce is how many nodes are asked about their sessions at a time.
const askedAtOnce = 32

// sessionRow is a session and the node that it is on.
type sessionRow struct {
	Node shape.Named `json:"node"`
	shape.Session
	Copied bool `json:"copied,omitempty"` // as servers keep it: its node was not asked, or did not answer
}

const oneSession = "one session's ID, or the beginning of it"

func newSessionListCommand(a *app) *cobra.Command {
	var expr string
	var running bool
	cmd := &cobra.Command{
		Use: "list [NODE]…", Short: "List sessions, newest first",
		Long: `List the sessions of nodes, of all of them if none is named: those that run, and those that have ended and of which the node
still knows. Nodes keep their sessions themselves, so each is asked; who does not answer is named, and the exit code is 5. Of those,
the recordings are listed of which servers have copies.`,
		Example: `  muster session list
  muster session list web07 --running
  muster session list --target 'tag.role=web' -o json`,
		ValidArgsFunction: a.completeMoreNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.listSessions(cmd.Context(), args, expr, running)
		},
	}
	cmd.Flags().StringVar(&expr, "target", "", "the nodes that this target selects")
	cmd.Flags().BoolVar(&running, "running", false, "only sessions that have not ended")
	a.completeTargets(cmd)
	return cmd
}

// completeMoreNodes offers the names of nodes for every argument.
func (a *app) completeMoreNodes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, how := a.completeNodes(cmd, nil, typed)
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) }), how
}

func (a *app) listSessions(ctx context.Context, names []string, expr string, running bool) error {
	if len(names) > 0 && expr != "" {
		return fleet.Errorf(fleet.Invalid, "NODE and --target at once")
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	nodes, err := chooseNodes(ctx, p, names, expr)
	if err != nil {
		return err
	}
	found, err := p.sessionsOf(ctx, nodes)
	if err != nil {
		return err
	}
	copied := 0
	if len(found.silent) > 0 {
		copies, err := a.copies(ctx, p, fleet.UUID{})
		if err != nil {
			a.say("what servers keep of these is not listed: %s", err)
		}
		copied = found.addCopies(copies)
	}
	rows := found.rows
	if running {
		rows = slices.DeleteFunc(rows, func(r sessionRow) bool { return !r.Ended.IsZero() })
	}
	if err := sessionListing(p.now()).show(a, rows); err != nil {
		return err
	}
	if copied > 0 {
		a.say("%d of these are as servers keep them, for nodes that do not answer", copied)
	}
	return a.tellSilent(found)
}

// tellSilent names the nodes that did not answer.
func (a *app) tellSilent(found sessionsFound) error {
	for _, m := range found.more {
		a.say("%s has older ones, which are left out", m)
	}
	for _, s := range found.silent {
		a.say("%s: %s", s.name, s.err)
	}
	if len(found.silent) > 0 {
		return exitCode(exec.ExitUnknown)
	}
	return nil
}

// chooseNodes finds nodes by name or target; without either they are all.
func chooseNodes(ctx context.Context, p *pen, names []string, expr string) ([]api.Node, error) {
	if len(names) > 0 {
		var out []api.Node
		for _, name := range names {
			n, err := p.client.Node(ctx, name)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return out, nil
	}
	all, err := callRollWithGroups(ctx, p.client)
	if err != nil {
		return nil, err
	}
	target := fleet.All()
	if expr != "" {
		if target, err = readTarget(all, expr); err != nil {
			return nil, err
		}
	}
	var out []api.Node
	for _, m := range all.view.Select(target) {
		out = append(out, all.nodes[m.ID])
	}
	if len(out) == 0 {
		return nil, fleet.Errorf(fleet.NotFound, "no node matches %s", target).Hinted("muster node list")
	}
	return out, nil
}

// sessionsFound is what nodes say of their sessions.
type sessionsFound struct {
	rows   []sessionRow // the newest first
	silent []silentNode // by name
	more   []string     // nodes that have older ones
}

// silentNode is one that did not answer, and why.
type silentNode struct {
	id   fleet.ID
	name string
	err  error
}

// sessionsOf asks nodes for their sessions.
func (p *pen) sessionsOf(ctx context.Context, nodes []api.Node) (sessionsFound, error) {
	end, err := newSessionEnd(ctx, p, nodes...)
	if err != nil {
		return sessionsFound{}, err
	}
	defer end.Close()
	var mu sync.Mutex
	var found sessionsFound
	var all sync.WaitGroup
	slots := make(chan struct{}, askedAtOnce)
	for _, n := range nodes {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			answer, err := end.list(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			found.take(n, answer, err)
		})
	}
	all.Wait()
	found.sort()
	return found, nil
}

// list asks one node for its sessions.
func (e *sessionEnd) list(ctx context.Context, n api.Node) (node.SessionAnswer, error) {
	if n.Status == fleet.Left || len(n.Addrs)+len(n.Via) == 0 {
		return node.SessionAnswer{}, fleet.Errorf(fleet.Unavailable, "is not there (%s)", n.Status)
	}
	answer, s, err := e.ask(ctx, n, node.ReadSessions, fleet.UUID{})
	if err == nil {
		s.Close()
	}
	return answer, err
}

func (f *sessionsFound) take(n api.Node, answer node.SessionAnswer, err error) {
	if err != nil {
		f.silent = append(f.silent, silentNode{n.ID, n.Name, err})
		return
	}
	for _, s := range answer.Sessions {
		f.rows = append(f.rows, sessionRow{shape.Named{ID: n.ID, Name: n.Name}, shape.OfSession(s), false})
	}
	if answer.More {
		f.more = append(f.more, n.Name)
	}
}

func (f *sessionsFound) sort() {
	slices.SortFunc(f.rows, func(a, b sessionRow) int {
		return cmp.Or(b.Started.Compare(a.Started), strings.Compare(a.Node.Name, b.Node.Name), strings.Compare(a.ID.String(), b.ID.String()))
	})
	slices.SortFunc(f.silent, func(a, b silentNode) int { return strings.Compare(a.name, b.name) })
	slices.Sort(f.more)
}

func sessionListing(now time.Time) listing[sessionRow] {
	return listing[sessionRow]{
		columns: []column[sessionRow]{
			{head: "ID", cell: func(s sessionRow) string { return s.ID.String() }},
			{head: "NODE", cell: func(s sessionRow) string { return s.Node.Name }},
			{head: "BY", cell: func(s sessionRow) string { return s.Operator }},
			{head: "USER", cell: func(s sessionRow) string { return cmp.Or(s.User, "-") }},
			{head: "STARTED", cell: func(s sessionRow) string { return ago(s.Started, now) }},
			{head: "STATE", cell: sessionState, tint: sessionTint},
			{head: "FROM", wide: true, cell: func(s sessionRow) string { return s.From }},
			{head: "IN", wide: true, cell: func(s sessionRow) string { return strconv.FormatInt(s.In, 10) }},
			{head: "OUT", wide: true, cell: func(s sessionRow) string { return strconv.FormatInt(s.Out, 10) }},
			{head: "REASON", wide: true, cell: func(s sessionRow) string { return cut(oneLine(s.Reason), 60) }},
			{head: "WHAT", cell: func(s sessionRow) string { return cut(oneLine(sessionText(s.Session)), 60) }},
		},
		name: func(s sessionRow) string { return s.ID.String() },
		none: "no sessions",
	}
}

// sessionState says in a word what became of a session.
func sessionState(s sessionRow) string {
	switch {
	case s.Ended.IsZero() && s.Attached:
		return "open"
	case s.Ended.IsZero():
		return "alone" // it runs, and nobody is connected
	case s.Why != "":
		return "ended"
	case s.Signal != "":
		return "SIG" + s.Signal
	}
	return "exit " + strconv.Itoa(int(s.ExitCode))
}

func sessionTint(s sessionRow) tint {
	switch {
	case s.Ended.IsZero() && s.Attached:
		return green
	case s.Ended.IsZero():
		return yellow
	}
	return faint
}

// sessionText says what a session was for.
func sessionText(s shape.Session) string {
	switch {
	case s.Document != nil:
		return s.Kind + ": " + sessionDocumentText(*s.Document)
	case len(s.Argv) > 0:
		return s.Kind + ": " + strings.Join(s.Argv, " ")
	case len(s.Forward)+len(s.Listening) > 0:
		return s.Kind + ": " + strings.Join(slices.Concat(s.Forward, prefixed("←", s.Listening)), ", ")
	case len(s.Paths) > 0 && s.Put:
		return s.Kind + " to " + strings.Join(s.Paths, ", ")
	case len(s.Paths) > 0:
		return s.Kind + " from " + strings.Join(s.Paths, ", ")
	}
	return s.Kind
}

func prefixed(by string, all []string) []string {
	out := slices.Clone(all)
	for i := range out {
		out[i] = by + out[i]
	}
	return out
}
