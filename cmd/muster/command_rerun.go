package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func newCommandRerunCommand(a *app) *cobra.Command {
	var failedOnly bool
	var f sending
	cmd := &cobra.Command{
		Use: "rerun ID", Short: "Send a command again, as a new one", Args: exactly(1, oneCommand),
		Long: `Send a command again to the nodes that it was for, as a new command that you sign: the same words or the same versions of
its documents, the same limits, waves, gates and on-stop. With --failed only to the nodes where it ended and did not
succeed, or was never started because it was stopped. Nodes that its target does not select any more are left out.`,
		Example: `  muster command rerun 0195
  muster command rerun 0195 --failed`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.showing.check(f.async); err != nil {
				return err
			}
			return a.rerun(cmd.Context(), args[0], failedOnly, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&failedOnly, "failed", false, "only where it ended and did not succeed")
	flags.BoolVar(&f.async, "async", false, "do not wait; print the command's ID")
	flags.BoolVar(&f.yes, "yes", false, "do not ask, also for many nodes")
	f.showing.flags(cmd)
	return cmd
}

func (a *app) rerun(ctx context.Context, text string, failedOnly bool, f sending) error {
	p, s, err := a.sighted(ctx, text)
	if err != nil {
		return err
	}
	if err := a.look(ctx, p, s); err != nil {
		return err
	}
	signed, err := a.signedCommands(ctx, p)
	if err != nil {
		return err
	}
	info, err := signed.read(ctx, s.id)
	if err != nil {
		return err
	}
	s.believe(info)
	if !s.info.Body.After.IsZero() {
		return fleet.Errorf(fleet.Invalid, "command %s is a gate or an on-stop command", s.id).Hinted("muster command rerun %s", s.info.Body.After.Command)
	}
	chosen, err := again(s, s.outcomes(p.now()), failedOnly)
	if err != nil {
		return err
	}
	m, err := signed.mannerAgain(ctx, *s.info, len(chosen.chosen))
	if err != nil {
		return err
	}
	a.say("again: command %s of %s: %s", s.id, s.info.Operator, s.info.Body.Text())
	return a.send(ctx, p, s.roll, chosen, workAgain(s.info.Body), m, f)
}

// again returns the nodes of a command that still are what it was for, and, if so wanted, where it failed.
func again(s *sight, outcomes []exec.Outcome, failedOnly bool) (selection, error) {
	target, err := fleet.ParseTarget(s.info.Body.Target)
	if err != nil {
		return selection{}, err
	}
	wanted := map[fleet.ID]bool{}
	for _, o := range outcomes {
		wanted[o.Node] = !failedOnly || endedBadly(o.Status)
	}
	chosen := slices.DeleteFunc(s.roll.view.Select(target), func(m fleet.Member) bool { return !wanted[m.ID] })
	if len(chosen) > 0 {
		return selection{target, chosen}, nil
	}
	if failedOnly {
		return selection{}, fleet.Errorf(fleet.NotFound, "command %s failed on no node", s.id).Hinted("muster command show %s", s.id)
	}
	return selection{}, fleet.Errorf(fleet.NotFound, "none of the command's nodes matches %s any more", target)
}

func workAgain(c exec.Command) work {
	return work{run: c.Run, documents: c.Documents, params: c.Params, shell: c.Run.Shell()}
}

// mannerAgain returns how a command went out, for a new one to so many nodes. Gates and on-stop are read at the servers, and verified here.
func (r signedCommands) mannerAgain(ctx context.Context, info node.CommandInfo, nodes int) (manner, error) {
	c := info.Body
	m := manner{
		mode: auth.ByQuorum, expires: time.Duration(c.Header.Expires-c.Header.Issued) * time.Millisecond, pace: c.Pace,
		comment: c.Comment, outputTo: c.OutputTo,
	}
	m.pace.Waves, m.pace.Gates, m.pace.OnStop = stretchWaves(c.Pace.Waves, uint32(nodes)), nil, fleet.UUID{}
	if len(c.Pace.Gates) > 0 {
		gate, err := r.read(ctx, c.Pace.Gates[0]) // all are the same document
		if err != nil {
			return m, err
		}
		m.gate = []work{workAgain(gate.Body)}
	}
	if !c.Pace.OnStop.IsZero() {
		stop, err := r.read(ctx, c.Pace.OnStop)
		if err != nil {
			return m, err
		}
		m.onStop = []work{workAgain(stop.Body)}
	}
	return m, nil
}
