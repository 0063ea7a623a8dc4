package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// readmitLife is how long an operator's word waits for the agent's start.
const readmitLife = 10 * time.Minute

func newAgentReadmitCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "readmit", Short: "End this host's quarantine where the fleet cannot give it a new key", Args: noArgs,
		Long: `End the quarantine of a host whose key was used by another host as well, signed by an operator who may replace the node. It is
for a fleet that cannot write any more because of it, such as one whose only server was put back from a snapshot: where a
leader answers, a new key is the way (muster token create --replace).

Do it on one host only, and after the other one was generalized or is gone for good. Commands that this host ran since the older
copy was made may run once more, unless they have expired.`,
		Example: `  sudo muster agent readmit`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.readmit(cmd.Context(), yes) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) readmit(ctx context.Context, yes bool) error {
	dir := a.dataDir()
	if dir == systemData {
		if err := a.needRootFor("muster agent readmit"); err != nil {
			return err
		}
	}
	q, is := folder.QuarantineOf(dir)
	if !is {
		return fleet.Errorf(fleet.NotFound, "this host is not in quarantine")
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	if err := mayReadmit(p.status); err != nil {
		return err
	}
	if err := a.confirm(yes, "Is the other host that has the key of %s generalized, or gone for good?", p.status.Self.Name); err != nil {
		return err
	}
	signed := p.sign(auth.ForReadmit, auth.Readmit{Header: p.header(readmitLife), Node: p.status.Self.ID, Seen: q.Seen})
	if err := folder.PutReadmit(dir, signed); err != nil {
		return err
	}
	return a.restartFor(ctx, dir)
}

// mayReadmit refuses where the others can write: a new key settles it, and this does not.
func mayReadmit(s node.Status) error {
	online := 0
	for _, v := range s.Quorum.Voters {
		if v.Online && v.ID != s.Self.ID {
			online++
		}
	}
	if online == 0 || online <= len(s.Quorum.Voters)/2 {
		return nil
	}
	return fleet.Errorf(fleet.Conflict, "%d of %d voters are there: this host gets a new key instead", online, len(s.Quorum.Voters)).
		Hinted("on one of them: muster token create --replace %s; then here: sudo muster agent generalize, muster join --name %s", s.Self.Name, s.Self.Name)
}

// restartFor restarts the agent, or says that somebody has to.
func (a *app) restartFor(ctx context.Context, dir string) error {
	if dir == systemData {
		s := thisSystem(a.stdout)
		m, runs := s.manager()
		if path, _ := s.installed(m); path != "" && runs {
			if err := s.run(ctx, m.verb("restart")...); err != nil {
				return err
			}
			if _, still := folder.QuarantineOf(dir); still {
				return fleet.Errorf(fleet.Denied, "this host stays in quarantine").Hinted("its log says why: %s", strings.Join(m.verb("status"), " "))
			}
			a.say("this host works again")
			return nil
		}
	}
	a.say("signed; within %s restart the agent, and this host works again", readmitLife)
	return nil
}
