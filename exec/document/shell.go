package document

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/muster-fleet/muster/node/fleet"
)

// compiled is a script with a safe reference to a variable wherever the document has a parameter. No value is in it.
type compiled struct {
	text string
	// whole is the parameter whose value is all of the script, nil if none is.
	whole *parameter
	// lines are the StringLists whose items are run as lines of a script: they come as linesVariable, too.
	lines []*parameter
	raw   bool // a value is run as a script
	// stored are the store's parameters that the script refers to.
	stored []*parameter
	// shown are the document's own that the script hands to other programs as arguments.
	shown []string
}

// linesVariable names the variable that holds a list's items as lines. No parameter can have that name: SSM's names have
// no underscore, and its variables begin with SSM_.
func linesVariable(parameter string) string { return "MUSTER_LINES_" + parameter }

// mark is a {{ p }} of a script, where a word that no shell treats specially takes its place while the script is parsed.
type mark struct {
	start, end int // in the marked text
	at         int // in the document's text
	p          *parameter
	original   string
	done       bool
}

// edit replaces bytes of the marked text.
type edit struct {
	start, end int
	text       string
}

// rewriteShell makes a script of a step's commands. Each {{ p }} becomes a reference to a variable, quoted as its place
// asks for; where no reference is safe it is refused with its line.
func (b *builder) rewriteShell(src source) (compiled, error) {
	plain := compiled{text: src.text}
	found := refs(src.text)
	if len(found) == 0 && !b.mentionsVariables(src.text) {
		return plain, nil
	}
	dialects, program := dialectsOf(src.text)
	text, marks, err := b.markUp(src, found)
	switch {
	case err != nil:
		return plain, err
	case len(dialects) == 0 && len(marks) == 0:
		return plain, nil
	case len(dialects) == 0:
		m := marks[0]
		return plain, b.unsafe(src.at(m.at), m, "in a script for "+program).
			Hinted("let the script read %s from its environment", m.p.variable())
	}
	c, err := b.agree(src, text, marks, dialects)
	c.stored = b.storedIn(found)
	return c, err
}

// agree rewrites the script as each dialect reads it. They must come to the same: nobody knows whether a host's sh is
// dash or bash.
func (b *builder) agree(src source, text string, marks []mark, dialects []syntax.LangVariant) (compiled, error) {
	var first *shellWriter
	var broken error
	for _, dialect := range dialects {
		file, err := parseShell(text, dialect)
		if err != nil {
			broken = err
			continue
		}
		w := newShellWriter(b, src, text, slices.Clone(marks))
		if err := w.rewrite(file); err != nil {
			return compiled{}, err
		}
		if first != nil && !slices.Equal(first.edits, w.edits) {
			return compiled{}, b.unsafe(src.at(marks[0].at), marks[0], "in a script that sh reads in one way and bash in another").
				Hinted("begin the script with #!/bin/bash")
		}
		first = w
	}
	switch {
	case first != nil:
		return compiled{text: apply(text, first.edits), lines: first.lines, raw: first.raw, shown: first.shown}, nil
	case len(marks) == 0:
		return compiled{text: src.text}, nil // the shell will say what is wrong with it
	}
	return compiled{}, b.syntaxError(src, text, marks, broken)
}

func (b *builder) syntaxError(src source, text string, marks []mark, err error) error {
	line, what := src.at(marks[0].at), err.Error()
	if e, ok := err.(syntax.ParseError); ok {
		line, what = src.at(unmarked(marks, int(e.Pos.Offset()))), e.Text
		for _, m := range marks {
			what = strings.ReplaceAll(what, text[m.start:m.end], m.original)
		}
	}
	return refuse(line, "%s: a script that no shell can read has no safe place for a value: %s", b.s.of(), what)
}

// unmarked turns an offset of the marked text into one of the document's.
func unmarked(marks []mark, offset int) int {
	shift := 0
	for _, m := range marks {
		if m.start >= offset {
			break
		}
		shift += len(m.original) - (m.end - m.start)
	}
	return offset + shift
}

// parseShell reads a script. The parser is somebody else's, and what it is given comes from other hosts: its panics are
// errors.
func parseShell(text string, dialect syntax.LangVariant) (file *syntax.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fleet.Errorf(fleet.Invalid, "the script cannot be read: %v", p)
		}
	}()
	return syntax.NewParser(syntax.Variant(dialect), syntax.KeepComments(true)).Parse(strings.NewReader(text), "")
}

// dialectsOf says who will read a script: both kinds of sh without a first line that names one, else what it names. None
// for a program that is no such shell.
func dialectsOf(text string) (dialects []syntax.LangVariant, program string) {
	sh := []syntax.LangVariant{syntax.LangBash, syntax.LangPOSIX}
	if !strings.HasPrefix(text, "#!") {
		return sh, "sh"
	}
	line, _, _ := strings.Cut(text[2:], "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, "nothing"
	}
	if path.Base(words[0]) == "env" && len(words) > 1 {
		words = slices.DeleteFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "-") })
	}
	if len(words) > 0 {
		program = path.Base(words[0])
	}
	switch program {
	case "sh", "dash", "ash":
		return sh, program
	case "bash":
		return sh[:1], program
	}
	return nil, program
}

// markUp puts a word that stands nowhere else in the text in the place of each reference.
func (b *builder) markUp(src source, found []ref) (string, []mark, error) {
	word := "Mq"
	for strings.Contains(src.text, word) {
		word += "q"
	}
	var out strings.Builder
	var marks []mark
	at := 0
	for i, r := range found {
		p, err := b.d.declared(r.name, src.at(r.start))
		if err != nil {
			return "", nil, err
		}
		out.WriteString(src.text[at:r.start])
		m := mark{start: out.Len(), at: r.start, p: p, original: src.text[r.start:r.end]}
		out.WriteString(word + strconv.Itoa(i) + "z")
		m.end = out.Len()
		marks = append(marks, m)
		at = r.end
	}
	out.WriteString(src.text[at:])
	return out.String(), marks, nil
}

// mentionsVariables reports whether a script names a variable that holds a value itself.
func (b *builder) mentionsVariables(text string) bool {
	return slices.ContainsFunc(b.d.all(), func(p *parameter) bool { return strings.Contains(text, p.variable()) }) ||
		slices.ContainsFunc(b.held(), func(name string) bool { return strings.Contains(text, name) })
}

// unsafe is the refusal of a reference.
func (b *builder) unsafe(line int, m mark, where string) *fleet.Error {
	return b.unsafeName(line, "{{ "+m.p.Name+" }}", where)
}

func (b *builder) unsafeName(line int, name, where string) *fleet.Error {
	return refuse(line, "%s: %s %s: there is no safe way to put a value there", b.s.of(), name, where).
		Hinted("pass it to a command as an argument, use %s, or list the parameter's allowedValues", runArgv)
}

// apply makes edits, which must not overlap.
func apply(text string, edits []edit) string {
	var out strings.Builder
	at := 0
	for _, e := range edits {
		out.WriteString(text[at:e.start])
		out.WriteString(e.text)
		at = e.end
	}
	out.WriteString(text[at:])
	return out.String()
}

// reference returns what refers to a variable. In quotes of the script's own, or where quotes have another meaning, it has
// none of ours.
func reference(name string, quoted bool) string {
	if quoted {
		return fmt.Sprintf("${%s}", name)
	}
	return fmt.Sprintf(`"${%s}"`, name)
}
