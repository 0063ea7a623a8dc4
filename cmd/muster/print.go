package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// The forms of an answer. JSON and YAML have the same names.
const (
	asTable = "table"
	asWide  = "wide"
	asJSON  = "json"
	asLines = "jsonl"
	asYAML  = "yaml"
	asNames = "name"
)

func forms() []string { return []string{asTable, asWide, asJSON, asLines, asYAML, asNames} }

// checkForm refuses a form that neither all commands have nor this one.
func checkForm(form string, own ...string) error {
	if !slices.Contains(forms(), form) && !slices.Contains(own, form) {
		return fleet.Errorf(fleet.Invalid, "-o %s: the forms are %s", form, strings.Join(slices.Concat(forms(), own), ", "))
	}
	return nil
}

// forPeople reports whether the answer is text rather than data.
func (a *app) forPeople() bool { return a.flags.output == asTable || a.flags.output == asWide }

// column is one column of a table.
type column[T any] struct {
	head string
	wide bool // only with -o wide
	cell func(T) string
	tint func(T) tint
}

// listing says how a list of things is shown.
type listing[T any] struct {
	columns []column[T]
	name    func(T) string
	none    string // what to say about an empty list, for people
}

// show prints items in the form that was asked for.
func (l listing[T]) show(a *app, items []T) error {
	switch a.flags.output {
	case asJSON, asYAML:
		if items == nil {
			items = []T{}
		}
		return a.printData(items)
	case asLines:
		for _, item := range items {
			if err := a.printLine(item); err != nil {
				return err
			}
		}
		return nil
	case asNames:
		for _, item := range items {
			fmt.Fprintln(a.stdout, printable(l.name(item)))
		}
		return nil
	}
	if len(items) == 0 {
		a.say("%s", l.none)
		return nil
	}
	l.table(a, items)
	return nil
}

func (l listing[T]) table(a *app, items []T) {
	var columns []column[T]
	for _, c := range l.columns {
		if !c.wide || a.flags.output == asWide {
			columns = append(columns, c)
		}
	}
	colours := a.colours(a.stdout)
	rows := [][]cell{make([]cell, len(columns))}
	for i, c := range columns {
		rows[0][i] = cell{text: c.head}
	}
	for _, item := range items {
		row := make([]cell, len(columns))
		for i, c := range columns {
			row[i].text = oneLine(c.cell(item))
			if c.tint != nil && colours {
				row[i].tint = c.tint(item)
			}
		}
		rows = append(rows, row)
	}
	printRows(a.stdout, rows)
}

type cell struct {
	text string
	tint tint
}

// printRows aligns columns with two spaces between.
func printRows(w io.Writer, rows [][]cell) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range row {
			b.WriteString(c.tint.on(c.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// fact is one line of what is said about one thing.
type fact struct{ name, text string }

// showOne prints one thing: data as v, its name, or facts for people. Facts without text are left out.
func (a *app) showOne(v any, name string, facts []fact) error {
	switch a.flags.output {
	case asJSON, asYAML:
		return a.printData(v)
	case asLines:
		return a.printLine(v)
	case asNames:
		_, err := fmt.Fprintln(a.stdout, printable(name))
		return err
	}
	var rows [][]cell
	for _, f := range facts {
		if f.text != "" {
			rows = append(rows, []cell{{text: f.name}, {text: oneLine(f.text)}})
		}
	}
	if len(rows) > 0 {
		printRows(a.stdout, rows)
	}
	return nil
}

// printData prints v as JSON, or as YAML where that was asked for.
func (a *app) printData(v any) error {
	if a.flags.output == asYAML {
		out, err := yamlOf(v)
		if err == nil {
			_, err = a.stdout.Write(out)
		}
		return err
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (a *app) printLine(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// oneLine makes text from anywhere fit for a cell.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(printable(text), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// tagText writes tags as k=v, sorted.
func tagText(tags map[string]string) string {
	pairs := make([]string, 0, len(tags))
	for k, v := range tags {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
