package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
)

// app is what every subcommand has at hand.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	euid   int
	flags  globalFlags
	// started is set when flags and arguments were understood.
	started bool
	via     *via // the way to the fleet where it is not the local agent; nil: none was asked for yet
	// interrupts returns a channel of Ctrl-C's and a function that gives them back to the system.
	interrupts func() (<-chan os.Signal, func())
}

type globalFlags struct {
	dataDir  string
	socket   string
	via      string
	noVia    bool // --via "": the local agent, whatever the environment says
	identity string
	output   string
	noColor  bool
}

// run is the whole command line; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runApp(ctx, &app{
		stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, euid: os.Geteuid(), interrupts: notifyInterrupts,
	}, args)
}

func runApp(ctx context.Context, a *app, args []string) int {
	defer a.closeVia()
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exec.ExitOK
	}
	if code, ok := errors.AsType[exitCode](err); ok { // everything is said already
		return int(code)
	}
	if _, ours := errors.AsType[*fleet.Error](err); !ours && !a.started { // cobra's word on flags and arguments
		err = fleet.Errorf(fleet.Invalid, "%w", err).Hinted("muster --help")
	}
	a.printError(err)
	if _, passes := cmd.Annotations[passesExit]; passes {
		return exitOurs
	}
	return exitOf(err)
}

func notifyInterrupts() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, os.Interrupt)
	return c, func() { signal.Stop(c) }
}

// exitCode ends the program with a code when all has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// exitOf maps an error to what the program exits with.
func exitOf(err error) int {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		return exec.ExitFailed
	}
	switch e.Kind {
	case fleet.Invalid:
		return exec.ExitUsage
	case fleet.Denied, fleet.Expired, fleet.Conflict:
		return exec.ExitRefused
	case fleet.Unavailable:
		return exec.ExitUnknown
	case fleet.Internal, fleet.NotFound, fleet.Exhausted:
		return exec.ExitFailed
	}
	return exec.ExitFailed
}

// printError says what went wrong and what mends it. Errors carry text of other hosts, so they are made printable.
func (a *app) printError(err error) {
	fmt.Fprintf(a.stderr, "muster: %s\n", printable(err.Error()))
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		fmt.Fprintf(a.stderr, "  → %s\n", printable(e.Hint))
	}
}

// say writes one line about the answer, not of it.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...)))
}

// client returns a client of the local agent, or of the one that --via names.
func (a *app) client() *api.Client {
	if v := a.viaHost(); v != nil {
		return v.client
	}
	return api.Dial(a.socketPath())
}

// proving returns a client of the same agent that believes it nothing of what operators and nodes have signed.
func (a *app) proving(c *api.Client) *api.Client {
	if a.viaHost() != nil {
		return c // it is one
	}
	return c.Verified(a.newOwnRecord(c))
}

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "muster",
		Short: "A fleet agent without a server",
		Long: `muster runs commands on any host of a fleet from any other, without a server in between.

Exit codes: 0 all succeeded, 1 some failed, 2 usage, 3 refused, 4 stopped by the error budget, 5 some unknown or not
reached. shell and exec exit as their program does; there, and of forward and ssh-proxy, 255 is muster's own.`,
		Example: `  muster init --fleet lab                          found a fleet on this host
  muster token create --uses 10                    make a join string for more hosts
  muster node list                                 see who is there
  muster run --target 'tag.role=web' -- uptime     run a command on some of them
  muster doc help AWS-RunShellScript               see what a document takes`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.flags.dataDir, "data-dir", "", "folder of the agent's data [$MUSTER_DATA_DIR]")
	flags.StringVar(&a.flags.socket, "socket", "", "socket of the local agent [$MUSTER_SOCKET]")
	flags.StringVar(&a.flags.via, "via", "", "HOST:PORT of a host of the fleet, where there is no local agent: your key is enough [$MUSTER_VIA]")
	flags.StringVar(&a.flags.identity, "identity", "", "file of the operator's key [$MUSTER_IDENTITY]")
	flags.StringVarP(&a.flags.output, "output", "o", "table", "form of the answer: table, wide, json, jsonl, yaml or name")
	flags.BoolVar(&a.flags.noColor, "no-color", false, "no colours, also on terminals [$NO_COLOR]")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fleet.Errorf(fleet.Invalid, "%w", err).Hinted("%s --help", cmd.CommandPath())
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		a.started = true
		a.flags.noVia = a.flags.via == "" && cmd.Flags().Changed("via")
		if err := a.refuseVia(cmd); err != nil {
			return err
		}
		return checkForm(a.flags.output, formsOf(cmd)...)
	}
	_ = root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return append(forms(), formsOf(cmd)...), cobra.ShellCompDirectiveNoFileComp
	})
	root.AddCommand(
		newInitCommand(a), newJoinCommand(a), newAgentCommand(a), newDemoCommand(a),
		newRunCommand(a), newDocCommand(a), newCommandCommand(a), newWhyCommand(a), newGroupCommand(a), newSettingCommand(a),
		newShellCommand(a), newExecCommand(a), newForwardCommand(a), newSSHProxyCommand(a), newCpCommand(a), newSessionCommand(a),
		newParamCommand(a), newKeyringCommand(a),
		newConfigCommand(a), newNodeCommand(a), newTokenCommand(a), newOperatorCommand(a), newQuorumCommand(a), newStatusCommand(a), newTopCommand(a), newDoctorCommand(a), newDebugCommand(a),
		newUpgradeCommand(a), newVersionCommand(a), newManualCommand(a),
	)
	return root
}

// newNoun returns a command that only holds verbs.
func newNoun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	noun := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for i, verb := range verbs {
		noun.Example += strings.TrimRight(verb.Example, "\n")
		if i < len(verbs)-1 {
			noun.Example += "\n"
		}
	}
	noun.AddCommand(verbs...)
	return noun
}

// noArgs refuses arguments, and says what near command there is.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fleet.Errorf(fleet.Invalid, "%s has no command %q", cmd.CommandPath(), args[0]).Hinted("%s --help", cmd.CommandPath())
	if !cmd.HasSubCommands() {
		return fleet.Errorf(fleet.Invalid, "%s takes no arguments, but got %q", cmd.CommandPath(), args[0]).Hinted("%s --help", cmd.CommandPath())
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return err.Hinted("did you mean %s %s?", cmd.CommandPath(), near[0])
	}
	return err
}

// exactly wants n arguments, called what.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return lacks(cmd, what)
	}
}

func lacks(cmd *cobra.Command, what string) error {
	return fleet.Errorf(fleet.Invalid, "%s needs %s", cmd.CommandPath(), what).Hinted("%s --help", cmd.CommandPath())
}

func printable(text string) string { return string(exec.Printable([]byte(text))) }
