package main

import (
	"fmt"
	"strings"
)

// Bounds of a line diff: context around changes, and how many pairs of lines are compared before a text counts as
// replaced as a whole (two texts of 2,000 lines that have nothing in common).
const (
	diffContext = 3
	maxPairs    = 4 << 20
)

// edit is one line of a diff: ' ' in both, '-' only in the old text, '+' only in the new.
type edit struct {
	mark byte
	line string
}

// lineDiff returns the differences of two texts in unified form, or "" when they are equal.
func lineDiff(oldName, newName, old, new string) string {
	if old == new {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
	edits := diffLines(splitLines(old), splitLines(new))
	for from := 0; from < len(edits); {
		from = nextChange(edits, from)
		if from == len(edits) {
			break
		}
		begin := max(from-diffContext, 0)
		end := endOfHunk(edits, from)
		writeHunk(&b, edits, begin, end)
		from = end
	}
	return b.String()
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
}

func nextChange(edits []edit, from int) int {
	for from < len(edits) && edits[from].mark == ' ' {
		from++
	}
	return from
}

// endOfHunk returns where the hunk of the change at from ends: behind its context, where no other change is near.
func endOfHunk(edits []edit, from int) int {
	last := from
	for i := from; i < len(edits) && i <= last+2*diffContext; i++ {
		if edits[i].mark != ' ' {
			last = i
		}
	}
	return min(last+1+diffContext, len(edits))
}

func writeHunk(b *strings.Builder, edits []edit, begin, end int) {
	oldAt, newAt := 1, 1
	for _, e := range edits[:begin] {
		oldAt, newAt = oldAt+inOld(e), newAt+inNew(e)
	}
	oldLines, newLines := 0, 0
	for _, e := range edits[begin:end] {
		oldLines, newLines = oldLines+inOld(e), newLines+inNew(e)
	}
	if oldLines == 0 {
		oldAt--
	}
	if newLines == 0 {
		newAt--
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", oldAt, oldLines, newAt, newLines)
	for _, e := range edits[begin:end] {
		fmt.Fprintf(b, "%c%s\n", e.mark, strings.TrimSuffix(e.line, "\n"))
	}
}

func inOld(e edit) int {
	if e.mark == '+' {
		return 0
	}
	return 1
}

func inNew(e edit) int {
	if e.mark == '-' {
		return 0
	}
	return 1
}

// diffLines finds a longest common part of the lines between an equal beginning and an equal end.
func diffLines(old, new []string) []edit {
	same := func(a, b string) bool { return strings.TrimSuffix(a, "\n") == strings.TrimSuffix(b, "\n") }
	head := 0
	for head < min(len(old), len(new)) && same(old[head], new[head]) {
		head++
	}
	tail := 0
	for tail < min(len(old), len(new))-head && same(old[len(old)-1-tail], new[len(new)-1-tail]) {
		tail++
	}
	var out []edit
	for _, line := range old[:head] {
		out = append(out, edit{' ', line})
	}
	out = append(out, diffMiddle(old[head:len(old)-tail], new[head:len(new)-tail], same)...)
	for _, line := range old[len(old)-tail:] {
		out = append(out, edit{' ', line})
	}
	return out
}

func diffMiddle(old, new []string, same func(a, b string) bool) []edit {
	var out []edit
	i, j := 0, 0
	if len(old)*len(new) <= maxPairs {
		common := commonLengths(old, new, same)
		for i < len(old) && j < len(new) {
			switch {
			case same(old[i], new[j]):
				out = append(out, edit{' ', old[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				out = append(out, edit{'-', old[i]})
				i++
			default:
				out = append(out, edit{'+', new[j]})
				j++
			}
		}
	}
	for ; i < len(old); i++ {
		out = append(out, edit{'-', old[i]})
	}
	for ; j < len(new); j++ {
		out = append(out, edit{'+', new[j]})
	}
	return out
}

// commonLengths returns, for every pair of places, how many lines the texts behind them have in common.
func commonLengths(old, new []string, same func(a, b string) bool) [][]uint16 {
	rows := make([][]uint16, len(old)+1)
	for i := range rows {
		rows[i] = make([]uint16, len(new)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(new) - 1; j >= 0; j-- {
			if same(old[i], new[j]) {
				rows[i][j] = rows[i+1][j+1] + 1
			} else {
				rows[i][j] = max(rows[i+1][j], rows[i][j+1])
			}
		}
	}
	return rows
}
