package main

import (
	"context"
	"fmt"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// aftermath is what a command that was stopped has brought about: the gate that did not let it pass, and what was run
// where it had been started.
type aftermath struct {
	Gate   *follower `json:"gate,omitempty"`
	OnStop *follower `json:"on_stop,omitempty"`
}

// follower is a gate or an on-stop command with what it came to on the nodes that it was run on.
type follower struct {
	ID    fleet.UUID `json:"id"`
	Runs  string     `json:"runs"`
	Tally tally      `json:"tally"`
}

// aftermath looks at the gate that stopped a command, and waits until its on-stop command has ended: that is part of what
// the person asked for. What cannot be learned is said and left out.
func (a *app) aftermath(ctx context.Context, p *pen, s *sight) aftermath {
	var out aftermath
	pace, t := s.pace(), s.count(s.outcomes(p.now()))
	if t.Stopped == "" {
		return out
	}
	if wave := s.rollout().Wave; t.Stopped == exec.StoppedByGate && int(wave) < len(pace.Gates) {
		out.Gate = a.followerOf(p, pace.Gates[wave], func(g *sight) error { return a.look(ctx, p, g) }, ctx, s)
	}
	if !pace.OnStop.IsZero() {
		out.OnStop = a.followerOf(p, pace.OnStop, func(g *sight) error {
			a.say("stopped: %s is run where it was started", g.info.Body.Text())
			view := a.newProgress(g)
			defer view.clear()
			return a.follow(ctx, p, g, view)
		}, ctx, s)
	}
	return out
}

// followerOf reads a gate or an on-stop command and what it came to, after wait.
func (a *app) followerOf(p *pen, id fleet.UUID, wait func(*sight) error, ctx context.Context, s *sight) *follower {
	g, err := p.sight(ctx, s.roll, id.String())
	if err == nil {
		err = a.look(ctx, p, g) // so that what it runs is known
	}
	if err == nil {
		err = wait(g)
	}
	if err != nil {
		a.printError(err)
		return nil
	}
	return &follower{id, g.info.Body.Text(), counts(g.count(meant(g.outcomes(p.now()))))}
}

// meant leaves out the nodes on which a gate or an on-stop command was not needed.
func meant(outcomes []exec.Outcome) []exec.Outcome {
	var out []exec.Outcome
	for _, o := range outcomes {
		if o.Status != exec.Skipped {
			out = append(out, o)
		}
	}
	return out
}

// sayAftermath says in a line each what a gate and an on-stop command came to, and how to look closer.
func (a *app) sayAftermath(after aftermath) {
	for _, f := range []struct {
		*follower
		what string
	}{{after.Gate, "gate"}, {after.OnStop, "on stop"}} {
		if f.follower == nil {
			continue
		}
		t := f.Tally
		line := fmt.Sprintf("%s: %s: %d of %s succeeded", f.what, f.Runs, t.Success, count(t.Targets, "node"))
		if bad := t.Targets - t.Success; bad > 0 {
			line += fmt.Sprintf(", %d did not", bad)
		}
		a.say("%s", line)
		a.say("  → muster command show %s", f.ID)
	}
}
