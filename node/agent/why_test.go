package agent

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// memDecisions keeps decisions in memory.
type memDecisions map[fleet.UUID][]exec.Decision

func (m memDecisions) Put(command fleet.UUID, d exec.Decision) {
	m[command] = append(m[command], d)
}

func (m memDecisions) Of(command fleet.UUID) ([]exec.Decision, error) { return m[command], nil }

// asks connects an agent to one that answers requests.
type asks struct {
	stubPeers
	of *Agent
	as fleet.ID
}

func (a *asks) Request(ctx context.Context, _ fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	return a.of.answer(ctx, a.as, kind, body)
}

func TestDecisionsAreTold(t *testing.T) {
	p := newOutputPair(t, newOutput(nil))
	kept := memDecisions{}
	p.desk.decisions = kept
	p.asker.peers = &asks{of: p.desk.Agent, as: p.web.ID}
	why := p.read(node.ReadWhy)
	if _, err := p.asker.Decisions(t.Context(), p.self, why); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("of a command that it never heard of: %v", err)
	}
	want := []exec.Decision{{At: 1, What: exec.DecidedBell, Detail: "rung"}, {At: 2, What: exec.DecidedEnd, Detail: "Success"}}
	kept[p.commandID()] = want
	for _, a := range []*Agent{p.asker, p.Agent} { // over the wire, and of itself
		if got, err := a.Decisions(t.Context(), p.self, why); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	for what, signed := range map[string]auth.Envelope{
		"output": p.read(node.ReadOutput), "nobody": {}, "another node": p.readAt(node.ReadWhy, p.web.ID),
		"a node": p.web.Signer.Sign(auth.ForRequest, p.Fleet.ID(), node.Read{Header: p.Header(node.ReadLife), What: node.ReadWhy, Arg: p.commandID(), Node: p.self}),
	} {
		if got, err := p.asker.Decisions(t.Context(), p.self, signed); err == nil || got != nil {
			t.Errorf("signed by or for %s: %v", what, got)
		}
	}
	p.desk.decisions = nil
	if _, err := p.asker.Decisions(t.Context(), p.self, why); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "no log") {
		t.Errorf("without a log: %v", err)
	}
}

// What a node tells is shown on a terminal.
func TestDecisionsOfALyingNode(t *testing.T) {
	p := newOutputPair(t, newOutput(nil))
	p.asker.peers = &stubPeers{kind: done, body: wire.Marshal([]exec.Decision{{What: "bell", Detail: "\x1b[2J"}})}
	if got, err := p.asker.Decisions(t.Context(), p.self, p.signed); err == nil {
		t.Errorf("got %+v", got)
	}
	p.asker.peers = &stubPeers{kind: notLeader}
	if _, err := p.asker.Decisions(t.Context(), p.self, p.signed); err == nil {
		t.Error("another answer passes")
	}
}
