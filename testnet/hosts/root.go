package main

import (
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
)

// app is what all commands share.
type app struct{ name string }

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "hosts",
		Short: "A fleet on hosts made of namespaces, and everything that can go wrong with them",
		Long: `A fleet on hosts made of namespaces, and everything that can go wrong with them.

Every host n1, n2, … has its own network (10.77.0.1, 10.77.0.2, …), name, processes, files and disk, and runs the real
agent. The machine's own network and files are not touched. It needs root.`,
		Example: `  go run ./testnet/hosts up --nodes 20
  go run ./testnet/hosts shell n3
  go run ./testnet/hosts shell n3 -- muster run --all -- uptime
  go run ./testnet/hosts list
  go run ./testnet/hosts fault cut n1 n2,n3
  go run ./testnet/hosts heal
  go run ./testnet/hosts down`,
		SilenceUsage: true, SilenceErrors: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&a.name, "lan", "lab", "name of the lan, where there are several")
	root.AddCommand(newUp(a), newShell(a), newList(a), newFault(a), newHeal(a), newDown(a), newBox())
	return root
}

func (a *app) open() (*lan.Lan, error) {
	if os.Geteuid() != 0 {
		return nil, fleet.Errorf(fleet.Denied, "the hosts belong to root").Hinted("run it with sudo")
	}
	l, err := lan.Open(lan.FolderOf(a.name))
	if fleet.KindOf(err) == fleet.NotFound {
		return nil, fleet.Errorf(fleet.NotFound, "no lan %s is up", a.name).Hinted("hosts up; what was left behind is cleared away by hosts down")
	}
	return l, err
}

