package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
)

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how this host and its fleet are", Args: noArgs,
		Long: "Show how this host and its fleet are. Everybody on a host may ask.",
		Example: `  muster status
  muster status -o json
  muster status -o metrics     # what this host's agent measures, as Prometheus reads it`,
		Annotations: map[string]string{hasForms: asMetrics},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.flags.output == asMetrics {
				return a.printMetrics(cmd.Context())
			}
			s, err := a.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.showOne(shape.OfStatus(s), s.Self.Name, statusFacts(s)); err != nil {
				return err
			}
			if a.forPeople() {
				for _, w := range s.Warnings {
					a.say("! %s", w)
				}
			}
			return nil
		},
	}
}

// asMetrics is a form of muster status alone: Prometheus' text format.
const asMetrics = "metrics"

func (a *app) printMetrics(ctx context.Context) error {
	text, err := a.client().Metrics(ctx)
	if err == nil {
		_, err = a.stdout.Write(text)
	}
	return err
}

func statusFacts(s node.Status) []fact {
	facts := []fact{{"host", s.Self.Name + "  " + s.Self.ID.String()}}
	if s.Fleet.IsZero() {
		return append(facts, fact{"fleet", "none yet: muster init or muster join"}, fact{"version", s.Version})
	}
	return append(facts,
		fact{"fleet", s.FleetName + "  " + s.Fleet.String()},
		fact{"role", string(s.Self.Role)},
		fact{"nodes", fmt.Sprintf("%d online, %d lost, %d left", s.Online, s.Lost, s.Left)},
		fact{"quorum", quorumLine(s.Quorum)},
		fact{"danger", s.Quorum.Danger},
		fact{"tags", tagText(s.Self.Tags)},
		fact{"seen at", observed(s)},
		fact{"reached", reached(s)},
		fact{"record", fmt.Sprintf("%d acts, charter of %d entries (%s)", s.RecordLen, s.CharterLen, s.CharterHead)},
		fact{"agent", agentLine(s.Agent)},
		fact{"version", s.Version},
	)
}

func agentLine(u node.Usage) string {
	if u == (node.Usage{}) {
		return ""
	}
	return fmt.Sprintf("%d MiB of memory, %d goroutines, %d files", (u.RSS+1<<19)>>20, u.Goroutines, u.Files)
}

// reached says through whom an outbound-only host is reached; nothing of others.
func reached(s node.Status) string {
	if !s.Outbound {
		return ""
	}
	var names []string
	for _, u := range s.Uplinks {
		names = append(names, u.Name)
	}
	if len(names) == 0 {
		return "by nobody: outbound-only, and no uplink stands"
	}
	return "through " + strings.Join(names, ", ") + " (outbound-only)"
}

func observed(s node.Status) string {
	var out []string
	for _, addr := range s.Observed {
		out = append(out, addr.String())
	}
	return strings.Join(out, ", ")
}
