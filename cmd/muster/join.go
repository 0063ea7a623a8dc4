package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// maxJoinFile bounds what is read of a join file, in bytes.
const maxJoinFile = 16 << 10

func newJoinCommand(a *app) *cobra.Command {
	var (
		flags hostFlags
		file  string
	)
	cmd := &cobra.Command{
		Use: "join STRING", Short: "Enrol this host with a join string",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return lacks(cmd, fmt.Sprintf("one join string, which is one word, but got %d words", len(args)))
			}
			return nil
		},
		Long: `Enrol this host with a join string.

The string is a secret; a file (--join-file, or - for standard input) keeps it out of the process list. Then start the
agent: muster agent. Both in one: muster agent --join STRING.

--outbound is for a host that nobody can dial: behind NAT, or with no port open. It needs UDP out, to the port of the others
(7980), and nothing in. It keeps connections to two members, which carry to it what others have for it, encrypted end to end;
all that works on other nodes works on it, but it never keeps the fleet's state. The folder remembers it.`,
		Example: `  muster join muster-join-1.kcQg…
  muster join --join-file /root/join --name web2 --advertise 10.0.0.2:7980
  muster join --join-file /root/join --name till7 --outbound`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.joinText(args, file)
			if err != nil {
				return err
			}
			n, err := flags.newHost(a)
			if err != nil {
				return err
			}
			name, err := a.enrol(cmd.Context(), n, text)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is enrolled in fleet %s\n", n.Name, name)
			if start := a.startService(cmd.Context()); start != "" {
				fmt.Fprintf(a.stdout, "next: %s\n", start)
				return nil
			}
			a.awaitAgent(cmd.Context(), 2)
			fmt.Fprintln(a.stdout, "its agent runs: muster status")
			return nil
		},
	}
	flags.register(cmd)
	flags.registerOutbound(cmd)
	cmd.Flags().StringVar(&file, "join-file", "", "read the join string from a file, or - from standard input")
	return cmd
}

// joinText returns the join string, wherever it was given.
func (a *app) joinText(args []string, file string) (string, error) {
	switch {
	case len(args) == 1 && file == "":
		return args[0], nil
	case len(args) == 1 || file == "":
		return "", fleet.Errorf(fleet.Invalid, "give one join string: as an argument or with --join-file").
			Hinted("on a host of the fleet: muster token create")
	}
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fleet.Errorf(fleet.Invalid, "cannot read the join string: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxJoinFile))
	if err != nil {
		return "", fleet.Errorf(fleet.Invalid, "cannot read the join string: %w", err)
	}
	return string(raw), nil
}

func (a *app) enrol(ctx context.Context, n host.NewHost, text string) (fleetName string, err error) {
	join, err := auth.ParseJoinString(text)
	if err != nil {
		return "", err
	}
	return host.Join(ctx, n, join, a.clock(), slog.New(slog.DiscardHandler))
}
