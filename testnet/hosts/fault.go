package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

func newFault(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "fault VERB …", Short: "Let something go wrong",
		Long: `Let something go wrong. HOSTS are names with commas or spaces between them, or all.

Faults of the network are undone by hosts heal, those of hosts by their opposites.`,
		Example: `  hosts fault part n1                            # n1 alone, the others together
  hosts fault cut n1 n2,n3                       # nothing from n1 arrives at n2 and n3
  hosts fault lose 30                            # of every hundred packets
  hosts fault slow n4 --delay 200ms --duplicate 10 --reorder 10
  hosts fault kill n1; hosts fault start n1
  hosts fault clock n2 -- -1h
  hosts fault hide n4 on                         # start it with --outbound then
  hosts fault fill-disk n5`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fleet.Errorf(fleet.Invalid, "there is no fault %s", args[0]).Hinted("hosts fault --help")
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		a.verb("cut FROM TO", "Nothing from FROM arrives at TO; the other direction stays", 2, func(l *lan.Lan, args []string) error {
			from, err := pick(l, args[0])
			if err != nil {
				return err
			}
			to, err := pick(l, args[1])
			if err != nil {
				return err
			}
			return l.Cut(from, to)
		}),
		a.verb("ring", "Each host sees its two neighbours only", 0, func(l *lan.Lan, _ []string) error { return l.Ring() }),
		a.several("part HOSTS…", "These hosts and the others do not hear each other", func(l *lan.Lan, hosts []*lan.Host) error { return l.Part(hosts...) }),
		a.atLeast("lose PERCENT [HOSTS…]", "So many packets of a hundred are lost, of these hosts or of all", 1, func(l *lan.Lan, args []string) error {
			percent, err := strconv.Atoi(args[0])
			if err != nil {
				return notA(args[0], "number of packets of a hundred")
			}
			hosts, err := pick(l, args[1:]...)
			if err != nil {
				return err
			}
			return l.Lose(percent, hosts...)
		}),
		setting(a, "bandwidth HOSTS BITS", "So many bits pass in a second, k, M and G understood; 0 lifts it", readBits, (*lan.Host).Bandwidth),
		newSlow(a),
		setting(a, "clock HOSTS OFFSET", "The agent's clock is off by so much: 1h, 0, or, behind --, -87600h", readOffset, (*lan.Host).Clock),
		setting(a, "move HOSTS ADDRESS", "The host gets another address of 10.77.0.0/16", readAddr, (*lan.Host).Move),
		setting(a, "hide HOSTS on|off", "A firewall lets in only what answers the host, and NAT is between it and the others", readSwitch, (*lan.Host).Hide),
		setting(a, "read-only HOSTS on|off", "The disk of the data folder takes no writes", readSwitch, (*lan.Host).ReadOnly),
		newLimit(a),
	)
	for _, v := range []struct {
		name, short string
		do          func(*lan.Host) error
	}{
		{"kill", "SIGKILL to the agent", (*lan.Host).Kill},
		{"stop", "SIGTERM to the agent", (*lan.Host).Stop},
		{"start", "Start the agent; switch the host on, if need be", func(h *lan.Host) error { return h.Start() }},
		{"restart", "Stop the agent and start it", (*lan.Host).Restart},
		{"pause", "SIGSTOP to the agent", (*lan.Host).Pause},
		{"resume", "SIGCONT to the agent", (*lan.Host).Resume},
		{"power-cut", "End every process of the host at once", (*lan.Host).PowerCut},
		{"power-on", "Switch the host on, without its agent", (*lan.Host).PowerOn},
		{"fill-disk", "Take all room on the disk of the data folder", (*lan.Host).FillDisk},
		{"free-disk", "Give it back", (*lan.Host).FreeDisk},
	} {
		cmd.AddCommand(a.several(v.name+" HOSTS…", v.short, func(_ *lan.Lan, hosts []*lan.Host) error { return each(hosts, v.do) }))
	}
	return cmd
}

