package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// write prints the report.
func (r report) write(asJSON bool, w io.Writer) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(r.Spreads) > 0 {
		fmt.Fprintln(w, "Commands without limits, to all nodes. HAD: until that many nodes had the order; TOLD: until servers had the last reports of\n"+
			"that many; both since the quorum took it. COST: datagrams and bytes per node of a command that rides on its bell, and of\n"+
			"one that is FETCHED with its set; at REST: per node and second.")
		fmt.Fprintln(out, "nodes\tlost\tsent\tHAD 50 %\t99 %\t99.9 %\tall\tTOLD 50 %\t99 %\t99.9 %\tall\tCOST\tbytes\tFETCHED\tbytes\tREST\tbytes\t")
	}
	for _, s := range r.Spreads {
		fmt.Fprintf(out, "%d\t%.0f %%\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%s\t%.1f\t%s\t%.2f\t%s\t\n", s.Nodes, 100*s.Loss, s.Commands,
			seconds(s.Had.Half), seconds(s.Had.P99), seconds(s.Had.P999), seconds(s.Had.All),
			seconds(s.Told.Half), seconds(s.Told.P99), seconds(s.Told.P999), seconds(s.Told.All),
			s.Messages, size(s.Bytes), s.Fetched, size(s.FetchedSize), s.Rest, size(s.RestSize))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, t := range r.Rollouts {
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

func (t tally) write(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "\nROLLOUTS at %d nodes: %d (%d strict) in %d worlds, with %d gates and on-stops; %d runs, %d of them of unknown end; %d were stopped, %d cancelled\n",
		t.Nodes, t.Rollouts, t.Strict, t.Seasons, t.Followers, t.Runs, t.Unknown, t.Stopped, t.Cancelled)
	fmt.Fprintf(&text, "  %s of virtual time, %d steps, %d elections, %d silent places given away; at most %s from healing to the end of all (seed %d); %.1f datagrams and %s per run\n",
		t.Virtual.Round(time.Minute), t.Steps, t.Terms, t.Freed, t.Longest.Round(time.Second), t.Longer, t.Messages, size(t.Bytes))
	fmt.Fprintf(&text, "  faults: %s\n", counts(t.Faults))
	fmt.Fprintf(&text, "  answers to questions for a grant: %s\n", counts(t.Answers))
	fmt.Fprintf(&text, "  violations: %d; rollouts without an end: %d; nodes of which what was agreed is not so: %d; trace %016x\n",
		len(t.Violations), len(t.Stuck), len(t.Lies), t.Trace)
	for _, v := range t.Violations[:min(len(t.Violations), 10)] {
		fmt.Fprintf(&text, "    %s\n", v)
	}
	for _, s := range t.Stuck[:min(len(t.Stuck), 5)] {
		fmt.Fprintf(&text, "    without an end: %s\n", s)
	}
	for _, s := range t.Refused[:min(len(t.Refused), 5)] {
		fmt.Fprintf(&text, "    not taken: %s\n", s)
	}
	for _, s := range t.Lies[:min(len(t.Lies), 5)] {
		fmt.Fprintf(&text, "    not so: %s\n", s)
	}
	if len(t.Seeds) > 0 {
		fmt.Fprintf(&text, "  seeds: %v\n", t.Seeds[:min(len(t.Seeds), 20)])
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func size(bytes float64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MB", bytes/(1<<20))
	case bytes >= 10<<10:
		return fmt.Sprintf("%.0f KB", bytes/(1<<10))
	}
	return fmt.Sprintf("%.0f B", bytes)
}

func counts(of map[string]int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		out = append(out, fmt.Sprintf("%s %d", name, of[name]))
	}
	return strings.Join(out, ", ")
}
