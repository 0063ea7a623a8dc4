package main

import (
	"fmt"
	"strings"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// tell writes what a host heard and decided about the command that is followed. It is for people who look for a bug.
func (w *world) tell(h *host, ev node.Event, effects []node.Effect) {
	var lines []string
	about := func(id fleet.UUID, format string, args ...any) {
		if strings.HasPrefix(id.String(), w.follow) {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	switch ev := ev.(type) {
	case node.Office:
		lines = append(lines, fmt.Sprintf("leads: %t, term %d", ev.Leading, ev.Term))
	case node.CommandChanged:
		about(ev.Command.ID(), "its replica: %s", progress(ev.Command))
	case node.GrantAsked:
		about(ev.Command, "%s asks", w.byID[ev.Node].key.Name)
	case node.GrantAnswered:
		about(ev.Command, "hears %s", ev.Answer)
	case node.GrantsProposed:
		about(ev.Command, "grants proposed, failed: %t", ev.Failed)
	case node.EndingsProposed:
		about(ev.Command, "endings proposed, failed: %t", ev.Failed)
	case node.RunEnded:
		about(ev.Command, "ended %s", ev.Status)
	case node.ReportKept:
		about(ev.Command, "keeps %s of %s", ev.Status, w.byID[ev.Node].key.Name)
	case node.BellHeard:
		about(ev.Bell.Statement, "hears a bell of kind %d", ev.Bell.Kind)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case node.Ring:
			about(e.Bell.Statement, "  → rings %d with kind %d", len(e.To), e.Bell.Kind)
		case node.AskGrant:
			about(e.Command, "  → asks for a grant")
		case node.AnswerGrant:
			about(e.Command, "  → answers %s: %s", w.byID[e.Node].key.Name, e.Answer)
		case node.ProposeGrants:
			about(e.Command, "  → proposes grants for %v", e.Nodes)
		case node.ProposeEndings:
			about(e.Command, "  → proposes endings %v", e.Ends)
		case node.StartRun:
			about(e.Command.Header.ID, "  → starts it")
		case node.RefuseRun:
			about(e.Command, "  → never starts it: %s", e.As)
		case node.SendReport:
			about(e.Report.Command, "  → reports %s to %s", e.Report.Status, w.byID[e.To].key.Name)
		}
	}
	for _, line := range lines {
		fmt.Fprintf(w.out, "%12s %-8s %s\n", w.now, h.key.Name, line)
	}
}

func progress(c *consensus.Command) string {
	r := c.Rollout
	return fmt.Sprintf("idle %d, running %d, granted %d, failed %d, wave %d, waits %t, stopped %q", r.Idle, r.Running, r.Granted, r.Failed, r.Wave,
		r.Waits, r.Stopped)
}

// stuck says where a rollout hangs, for people.
func (w *world) stuck(r *rollout) string {
	c, ok := w.quorum.newest().Command(r.id)
	if !ok {
		return fmt.Sprintf("%s was never agreed", r.id)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %+v; %s;", r.id, c.Body.Pace, progress(c))
	shown := 0
	for i, id := range c.Order.Nodes {
		s := c.Rollout.State(uint32(i))
		if (s != exec.NodeGranted && s != exec.NodeIdle) || shown == 4 {
			continue
		}
		shown++
		known, _ := w.byID[id].ledger.Get(r.id)
		fmt.Fprintf(&out, " %s is %d, its ledger says %s, servers say", w.byID[id].key.Name, s, known.Status())
		for _, v := range w.quorum.voters {
			fmt.Fprintf(&out, " %q", v.replica.store[r.id][id].Status)
		}
		out.WriteString(";")
	}
	return out.String()
}
