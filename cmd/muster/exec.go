package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func newExecCommand(a *app) *cobra.Command {
	f := execFlags{}
	cmd := sessionCommand(&cobra.Command{
		Use: "exec NODE [flags] {-- COMMAND… | --doc NAME}", Short: "Run a program on one node, with its input and output here",
		Long: `Run a program on one node as if it were here: it reads this standard input, and writes to this standard output and standard
error, each to its own. It needs no quorum: the node judges your signature by itself. muster run is for many nodes.

One argument is a shell line (sh -c); several are a program with its arguments, without a shell.

With --tty it gets a terminal, as what draws on the screen needs; standard output and standard error are one then. Ctrl-C
goes to the program; without a terminal, a second one ends the session. When the network is lost, or the agent there is
restarted, it goes on where it was; when this program ends, so does that on the node.

With --doc a session document says what runs, with which account and limits, and --param what its parameters are: of a rule for
it, policy needs no other. It has a terminal if it is of type InteractiveCommands, else neither that nor input.

It exits as the program does: with its code, or 128 and the number of the signal that ended it. 255 says that something
failed of muster's, and what.`,
		Example: `  muster exec web07 -- uptime
  muster exec web07 -- 'journalctl -u nginx | tail'
  muster exec web07 --tty -- top
  muster exec web07 --doc Restart --param unit=nginx
  muster exec db01 --user postgres -- pg_dump shop > shop.sql
  tar c site | muster exec web07 --user www-data -- tar x -C /srv`,
		Args:              func(cmd *cobra.Command, args []string) error { return f.args(cmd, args) },
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.exec(cmd.Context(), f, args[0], args[1:])
		},
	})
	flags := cmd.Flags()
	flags.BoolVarP(&f.tty, "tty", "t", false, "give it a terminal")
	flags.BoolVarP(&f.noStdin, "no-stdin", "n", false, "give it no input: leave standard input to others, as in a loop that reads")
	f.programFlags(cmd)
	f.documentFlags(a, cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fleet.Errorf(fleet.Invalid, "%w", err).Hinted("what belongs to the program stands behind --: muster exec NODE -- COMMAND")
	})
	return cmd
}

type execFlags struct {
	sessionFlags
	tty     bool
	noStdin bool
}

// args wants one NODE, and what to run or the document that says it.
func (f execFlags) args(cmd *cobra.Command, args []string) error {
	switch {
	case f.doc == "":
		return execArgs(cmd, args)
	case len(args) == 0:
		return lacks(cmd, "a NODE")
	case len(args) > 1:
		return fleet.Errorf(fleet.Invalid, "document %s says what runs, and takes %q only as values", f.doc, strings.Join(args[1:], " ")).
			Hinted("muster exec %s --doc %s --param NAME=VALUE", args[0], f.doc)
	}
	return nil
}

// execArgs wants one NODE, -- and what to run.
func execArgs(cmd *cobra.Command, args []string) error {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) == 0 || dash == 0:
		return lacks(cmd, "a NODE, and behind -- what to run there")
	case dash < 0 && len(args) > 1:
		return fleet.Errorf(fleet.Invalid, "what to run stands behind --").Hinted("muster exec %s -- %s", args[0], strings.Join(args[1:], " "))
	case dash > 1:
		return fleet.Errorf(fleet.Invalid, "%s stand before --; muster exec is for one node", strings.Join(args[:dash], ", ")).
			Hinted("muster run --target '%s' -- %s", strings.Join(args[:dash], ","), strings.Join(args[dash:], " "))
	case len(args) == 1:
		return fleet.Errorf(fleet.Invalid, "nothing to run on %s", args[0]).Hinted("muster exec %s -- COMMAND, or muster shell %[1]s", args[0])
	}
	return nil
}

func (a *app) exec(ctx context.Context, f execFlags, name string, words []string) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.doc != "" {
		return a.sitBy(ctx, f.sessionFlags, name, "exec", f.tty, f.noStdin)
	}
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	s := f.session(auth.SessionExec)
	s.Argv = words
	if f.tty {
		s.Terminal, s.Env = []auth.Terminal{a.terminalHere()}, a.environmentHere(f.env)
	}
	in := a.stdin
	if f.noStdin {
		in = strings.NewReader("")
	}
	return a.sit(ctx, v, s, in)
}