// each does it for all, also when it fails for one.
func each(hosts []*lan.Host, do func(*lan.Host) error) error {
	var first error
	for _, h := range hosts {
		if err := do(h); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", h.Name(), err)
		}
	}
	return first
}

func (a *app) command(use, short string, args cobra.PositionalArgs, do func(*lan.Lan, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return do(l, args)
		},
	}
}

func (a *app) verb(use, short string, args int, do func(*lan.Lan, []string) error) *cobra.Command {
	return a.command(use, short, cobra.ExactArgs(args), do)
}

func (a *app) atLeast(use, short string, args int, do func(*lan.Lan, []string) error) *cobra.Command {
	return a.command(use, short, cobra.MinimumNArgs(args), do)
}

func (a *app) several(use, short string, do func(*lan.Lan, []*lan.Host) error) *cobra.Command {
	return a.atLeast(use, short, 1, func(l *lan.Lan, args []string) error {
		hosts, err := pick(l, args...)
		if err != nil {
			return err
		}
		return do(l, hosts)
	})
}

// setting sets one value on hosts.
func setting[T any](a *app, use, short string, read func(string) (T, error), set func(*lan.Host, T) error) *cobra.Command {
	return a.verb(use, short, 2, func(l *lan.Lan, args []string) error {
		hosts, err := pick(l, args[0])
		if err != nil {
			return err
		}
		value, err := read(args[1])
		if err != nil {
			return err
		}
		return each(hosts, func(h *lan.Host) error { return set(h, value) })
	})
}

func newSlow(a *app) *cobra.Command {
	var p slowlink.Params
	cmd := a.several("slow HOSTS…", "What these hosts send is late, doubled or out of order; without flags, not any more", func(_ *lan.Lan, hosts []*lan.Host) error {
		return each(hosts, func(h *lan.Host) error { return h.Slow(p) })
	})
	cmd.Flags().DurationVar(&p.Delay, "delay", 0, "every packet is so late")
	cmd.Flags().DurationVar(&p.Jitter, "jitter", 0, "and up to so much later, in order")
	cmd.Flags().IntVar(&p.Duplicate, "duplicate", 0, "so many packets of a hundred arrive twice")
	cmd.Flags().IntVar(&p.Reorder, "reorder", 0, "so many packets of a hundred do not wait")
	cmd.Flags().Uint64Var(&p.Seed, "seed", 0, "of what is drawn")
	return cmd
}

func newLimit(a *app) *cobra.Command {
	var limits lan.Limits
	cmd := a.several("limit HOSTS…", "Bound the agent, from its next start on; without flags, not any more", func(_ *lan.Lan, hosts []*lan.Host) error {
		return each(hosts, func(h *lan.Host) error { return h.Limit(limits) })
	})
	cmd.Flags().Uint64Var(&limits.Files, "files", 0, "open file descriptors of each process")
	cmd.Flags().Uint64Var(&limits.Memory, "memory", 0, "bytes of memory of each process")
	cmd.Flags().Uint64Var(&limits.Processes, "processes", 0, "processes and threads, all together")
	return cmd
}

func readBits(text string) (int, error) {
	units := map[string]int{"k": 1e3, "M": 1e6, "G": 1e9}
	unit, factor := "", 1
	if text != "" {
		unit = text[len(text)-1:]
	}
	if f, ok := units[unit]; ok {
		text, factor = text[:len(text)-1], f
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || int64(n) > 1e12/int64(factor) {
		return 0, notA(text, "number of bits: 500k, 2M")
	}
	return n * factor, nil
}

func readOffset(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, notA(text, "time: 1h, 90s, -87600h")
	}
	return d, nil
}

func readAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, notA(text, "address: 10.77.1.5")
	}
	return addr, nil
}

func readSwitch(text string) (bool, error) {
	switch text {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, notA(text, "switch: on or off")
}

func notA(text, what string) error { return fleet.Errorf(fleet.Invalid, "%q is no %s", text, what) }
