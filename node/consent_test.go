package node

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// A host's own root pauses it: what comes is refused with the reason, what runs goes on, and after it nothing is left of it.
func TestPausedNodeStartsNothing(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	before := w.command("tag.role=web", w.ids(3, 5), nil)
	one[StartRun](t, h.step(bell(before, 9, true)))
	wantSays(t, h.step(RunStarted{Command: idOf(before), At: 5}), exec.InProgress)
	first := h.seq(idOf(before))

	none[KillRun](t, h.step(ConsentSet{Consent: config.Consent{Paused: "paused by root"}}))
	during := w.command("tag.role=web", w.ids(3, 5), nil)
	out := h.step(bell(during, 10, true))
	none[StartRun](t, out)
	wantSays(t, out, exec.Refused)
	if refused := one[RefuseRun](t, out); !strings.Contains(refused.Reason, "paused by root") {
		t.Errorf("the ledger is told %q", refused.Reason)
	}
	said := false
	for _, d := range of[Decided](out) {
		said = said || d.Decision.What == exec.DecidedConsent && strings.Contains(d.Decision.Detail, "paused by root")
	}
	if !said {
		t.Errorf("muster why is not told: %+v", of[Decided](out))
	}
	out = h.step(RunEnded{Command: idOf(before), Status: exec.Success, Started: 5, Ended: 6})
	for _, server := range w.ids(0, 3) {
		out = append(out, h.step(ReportTaken{Command: idOf(before), Seq: first, Server: server})...)
	}
	wantSays(t, out, exec.Success)

	h.step(ConsentSet{})
	none[StartRun](t, h.step(bell(during, 10, true))) // what was refused stays so
	one[StartRun](t, h.step(bell(w.command("tag.role=web", w.ids(3, 5), nil), 11, true)))
}

// A node that starts paused refuses from its first step on.
func TestNodeStartsPaused(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.node.own = New(Config{Self: h.me, Record: w.Record, Consent: config.Consent{Paused: "x"}}).own
	out := h.step(bell(w.command("tag.role=web", w.ids(3, 5), nil), 9, true))
	none[StartRun](t, out)
	wantSays(t, out, exec.Refused)
}

// A drained node refuses what was signed before it was drained, or without knowing, and takes what is meant for drained nodes.
func TestDrainedNodeStartsNothing(t *testing.T) {
	w := newTown(5, 3)
	before := w.command("tag.role=web", w.ids(3, 5), nil)
	n := w.Nodes[3]
	tags := map[string]string{"role": "web", fleet.DrainTag: "new disk"}
	w.take(w.TagNode(n.ID, tags, false))
	h := w.settled(t, 3)
	out := h.step(bell(before, 9, true))
	none[StartRun](t, out)
	wantSays(t, out, exec.Refused)
	if refused := one[RefuseRun](t, out); !strings.Contains(refused.Reason, "new disk") {
		t.Errorf("the ledger is told %q", refused.Reason)
	}
	meant := w.command("tag.role=web and (tag.muster.drain=* or *)", w.ids(3, 5), nil)
	one[StartRun](t, h.step(bell(meant, 10, true)))
}

// What documents do is withheld when they are here: a shell by another name, and upgrades.
func TestDocumentsThatAHostWithholds(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	h.step(ConsentSet{Consent: config.Consent{NoShell: "no shell", NoUpgrades: "no upgrades"}})
	for name, says := range map[string]string{"AWS-RunShellScript": "no shell", "AWS-UpdateSSMAgent": "no upgrades"} {
		for _, d := range document.BuiltIn() {
			if d.Name != name {
				continue
			}
			out := h.step(bell(w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) {
				c.Run = exec.Run{Timeout: c.Run.Timeout}
				c.Documents = []exec.DocumentRef{{Name: name, Version: 1, Digest: document.Digest(d.Text)}}
			}), 9, true))
			none[StartRun](t, out)
			if refused := one[RefuseRun](t, out); !strings.Contains(refused.Reason, says) {
				t.Errorf("%s: %q", name, refused.Reason)
			}
		}
	}
}

func TestSessionsThatAHostWithholds(t *testing.T) {
	copyIn := func(s *auth.Session) { s.Put = true }
	reason := func(s *auth.Session) { s.Reason = "ticket 4711" }
	for name, c := range map[string]struct {
		kind   auth.SessionKind
		change func(*auth.Session)
		own    config.Consent
		drain  string
		says   string // empty: it is opened
	}{
		"nothing is withheld":        {auth.SessionShell, nil, config.Consent{}, "", ""},
		"paused, a shell":            {auth.SessionShell, nil, config.Consent{Paused: "by root"}, "", "by root"},
		"paused, a tunnel":           {auth.SessionForward, nil, config.Consent{Paused: "by root"}, "", "by root"},
		"paused, with a reason":      {auth.SessionShell, reason, config.Consent{Paused: "by root"}, "", "by root"},
		"no shell, a shell":          {auth.SessionShell, nil, config.Consent{NoShell: "no shell"}, "", "no shell"},
		"no shell, an argv":          {auth.SessionExec, nil, config.Consent{NoShell: "no shell"}, "", "no shell"},
		"no shell, a tunnel":         {auth.SessionForward, nil, config.Consent{NoShell: "no shell"}, "", ""},
		"no shell, files from here":  {auth.SessionCopy, nil, config.Consent{NoShell: "no shell"}, "", ""},
		"no shell, files to here":    {auth.SessionCopy, copyIn, config.Consent{NoShell: "no shell"}, "", "no shell"},
		"upgrades off":               {auth.SessionShell, nil, config.Consent{NoUpgrades: "x"}, "", ""},
		"drained":                    {auth.SessionShell, nil, config.Consent{}, "new disk", "new disk"},
		"drained, and said what for": {auth.SessionShell, reason, config.Consent{}, "new disk", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor()
			if c.drain != "" {
				d.MustTake(d.TagNode(d.host.Self, map[string]string{fleet.DrainTag: c.drain}, true))
			}
			d.host.Consent = c.own
			s := d.asks(c.kind, c.change)
			order, err := JudgeSession(d.Operator.Sign(auth.ForSession, d.ID(), s), d.Record, d.Operator.ID(), d.host, d.Now)
			if c.says != "" {
				denied(t, err, fleet.Denied, c.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d.host.Consent = config.Consent{Paused: "by root", NoShell: "no shell"}
			if err := SessionStands(order.State(), d.Record, d.host, d.Now); err != nil {
				t.Errorf("what runs does not go on: %v", err)
			}
		})
	}
	d := newDoor()
	d.host.Consent = config.Consent{Paused: "by root"}
	_, err := d.judge(d.asks(auth.SessionShell, func(s *auth.Session) { s.User = "root" })) // which bob may not
	if err == nil || strings.Contains(err.Error(), "by root") {
		t.Errorf("whoever policy does not let in learns of the host: %v", err)
	}
}
