package document

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// snippet is code for a shell that stands in a script as words of a command.
type snippet struct {
	words []int // of the command
	child bool  // another shell runs it: sh -c; else this one does: eval
	given int   // with child: the first word that it finds as $0; 0: none
}

// maxInner bounds how deep code stands in code that is looked into.
const maxInner = 4

// codeOf returns what words are that a shell is given as code, if all of it is in the script.
func codeOf(words []*syntax.Word) (string, bool) {
	var texts []string
	for _, word := range words {
		text, known := exact(word.Parts, false)
		if !known {
			return "", false
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " "), true
}

// exact returns the text of parts of a word, quotes and backslashes taken off, if it is all in the script.
func exact(parts []syntax.WordPart, quoted bool) (string, bool) {
	var out strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			if !quoted && strings.ContainsAny(p.Value, "*?[{~") {
				return "", false // may become other words
			}
			out.WriteString(unescaped(p.Value, quoted))
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", false
			}
			out.WriteString(p.Value)
		case *syntax.DblQuoted:
			text, known := exact(p.Parts, true)
			if !known || p.Dollar {
				return "", false
			}
			out.WriteString(text)
		default:
			return "", false
		}
	}
	return out.String(), true
}

// unescaped takes backslashes off as a shell does.
func unescaped(text string, quoted bool) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) && (!quoted || strings.IndexByte("$`\"\\\n", text[i+1]) >= 0) {
			if i++; text[i] == '\n' {
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// innerShell returns a writer for code that stands in the script; nil if it stands too deep. It shares what is known of
// values.
func (w *shellWriter) innerShell(text string) *shellWriter {
	if w.depth >= maxInner {
		return nil
	}
	inner := newShellWriter(w.b, w.src, text, nil)
	inner.depth, inner.files, inner.flow = w.depth+1, w.files, w.flow
	return inner
}

// fileOf parses code, once.
func (w *shellWriter) fileOf(text string) *syntax.File {
	if file, done := w.files[text]; done {
		return file
	}
	file, err := parseShell(text, syntax.LangBash)
	if err != nil || tooDeep(file) {
		file = nil
	}
	w.files[text] = file
	return file
}

// judge looks into code that a shell is given, for variables that hold values.
func (w *shellWriter) judge(s snippet, args []*syntax.Word) {
	var words []*syntax.Word
	for _, i := range s.words {
		words = append(words, args[i])
	}
	given := s.given > 0 && s.given < len(args) && slices.ContainsFunc(args[s.given:], func(word *syntax.Word) bool { return w.carries(word) })
	text, known := codeOf(words)
	if !known {
		w.unknownCode(words, given)
		return
	}
	inner := w.innerShell(text)
	var file *syntax.File
	if inner != nil {
		file = inner.fileOf(text)
	}
	if file == nil {
		if _, found := w.flow.mentions(text); found || given {
			w.refuseAt(words[0], "code that cannot be read here,", "with a value")
		}
		return
	}
	inner.line = w.lineOf(words[0])
	if s.child {
		inner.flow = w.flow.forChild(given)
		inner.settle(file)
	}
	inner.stmts(file.Stmts)
	if w.err == nil {
		w.err = inner.err
	}
}

// feeds notes that code for a shell, which is the word at i, runs what it reads itself, or may.
func (c *caller) feeds(name string, i int) {
	if i >= len(c.args) {
		return
	}
	text, known := codeOf(c.args[i : i+1])
	if inner := c.w.innerShell(text); known && inner != nil {
		if file := inner.fileOf(text); file != nil && inner.runsInput(file) == "" {
			return
		}
	}
	c.v.runs = name
}

// judgeInput looks into a heredoc that some program runs, as if that were a shell. What no shell can read is for another.
func (w *shellWriter) judgeInput(hdoc *syntax.Word, literal, given bool) {
	text, known := exact(hdoc.Parts, true)
	if literal {
		text, known = hdoc.Lit(), true
	}
	inner := w.innerShell(text)
	if !known || inner == nil || w.err != nil || len(text) == 0 {
		return
	}
	for range w.marksIn(hdoc) {
		return // it was judged as what it is
	}
	if file := inner.fileOf(text); file != nil {
		inner.line, inner.flow = w.lineOf(hdoc), w.flow.forChild(given)
		inner.settle(file)
		inner.stmts(file.Stmts)
		w.err = inner.err
	}
}

// unknownCode judges code of which only a part stands in the script.
func (w *shellWriter) unknownCode(words []*syntax.Word, given bool) {
	for _, word := range words {
		if name, found := w.mentioned(word); found {
			w.refuseAt(word, name+", which holds a value or names what does,", "in code that is put together")
		}
		if given && !w.carries(word) { // one that carries is refused by itself
			w.refuseAt(word, "a value", "given to code that is put together")
		}
	}
}

// forChild returns what another shell knows of values: what may be exported, and its own arguments.
func (f *flow) forChild(given bool) *flow {
	child := &flow{holds: map[string]bool{}, names: map[string]bool{}, integers: map[string]bool{}, functions: map[string][]*syntax.Stmt{}, prints: map[string]bool{}}
	for name := range f.holds {
		child.holds[name] = true
	}
	for name := range f.names {
		child.names[name] = true
	}
	for _, name := range []string{"RANDOM", "SRANDOM", "OPTIND", "HISTCMD"} {
		child.integers[name] = true
	}
	for _, name := range []string{"@", "*", "OPTARG"} {
		delete(child.holds, name)
		delete(child.names, name)
	}
	if given {
		child.positional(child.holds)
		child.holds["0"] = true
	}
	return child
}

// lineOf returns the document's line of a node.
func (w *shellWriter) lineOf(n syntax.Node) int {
	if w.line > 0 {
		return w.line
	}
	return w.src.at(unmarked(w.marks, int(n.Pos().Offset())))
}

// refuseAt keeps the first refusal of something that is no mark.
func (w *shellWriter) refuseAt(n syntax.Node, what, where string) {
	if w.err == nil {
		w.err = w.b.unsafeName(w.lineOf(n), what, where)
	}
}

// splits reports whether parts of a word that are not in quotes may become several words by a value.
func (w *shellWriter) splits(parts []syntax.WordPart) bool {
	return slices.ContainsFunc(parts, func(p syntax.WordPart) bool {
		switch p := p.(type) {
		case *syntax.ParamExp:
			bare := *p
			bare.Exp = nil
			return w.carries(&bare) || p.Exp != nil && p.Exp.Word != nil && w.splits(p.Exp.Word.Parts)
		case *syntax.CmdSubst:
			return w.carries(p)
		}
		return false
	})
}

// many reports whether values, or more than one of them, may be several words in quotes, too: "$@", "${a[@]}", {a,{{ p }}}.
func (w *shellWriter) many(word *syntax.Word) bool {
	if word == nil || !w.carries(word) {
		return false
	}
	found := false
	for _, p := range word.Parts {
		if l, ok := p.(*syntax.Lit); ok && strings.Contains(l.Value, "{") {
			found = true
		}
	}
	syntax.Walk(word, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst:
			return false
		case *syntax.ParamExp:
			index, _ := n.Index.(*syntax.Word)
			found = found || n.Param != nil && n.Param.Value == "@" || index != nil && index.Lit() == "@"
		}
		return !found
	})
	return found
}

// contradictions refuses variables that hold a value and may not, however it came there: read PATH, for IFS in …
func (w *shellWriter) contradictions(file *syntax.File) {
	syntax.Walk(file, func(n syntax.Node) bool {
		var name string
		switch leaf := n.(type) {
		case *syntax.Lit:
			name = leaf.Value
		case *syntax.SglQuoted:
			name = leaf.Value
		}
		switch {
		case name == "" || !w.flow.holds[name]:
		case steers(name) != "":
			w.refuseAt(n, "a value", steers(name))
		case w.flow.integers[name]:
			w.refuseAt(n, "a value", "as the value of "+name+", which is a number or another variable's name")
		}
		return true
	})
}
