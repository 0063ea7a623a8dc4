package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
)

func newDoctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "doctor [NODE]", Short: "Look for what is wrong with this host", Args: cobra.MaximumNArgs(1),
		Long: `Look for what is wrong with this host: its agent and service, disk, clock and keys, what its data folder takes of the disk,
the ways between it and a few members in both directions, and the quorum as it sees it. With NODE it looks at the way between
this host and that node alone. It takes up to fifteen seconds, works without a quorum, and, on the host itself, without its agent.

What is wrong stands last, each with what was found and, behind an arrow, what mends it. It exits 1 when something is a problem;
warnings and notes are none.`,
		Example: `  muster doctor
  muster doctor web2
  muster doctor -o json
  muster run --all -- muster doctor`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			e, err := a.examine(cmd.Context(), name)
			if err != nil {
				return err
			}
			return a.sayDiagnosis(e, diagnose(e))
		},
		ValidArgsFunction: a.completeNodes,
	}
}

// sayDiagnosis shows what was found, and returns exit 1 if something is a problem.
func (a *app) sayDiagnosis(e examined, all []shape.Finding) error {
	answer := doctorShape(e, all)
	switch {
	case a.flags.output == asNames:
		for _, f := range all {
			if f.Level != levelOK {
				fmt.Fprintln(a.stdout, printable(f.Check))
			}
		}
	case a.flags.output == asLines:
		for _, f := range all {
			if err := a.printLine(f); err != nil {
				return err
			}
		}
	case !a.forPeople():
		if err := a.printData(answer); err != nil {
			return err
		}
	default:
		if len(answer.Stores) > 0 {
			storeListing().table(a, answer.Stores)
			fmt.Fprintln(a.stdout)
		}
		a.showFindings(all)
		fmt.Fprintln(a.stdout, verdict(answer.Node, all))
	}
	if !answer.Healthy {
		return exitCode(exec.ExitFailed)
	}
	return nil
}

func doctorShape(e examined, all []shape.Finding) shape.Doctor {
	out := shape.Doctor{Format: shape.Format, Healthy: healthy(all), Findings: all, Stores: make([]shape.Store, 0, len(e.stores))}
	if e.agent != nil {
		out.Node = e.agent.Node.Name
	}
	for _, s := range e.stores {
		out.Stores = append(out.Stores, shape.Store(s))
	}
	return out
}

// severity orders levels, the best first: what is wrong stands last, where a terminal shows it.
func severity(level string) int {
	return slices.Index([]string{levelOK, levelNote, levelWarning, levelProblem}, level)
}

func (a *app) showFindings(all []shape.Finding) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(x, y shape.Finding) int { return cmp.Compare(severity(x.Level), severity(y.Level)) })
	colours := a.colours(a.stdout)
	for _, f := range sorted {
		head := fmt.Sprintf("%-7s", f.Level)
		if colours {
			head = levelTint(f.Level).on(head)
		}
		fmt.Fprintf(a.stdout, "%s  %-9s  %s\n", head, f.Check, oneLine(f.What))
		if f.Evidence != "" {
			fmt.Fprintf(a.stdout, "%20s%s\n", "", oneLine(f.Evidence))
		}
		if f.Mend != "" {
			fmt.Fprintf(a.stdout, "%18s→ %s\n", "", oneLine(f.Mend))
		}
	}
}

func levelTint(level string) tint {
	switch level {
	case levelProblem:
		return red
	case levelWarning:
		return yellow
	case levelOK:
		return green
	}
	return plain
}

// verdict is the last line: how many of what.
func verdict(name string, all []shape.Finding) string {
	count := map[string]int{}
	for _, f := range all {
		count[f.Level]++
	}
	var parts []string
	for _, level := range []string{levelProblem, levelWarning, levelNote} {
		if n := count[level]; n > 0 {
			parts = append(parts, counted(n, level))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing is wrong"}
	}
	return cmp.Or(name, "this host") + ": " + strings.Join(parts, ", ")
}

func storeListing() listing[shape.Store] {
	return listing[shape.Store]{
		columns: []column[shape.Store]{
			{head: "WHAT", cell: func(s shape.Store) string { return s.What }},
			{head: "TAKES", cell: func(s shape.Store) string { return byteText(s.Bytes) }},
			{head: "BOUND", cell: func(s shape.Store) string {
				if s.Bound == 0 {
					return "-"
				}
				return byteText(s.Bound)
			}},
			{head: "ITEMS", cell: func(s shape.Store) string {
				if s.Items == 0 {
					return "-"
				}
				return fmt.Sprint(s.Items)
			}},
			{head: "DISK LEFT", cell: func(s shape.Store) string { return byteText(s.Free) }},
			{head: "PATH", cell: func(s shape.Store) string { return s.Path }},
		},
		name: func(s shape.Store) string { return s.What },
	}
}

// byteText writes a size in the unit that leaves three digits.
func byteText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", size), ".0") + " " + units[unit]
}
