package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table shows a report to people: one row a figure, one column a size of fleet, in the order in which they were measured.
func (r report) table(w io.Writer) error {
	m := r.machine
	fmt.Fprintf(w, "muster %s, %s, took %s\n", r.version, r.began.Format(time.DateTime), r.took.Round(time.Second))
	fmt.Fprintf(w, "%d CPUs (%s), %s of memory, kernel %s, %s, load %s before, %s after\n",
		m.CPUs, m.CPU, octets.text(float64(m.Memory)), m.Kernel, m.Disk, m.LoadBefore, m.LoadAfter)
	fmt.Fprintln(w, "! behind a value: it misses its aim. MB are 1,000,000 bytes, CPU is of one processor.")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(r.fleets) > 0 {
		fmt.Fprintln(w)
		r.rows(t)
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, alone := range [][]figure{r.binary, r.alone} {
		if len(alone) == 0 {
			continue
		}
		fmt.Fprintln(w)
		for _, f := range alone {
			fmt.Fprintf(t, "%s\t%s\t%s\t\n", f.name, marked(f), aimText(f))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	notes(w, append(slices.Clone(r.fleets), fleetReport{figures: r.alone}))
	for _, f := range r.fleets {
		for _, failure := range f.failures {
			fmt.Fprintf(w, "FAILED with %d nodes: %s\n", f.nodes, failure)
		}
	}
	return nil
}

// rows writes the figures of all fleets beside each other.
func (r report) rows(t io.Writer) {
	heads, loads := []string{""}, []string{"load before, after"}
	for _, f := range r.fleets {
		heads = append(heads, fmt.Sprintf("%d nodes", f.nodes))
		loads = append(loads, fmt.Sprintf("%.1f, %.1f", f.loadBefore[0], f.loadAfter[0]))
	}
	fmt.Fprintf(t, "%s\taim\t\n", strings.Join(heads, "\t"))
	for _, key := range keysInOrder(r.fleets) {
		var cells []string
		var name, aim string
		for _, f := range r.fleets {
			cell := "-"
			if at := find(f.figures, key); at >= 0 {
				name, aim, cell = f.figures[at].name, aimText(f.figures[at]), marked(f.figures[at])
			}
			cells = append(cells, cell)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", name, strings.Join(cells, "\t"), aim)
	}
	fmt.Fprintf(t, "%s\t\t\n", strings.Join(loads, "\t"))
}

// keysInOrder lists the keys of all fleets' figures, each once, as they were measured.
func keysInOrder(fleets []fleetReport) []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range fleets {
		for _, g := range f.figures {
			if !seen[g.key] {
				seen[g.key] = true
				out = append(out, g.key)
			}
		}
	}
	return out
}

func find(figures []figure, key string) int {
	for i, f := range figures {
		if f.key == key {
			return i
		}
	}
	return -1
}

// marked is the value, with a mark when it misses its aim. The mark's place is always taken, so that digits stand in line.
func marked(f figure) string {
	if f.met() {
		return f.unit.text(f.value) + "  "
	}
	return f.unit.text(f.value) + " !"
}

func aimText(f figure) string {
	if f.aim == 0 {
		return ""
	}
	if f.least {
		return "≥ " + f.unit.text(f.aim)
	}
	return f.unit.text(f.aim)
}

// notes says, once each, what the numbers alone do not.
func notes(w io.Writer, fleets []fleetReport) {
	said := map[string]bool{}
	for _, f := range fleets {
		for _, g := range f.figures {
			if line := g.name + ": " + g.note; g.note != "" && !said[line] {
				if len(said) == 0 {
					fmt.Fprintln(w)
				}
				said[line] = true
				fmt.Fprintf(w, "* %s\n", line)
			}
		}
	}
}
