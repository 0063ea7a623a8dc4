package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func newShellCommand(a *app) *cobra.Command {
	var f sessionFlags
	cmd := sessionCommand(&cobra.Command{
		Use: "shell NODE", Short: "Open a shell on one node", Args: exactly(1, "one NODE: a name, an ID or the beginning of one"),
		Long: `Open the login shell of an account on one node, on this terminal. It needs no quorum, no ssh and no open port but the fleet's
own: the node judges your signature by itself, and records the session.

When the network is lost, or changes, or the agent there is restarted, the shell goes on where it was. It ends with exit, or
with ~. at the beginning of a line; ~? lists what else there is. Where policy lets you, --user root is a shell of root's.

With --doc a session document says what it is: a shell with the account, limits and profile that it names, or its commands on
this terminal. muster doc help NAME says which, and what --param may be.

It exits as the shell does. 255 says that something failed of muster's, and what.`,
		Example: `  muster shell web07
  muster shell web07 --user root --reason 'ticket 4711: nginx does not start'
  muster shell web07 --timeout 1h
  muster shell web07 --doc Logs --param unit=nginx`,
		ValidArgsFunction: a.completeNodes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.shell(cmd.Context(), f, args[0]) },
	})
	f.programFlags(cmd)
	f.documentFlags(a, cmd)
	return cmd
}

func (a *app) shell(ctx context.Context, f sessionFlags, name string) error {
	if err := f.check(); err != nil {
		return err
	}
	if !isTerminal(a.stdin) {
		return fleet.Errorf(fleet.Invalid, "a shell needs a terminal, and standard input is none").
			Hinted("muster exec %s -- COMMAND, or muster exec %[1]s -- sh -s < SCRIPT", name)
	}
	if f.doc != "" {
		return a.sitBy(ctx, f, name, "shell", true, false)
	}
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	s := f.session(auth.SessionShell)
	s.Terminal, s.Env = []auth.Terminal{a.terminalHere()}, a.environmentHere(f.env)
	return a.sit(ctx, v, s, a.stdin)
}
