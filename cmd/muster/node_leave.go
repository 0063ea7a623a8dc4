package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
)

func newNodeLeaveCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "leave", Short: "Say goodbye to the fleet and stop this host's agent", Args: noArgs,
		Long: `Say goodbye to the fleet and stop this host's agent. A leader hands its lead over first, and the others let another server
vote in this one's place where there is one. What the agent has started here goes on. Others see the node as Left: targets
leave it out, and nobody waits for it.

The node stays enrolled, with its name, tags and keys. It is back as soon as its agent starts again: by hand, or with the host
where the service is enabled. muster node delete, on another host, removes it for good; muster node drain, in place of all this,
keeps it in the fleet and gives it nothing new.

Where nothing could be written without this host, it asks before.`,
		Example: `  sudo muster node leave
  muster node delete web07      # afterwards, from another host, if it shall not come back`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := a.mayLeave(ctx, yes); err != nil {
				return err
			}
			if err := a.client().Leave(ctx); err != nil {
				return err
			}
			a.say("this host has left; %s brings it back", a.startCommand())
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "also where nothing can be written without this host")
	return cmd
}

// mayLeave asks whoever would stop the fleet's writes.
func (a *app) mayLeave(ctx context.Context, yes bool) error {
	s, err := a.client().Status(ctx)
	if err != nil {
		return nil // leaving says what is wrong
	}
	why := neededFor(s)
	if why == "" {
		return nil
	}
	return a.confirm(yes, "Without this host %s: nothing can be written until it is back. Leave?", why)
}

// neededFor says what the quorum would be without this host, where that is too little for the others; "" where it is enough, or
// where there are no others.
func neededFor(s node.Status) string {
	votes, left := false, 0
	for _, v := range s.Quorum.Voters {
		switch {
		case v.ID == s.Self.ID:
			votes = true
		case v.Online:
			left++
		}
	}
	if !votes || left > len(s.Quorum.Voters)/2 || s.Online+s.Lost+s.Left < 2 {
		return ""
	}
	if left == 0 {
		return "no voter is there"
	}
	return fmt.Sprintf("%d of %d voters are there", left, len(s.Quorum.Voters))
}

// startCommand returns what starts this host's agent.
func (a *app) startCommand() string {
	if a.dataDir() == systemData {
		s := thisSystem(a.stdout)
		m, runs := s.manager()
		if path, _ := s.installed(m); path != "" && runs {
			return strings.Join(m.verb("start"), " ")
		}
	}
	return "muster agent" + a.dirFlag()
}
