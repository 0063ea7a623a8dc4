package document

import (
	"sort"
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
)

// scriptName is what the file of a step's commands is called: SSM's name for it.
const scriptName = "_script.sh"

// source is the commands of a step, joined, with the document's line of each of their lines.
type source struct {
	text   string
	starts []int // the byte at which each line begins
	lines  []int
}

func (s *source) add(n *node) {
	for i, line := range strings.Split(strings.TrimSuffix(n.text, "\n"), "\n") {
		s.starts = append(s.starts, len(s.text))
		s.lines = append(s.lines, n.lineOf(i))
		s.text += line + "\n"
	}
}

// at returns the document's line of a byte of the text.
func (s *source) at(offset int) int {
	i := sort.SearchInts(s.starts, offset+1) - 1
	return s.lines[max(i, 0)]
}

// commands reads runCommand: a list of lines or one text. alone is the parameter that is all of it: its value is the
// script.
func (b *builder) commands(f *form) (src source, alone *parameter, err error) {
	n := f.raw("runCommand")
	if n == nil || n.shape == dict || len(n.items) == 0 && n.shape == list {
		return src, nil, refuse(b.s.line, "%s: runCommand is missing: a list of commands", b.s.of())
	}
	items := n.items
	if n.shape == scalar {
		items = []*node{n}
	}
	for _, c := range items {
		if c.shape != scalar && c.shape != null {
			return src, nil, refuse(c.line, "%s: a command is a text, not %s", b.s.of(), c.shape)
		}
		src.add(c)
	}
	name, ok := whole(src.text)
	if !ok {
		return src, nil, nil
	}
	alone, err = b.d.declared(name, src.lines[0])
	if err == nil && alone.Type != String && alone.Type != StringList {
		err = refuse(src.lines[0], "%s: a script is of type StringList or String, not %s", b.s.of(), alone.Type)
	}
	return src, alone, err
}

// shellScript builds aws:runShellScript.
func (b *builder) shellScript(f *form, out *steps.Step) error {
	return b.script(f, out, scriptName, b.rewriteShell)
}

// script builds what both kinds of scripts share. A script is rewritten once, when the document is parsed.
func (b *builder) script(f *form, out *steps.Step, name string, rewrite func(source) (compiled, error)) error {
	if b.d.schema == "1.2" {
		f.raw("id") // the step's name
	}
	f.raw("runCommand")
	c := b.s.compiled
	if c == nil {
		var err error
		if c, err = b.compile(f, rewrite); err != nil {
			return err
		}
	}
	if b.r.trial {
		b.s.compiled = c
	}
	out.Dir = f.text("workingDirectory")
	out.Env = b.environment(f, c)
	if b.r.trial || f.err != nil {
		return f.err
	}
	if err := b.checkShown(c); err != nil {
		return err
	}
	text := c.text
	if c.whole != nil {
		v, err := b.r.value(c.whole, b.s.line)
		if err != nil {
			return err
		}
		text = joined(v) + "\n"
	}
	out.Script, out.ScriptName = []byte(text), name
	return nil
}

func (b *builder) compile(f *form, rewrite func(source) (compiled, error)) (*compiled, error) {
	src, alone, err := b.commands(f)
	if err != nil {
		return nil, err
	}
	if alone != nil {
		return &compiled{whole: alone, raw: true}, nil
	}
	c, err := rewrite(src)
	return &c, err
}

// joined returns a script that came as a value: a text, or its lines.
func joined(v any) string {
	if lines, ok := v.([]string); ok {
		return strings.Join(lines, "\n")
	}
	return stringify(v)
}
