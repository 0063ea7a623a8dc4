package main

import (
	"fmt"
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// printOutcomes prints what a command came to, equal results once unless told otherwise, and reports whether anything is
// shown short.
func (a *app) printOutcomes(outcomes []exec.Outcome, name func(fleet.ID) string, how showing) (shortened bool) {
	switch {
	case how.noFold:
		var each []exec.Group
		for _, o := range sortedByName(outcomes, name) {
			each = append(each, exec.Fold([]exec.Outcome{o}, name)...)
		}
		return a.printGroups(each)
	case how.diff:
		return a.printDiffs(exec.Fold(outcomes, name))
	}
	return a.printGroups(exec.Fold(outcomes, name))
}

// printGroups prints groups with their output, and reports whether anything is shown short.
func (a *app) printGroups(groups []exec.Group) (shortened bool) {
	for i, g := range groups {
		a.printHead(g)
		out := printStream(a.stdout, "", g.Stdout)
		err := printStream(a.stdout, "stderr:", g.Stderr)
		shortened = shortened || out || err
		if i < len(groups)-1 && (g.Stdout.Size > 0 || g.Stderr.Size > 0) {
			fmt.Fprintln(a.stdout)
		}
	}
	return shortened
}

// printHead prints who is in a group and what it came to.
func (a *app) printHead(g exec.Group) {
	head := fmt.Sprintf("%s (%d)", fleet.FoldNames(g.Names), len(g.Names))
	if len(g.Names) == 1 {
		head = g.Names[0]
	}
	text := label(g.Status, g.ExitCode, g.Signal, g.Reachable)
	if g.Detail != "" {
		text += ": " + g.Detail
	}
	text = oneLine(text)
	if a.colours(a.stdout) {
		text = groupTint(g).on(text)
	}
	fmt.Fprintf(a.stdout, "%s  %s\n", oneLine(head), text)
}

// printDiffs prints the largest group that has ended, and of the others how their output differs from it.
func (a *app) printDiffs(groups []exec.Group) (shortened bool) {
	most := majority(groups)
	if most < 0 {
		return a.printGroups(groups)
	}
	shortened = a.printGroups(groups[most : most+1])
	for i, g := range groups {
		if i == most {
			continue
		}
		fmt.Fprintln(a.stdout)
		a.printHead(g)
		if len(g.Detail) == 0 || g.Stdout.Size+g.Stderr.Size > 0 {
			out := a.printDiff("stdout", groups[most], g, func(g exec.Group) exec.Stream { return g.Stdout })
			err := a.printDiff("stderr", groups[most], g, func(g exec.Group) exec.Stream { return g.Stderr })
			shortened = shortened || out || err
		}
	}
	return shortened
}

// majority returns the group that the others are compared with: the largest of those whose command exited; among equals
// the first. It returns -1 when there is none.
func majority(groups []exec.Group) int {
	most := -1
	for i, g := range groups {
		if (g.Status == exec.Success || g.Status == exec.Failed) && (most < 0 || len(g.Names) > len(groups[most].Names)) {
			most = i
		}
	}
	return most
}

func (a *app) printDiff(stream string, most, other exec.Group, of func(exec.Group) exec.Stream) (shortened bool) {
	old, new := of(most), of(other)
	if old.Gap() > 0 || new.Gap() > 0 {
		if old.Digest != new.Digest {
			fmt.Fprintf(a.stdout, "… %s differs, and is too long to be compared here\n", stream)
			return true
		}
		return false
	}
	text := lineDiff(stream+" of "+fleet.FoldNames(most.Names), stream+" of "+fleet.FoldNames(other.Names), string(old.Head), string(new.Head))
	if text == "" {
		return false
	}
	a.printDiffText(text)
	return false
}

// printDiffText prints a diff, in colours on a terminal.
func (a *app) printDiffText(text string) {
	colours := a.colours(a.stdout)
	for line := range strings.Lines(text) {
		line = printable(strings.TrimSuffix(line, "\n"))
		if colours {
			line = diffTint(line).on(line)
		}
		fmt.Fprintln(a.stdout, line)
	}
}

func diffTint(line string) tint {
	switch {
	case len(line) > 0 && line[0] == '+':
		return green
	case len(line) > 0 && line[0] == '-':
		return red
	}
	return plain
}
