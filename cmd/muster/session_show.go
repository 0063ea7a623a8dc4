package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// sessionPlace is how a person says which session is meant.
type sessionPlace struct{ node string }

func (s *sessionPlace) flags(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.node, "node", "", "the node that it is on; without it, all nodes are asked")
	a.completeNodeFlag(cmd, "node")
	cmd.ValidArgsFunction = a.completeSessions
}

// completeSessions offers the IDs of the sessions of --node: to ask all nodes would take too long for a Tab.
func (a *app) completeSessions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	name, _ := cmd.Flags().GetString("node")
	if len(args) > 0 || name == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	var ids []string
	if p, err := a.takePen(ctx); err == nil {
		if nodes, err := chooseNodes(ctx, p, []string{name}, ""); err == nil {
			found, _ := p.sessionsOf(ctx, nodes) // nothing known: nothing offered
			for _, row := range found.rows {
				ids = append(ids, row.ID.String()+"\t"+oneLine(row.Operator+", "+sessionText(row.Session)))
			}
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// sessionFound is one session, and a way to its node. Close it.
type sessionFound struct {
	*visit
	row  sessionRow
	copy *copyFound // nil: it is on the node itself
	// beside are further ends, which Close closes, too.
	beside []*sessionEnd
}

// Close closes all ends.
func (s *sessionFound) Close() {
	s.visit.Close()
	for _, e := range s.beside {
		e.Close()
	}
}

// findSession finds a session by its ID, or the beginning of it: at its node, or, where that is gone, what servers keep of it.
func (a *app) findSession(ctx context.Context, where sessionPlace, text string) (*sessionFound, error) {
	p, err := a.takePen(ctx)
	if err != nil {
		return nil, err
	}
	s, err := p.findSession(ctx, where, text)
	if err == nil || !mayBeCopied(err) {
		return s, err
	}
	copied, later := a.findCopy(ctx, p, where.node, text)
	if later != nil && mayBeCopied(later) {
		return nil, err
	}
	if later != nil {
		return nil, later
	}
	a.say("%s does not tell of it; this is the copy at %s", copied.row.Node.Name, copied.at.Name)
	return copied, nil
}

func (p *pen) findSession(ctx context.Context, where sessionPlace, text string) (*sessionFound, error) {
	var names []string
	if where.node != "" {
		names = []string{where.node}
	}
	nodes, err := chooseNodes(ctx, p, names, "")
	if err != nil {
		return nil, err
	}
	if id, err := fleet.ParseUUID(text); err == nil && len(nodes) == 1 { // it may be older than what a list has
		return p.askSession(ctx, nodes[0], id)
	}
	found, err := p.sessionsOf(ctx, nodes)
	if err != nil {
		return nil, err
	}
	row, err := found.find(text)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if n.ID == row.Node.ID {
			end, err := newSessionEnd(ctx, p, n)
			if err != nil {
				return nil, err
			}
			return &sessionFound{visit: &visit{end, n}, row: row}, nil
		}
	}
	return nil, fleet.Errorf(fleet.Internal, "session %s is on no node", row.ID)
}

func (p *pen) askSession(ctx context.Context, n api.Node, id fleet.UUID) (*sessionFound, error) {
	end, err := newSessionEnd(ctx, p, n)
	if err != nil {
		return nil, err
	}
	answer, s, err := end.ask(ctx, n, node.ReadSession, id)
	if err == nil {
		s.Close()
		if len(answer.Sessions) == 1 && answer.Sessions[0].ID == id {
			return &sessionFound{visit: &visit{end, n}, row: sessionRow{shape.Named{ID: n.ID, Name: n.Name}, shape.OfSession(answer.Sessions[0]), false}}, nil
		}
		err = fleet.Errorf(fleet.Internal, "%s answers with another session than was asked for", n.Name)
	}
	end.Close()
	return nil, err
}

// find finds the session that text is the ID of, or the beginning of one.
func (f sessionsFound) find(text string) (sessionRow, error) {
	var ids []fleet.UUID
	for _, row := range f.rows {
		ids = append(ids, row.ID)
	}
	id, err := findUUID("session", text, ids)
	if err != nil && len(f.silent) > 0 && fleet.KindOf(err) == fleet.NotFound {
		return sessionRow{}, fleet.Errorf(fleet.Unavailable, "no session %q on the nodes that answer; %s did not", text, fleet.FoldNames(f.silentNames())).
			Hinted("muster session list")
	}
	if err != nil {
		return sessionRow{}, err
	}
	var one sessionRow
	var on []shape.Named
	for _, row := range f.rows {
		if row.ID == id {
			one, on = row, append(on, row.Node)
		}
	}
	return one, onOneNode(id, on)
}

func (f sessionsFound) silentNames() []string {
	var out []string
	for _, s := range f.silent {
		out = append(out, s.name)
	}
	return out
}

func newSessionShowCommand(a *app) *cobra.Command {
	var where sessionPlace
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one session", Args: exactly(1, oneSession),
		Example: `  muster session show 0195
  muster session show 0195 --node web07 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.findSession(cmd.Context(), where, args[0])
			if err != nil {
				return err
			}
			defer s.Close()
			return a.showSession(s.row, s.pen.copyNames(cmd.Context(), s.row.Copies), s.pen.now())
		},
	}
	where.flags(a, cmd)
	return cmd
}

// copyNames names the servers that have copies.
func (p *pen) copyNames(ctx context.Context, ids []fleet.ID) []string {
	if len(ids) == 0 {
		return nil
	}
	all, err := callRoll(ctx, p.client)
	var out []string
	for _, id := range ids {
		name := id.String()
		if n, ok := all.nodes[id]; ok && err == nil {
			name = n.Name
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (a *app) showSession(s sessionRow, copies []string, now time.Time) error {
	document := ""
	if s.Document != nil {
		document = sessionDocumentText(*s.Document) + ", SHA-256 " + s.Document.SHA256.Text()
	}
	return a.showOne(s, s.ID.String(), []fact{
		{"id", s.ID.String()}, {"node", s.Node.Name}, {"what", sessionText(s.Session)}, {"document", document}, {"by", s.Operator}, {"from", s.From}, {"user", s.User},
		{"permitted by", s.Rule}, {"reason", s.Reason}, {"started", when(s.Started)}, {"last active", ago(s.Active, now)},
		{"ended", sessionEnded(s)}, {"why", s.Why}, {"bytes", fmt.Sprintf("%d in, %d out", s.In, s.Out)}, {"recording", recordingText(s)},
		{"copies at", strings.Join(copies, ", ")}, {"connections", connectionsText(s)},
	})
}

// connectionsText says how many connections a tunnel had, and what became of the last.
func connectionsText(s sessionRow) string {
	if s.Connections == 0 {
		return ""
	}
	text := strconv.FormatInt(s.Connections, 10)
	if n := len(s.Recent); n > 0 {
		last := s.Recent[n-1]
		text += fmt.Sprintf("; the last that ended: %s, %s, %d bytes in, %d out", last.To, when(last.Ended), last.In, last.Out)
		if last.From != "" {
			text += ", from " + last.From
		}
		if last.Why != "" {
			text += ": " + last.Why
		}
	}
	return text
}

func sessionEnded(s sessionRow) string {
	if s.Ended.IsZero() {
		return map[bool]string{true: "no: it runs", false: "no: it runs, and nobody is connected"}[s.Attached]
	}
	end := when(s.Ended) + ", after " + span(s.Ended.Sub(s.Started))
	switch {
	case s.Signal != "":
		end += ", by SIG" + s.Signal
	case s.Why == "":
		end += ", exit " + strconv.Itoa(int(s.ExitCode))
	}
	return end
}

func recordingText(s sessionRow) string {
	if s.Recorded == 0 {
		return "none"
	}
	text := fmt.Sprintf("%d bytes", s.Recorded)
	if s.Sealed {
		text += ", sealed to auditors"
	}
	if s.Left > 0 {
		text += fmt.Sprintf(", %d bytes of the session left out", s.Left)
	}
	if s.Digest != nil {
		text += ", SHA-256 " + s.Digest.Text()
	}
	return text
}

func newSessionKillCommand(a *app) *cobra.Command {
	var where sessionPlace
	var reason string
	cmd := &cobra.Command{
		Use: "kill ID", Short: "End a session, and what runs in it", Args: exactly(1, oneSession),
		Long: "End a session, and all that runs in it. Whoever is connected reads who did it, and why.",
		Example: `  muster session kill 0195
  muster session kill 0195 --node web07 --reason 'maintenance begins'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.killSession(cmd.Context(), where, args[0], reason)
		},
	}
	where.flags(a, cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "what to tell whoever is connected")
	return cmd
}

func (a *app) killSession(ctx context.Context, where sessionPlace, text, reason string) error {
	s, err := a.findSession(ctx, where, text)
	if err != nil {
		return err
	}
	defer s.Close()
	if !s.row.Ended.IsZero() {
		a.say("it has ended already: %s", cmp.Or(s.row.Why, sessionState(s.row)))
		return a.showOne(s.row, s.row.ID.String(), []fact{{"ended", s.row.ID.String() + " on " + s.at.Name}})
	}
	answer, err := s.kill(ctx, s.at, s.row.ID, reason)
	if err != nil {
		return err
	}
	if len(answer.Sessions) == 1 {
		s.row.Session = shape.OfSession(answer.Sessions[0])
	}
	return a.showOne(s.row, s.row.ID.String(), []fact{{"killed", s.row.ID.String() + " on " + s.at.Name}})
}