// pick finds hosts by their names, commas or spaces between them; "all" is all.
func pick(l *lan.Lan, words ...string) ([]*lan.Host, error) {
	var out []*lan.Host
	for _, name := range strings.FieldsFunc(strings.Join(words, ","), func(r rune) bool { return r == ',' }) {
		if name == "all" {
			return l.Hosts(), nil
		}
		h := l.Host(name)
		if h == nil {
			return nil, fleet.Errorf(fleet.NotFound, "there is no host %s", name).Hinted("there are n1 to n%d", len(l.Hosts()))
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out, nil
}

func newUp(a *app) *cobra.Command {
	var o lan.Options
	var bare bool
	cmd := &cobra.Command{
		Use: "up", Short: "Bring hosts up, found a fleet and enrol them all", Args: cobra.NoArgs,
		Long: `Bring hosts up, found a fleet on n1 and enrol all the others. Everything stays until hosts down.

The agents are built from this source, with a clock that hosts fault clock can set, unless --bin names another binary.`,
		Example: `  hosts up --nodes 20
  debootstrap bookworm /srv/bookworm && hosts up --nodes 5 --root /srv/bookworm
  hosts up --nodes 3 --bare      # no fleet: muster init and muster join are yours`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Name, o.Stays, o.Box = a.name, true, []string{"/proc/self/exe", boxCommand}
			began, out := time.Now(), cmd.OutOrStdout()
			step := func(format string, args ...any) {
				fmt.Fprintf(out, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
			}
			if o.Box[0], err = os.Executable(); err != nil {
				return err
			}
			if o.Bin == "" && os.Geteuid() == 0 {
				dir, err := os.MkdirTemp("", "muster-hosts-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				o.Bin = filepath.Join(dir, "muster")
				if err := lan.Build(cmd.Context(), o.Bin, "testclock"); err != nil {
					return err
				}
				step("muster is built")
			}
			l, err := lan.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			step("%d hosts are up", o.Hosts)
			if !bare {
				if err := found(cmd, l, step); err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "the hosts stay up; look at", filepath.Join(l.Dir(), "n1", "agent.log"))
					return err
				}
			}
			next(cmd, o, bare)
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Hosts, "nodes", 5, "how many hosts")
	cmd.Flags().StringVar(&o.Root, "root", "", "a debootstrap root that every host sees as its own files")
	cmd.Flags().StringVar(&o.Bin, "bin", "", "the muster binary, instead of a fresh one")
	cmd.Flags().BoolVar(&bare, "bare", false, "hosts only: found no fleet")
	return cmd
}

func found(cmd *cobra.Command, l *lan.Lan, step func(string, ...any)) error {
	if err := l.Found(cmd.Context()); err != nil {
		return err
	}
	step("a fleet is founded on n1")
	if err := l.Join(cmd.Context()); err != nil {
		return err
	}
	step("%d nodes are enrolled", len(l.Hosts()))
	if err := l.Settled(cmd.Context()); err != nil {
		return err
	}
	step("every node sees every node")
	return nil
}

func next(cmd *cobra.Command, o lan.Options, bare bool) {
	self := "go run ./testnet/hosts"
	if o.Name != "lab" {
		self += " --lan " + o.Name
	}
	first := "muster run --all -- uptime"
	if bare {
		first = "muster init"
	}
	last := fmt.Sprintf("n%d", o.Hosts)
	fmt.Fprintf(cmd.OutOrStdout(), `next:
  %[1]s shell n1                       a shell on n1
  %[1]s shell %[2]s -- %[3]s
  %[1]s list                           hosts, agents, what is wrong with them
  %[1]s fault --help                   what can go wrong
  %[1]s down                           end it all
`, self, last, first)
}

func newShell(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "shell NAME [-- COMMAND…]", Short: "A shell or a command on a host",
		Long: "A shell on a host, or one command. On the host, muster is at hand, and you are the operator. It exits as the command does.",
		Example: `  hosts shell n3
  hosts shell n3 -- muster status
  hosts shell n3 -- sh -c 'ip -br address; ss -ulpn'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			hosts, err := pick(l, args[0])
			if err != nil {
				return err
			}
			argv := args[1:]
			if len(argv) == 0 {
				argv = []string{"sh", "-c", "cd; exec $(command -v bash || echo sh)"}
			}
			c := hosts[0].Command(cmd.Context(), argv...)
			c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			c.WaitDelay = 0 // what it leaves behind may go on talking
			err = c.Run()
			if e, ok := errors.AsType[*osexec.ExitError](err); ok && e.ExitCode() > 0 {
				return ended{e.ExitCode()}
			}
			return err
		},
	}
}

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the hosts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tADDRESS\tAGENT\tSEES\tFAULTS")
			for _, h := range l.Hosts() {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", h.Name(), h.Addr(), agentOf(h), sees(cmd, h), strings.Join(h.Faults(), ", "))
			}
			return w.Flush()
		},
	}
}

func agentOf(h *lan.Host) string {
	switch {
	case !h.On():
		return "switched off"
	case !h.Running():
		return "none"
	case h.Paused():
		return fmt.Sprintf("paused (%d)", h.PID())
	}
	return fmt.Sprintf("runs (%d)", h.PID())
}

func sees(cmd *cobra.Command, h *lan.Host) string {
	if !h.Running() || h.Paused() {
		return "-"
	}
	s, err := h.Status(cmd.Context())
	if err != nil {
		return "does not answer"
	}
	return fmt.Sprintf("%d online, %d lost", s.Online, s.Lost)
}

func newHeal(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "heal", Short: "Undo every fault of the network", Args: cobra.NoArgs,
		Long: "Undo every fault of the network: cut, part, ring, lose, bandwidth, slow. Faults of hosts are undone by their opposites.",
		RunE: func(*cobra.Command, []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return l.Heal()
		},
	}
}

func newDown(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "down", Short: "End every process, and remove everything", Args: cobra.NoArgs,
		Long: `End every process of every host, and remove everything, also what is left of a lan that was not ended in order.

--all does so with all lans of this machine, tests' among them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := lan.Sweep(func(name string) bool { return all || name == a.name })
			for _, name := range names {
				fmt.Fprintln(cmd.OutOrStdout(), name, "is down")
			}
			if err == nil && len(names) == 0 {
				return fleet.Errorf(fleet.NotFound, "no lan %s is up, and nothing is left of one", a.name)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every lan of this machine")
	return cmd
}

const boxCommand = "box"

// newBox is the process of a slow cable; hosts starts it itself.
func newBox() *cobra.Command {
	return &cobra.Command{
		Use: boxCommand, Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return lan.RunBox(cmd.Context(), args) },
	}
}
