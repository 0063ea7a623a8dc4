package document

import (
	"cmp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// shellWriter walks a script and finds for each mark what may stand in its place. It knows the places that are safe;
// a mark that is nowhere in those is refused.
type shellWriter struct {
	b     *builder
	src   source
	text  string // with marks
	marks []mark
	edits []edit
	lines []*parameter
	raw   bool

	// only is why nothing but tame values may stand here: what is here is read as code. Empty: anything may.
	only    string
	numbers bool // with only: nothing but Integers
	names   bool // with only: a name is read like what the variable holds
	unquote bool // quotes of ours would have another meaning here

	starts string   // the program whose arguments are walked, where others on the host see them; empty: none
	shown  []string // the document's own parameters that come to such a place

	flow *flow
	err  error

	depth int                     // of code in code
	line  int                     // of the code in the document; 0: by place
	files map[string]*syntax.File // code that was parsed; nil: it cannot be
}

func newShellWriter(b *builder, src source, text string, marks []mark) *shellWriter {
	return &shellWriter{b: b, src: src, text: text, marks: marks, files: map[string]*syntax.File{}}
}

// rewrite finds the edits of a script, sorted.
func (w *shellWriter) rewrite(file *syntax.File) error {
	if tooDeep(file) {
		return refuse(w.src.lines[0], "%s: a script that nests deeper than %d, or with longer chains, has no place for values", w.b.s.of(), maxShellDepth)
	}
	w.trace(file)
	w.stmts(file.Stmts)
	w.contradictions(file)
	w.comments(file)
	for _, m := range w.marks {
		if !m.done {
			w.refuse(m, "here")
		}
	}
	slices.SortFunc(w.edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	return w.err
}

// maxShellDepth bounds the nesting of a script with values, so that looking at it takes no time worth mentioning.
const maxShellDepth = 200

func tooDeep(file *syntax.File) bool {
	depth, most := 0, 0
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			depth--
			return true
		}
		depth++
		most = max(most, depth)
		return true
	})
	return most > maxShellDepth
}

// refuse keeps the first refusal.
func (w *shellWriter) refuse(m mark, where string) {
	if w.err == nil {
		w.err = w.b.unsafe(w.src.at(m.at), m, where)
	}
}

// restrict runs walk where only tame values may stand; an empty reason changes nothing.
func (w *shellWriter) restrict(reason string, walk func()) {
	before := w.only
	if reason != "" && before == "" {
		w.only = reason
	}
	walk()
	w.only = before
}

// arithmetic runs walk where only numbers may stand: bash evaluates what it finds there, array indices with commands in
// them included.
func (w *shellWriter) arithmetic(walk func()) {
	numbers, unquote, names := w.numbers, w.unquote, w.names
	w.numbers, w.unquote, w.names = true, true, true
	w.restrict("in arithmetic", walk)
	w.numbers, w.unquote, w.names = numbers, unquote, names
}

// comments lets marks in comments stand as the document has them: nothing is put there.
func (w *shellWriter) comments(file *syntax.File) {
	syntax.Walk(file, func(n syntax.Node) bool {
		c, ok := n.(*syntax.Comment)
		if !ok {
			return true
		}
		if before := w.before(int(c.Pos().Offset())); before != 0 && !strings.ContainsRune(" \t\n;&|()`", rune(before)) {
			return true // "x"#y is one word to a shell, whatever the parser says
		}
		for i := range w.within(c) {
			w.replace(i, w.marks[i].original)
		}
		return true
	})
}

// marksIn yields the marks of a node.
func (w *shellWriter) marksIn(n syntax.Node) func(func(int) bool) {
	start, end := int(n.Pos().Offset()), int(n.End().Offset())
	return func(yield func(int) bool) {
		i, _ := slices.BinarySearchFunc(w.marks, start, func(m mark, at int) int { return cmp.Compare(m.start, at) })
		for ; i < len(w.marks) && w.marks[i].end <= end; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// within yields the marks of a node that have no edit yet.
func (w *shellWriter) within(n syntax.Node) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range w.marksIn(n) {
			if !w.marks[i].done && !yield(i) {
				return
			}
		}
	}
}

func (w *shellWriter) replace(i int, text string) {
	m := &w.marks[i]
	m.done = true
	w.edits = append(w.edits, edit{m.start, m.end, text})
}

// fits reports whether the parameter of a mark may stand where the walk is.
func (w *shellWriter) fits(m mark) bool {
	return w.only == "" || m.p.tame() && (!w.numbers || m.p.Type == Integer)
}

// put replaces the marks of a literal. quoted: it is in double quotes or in a heredoc.
func (w *shellWriter) put(l *syntax.Lit, quoted bool) {
	w.mayName(l, l.Value)
	for i := range w.within(l) {
		m := w.marks[i]
		switch before := w.before(m.start); {
		case !w.fits(m):
			w.refuse(m, w.only)
		case w.shows(m):
			w.refuseSecret(m)
		case before == '\\' && w.escaped(m.start):
			w.refuse(m, "behind a backslash")
		case before == '~' && !quoted:
			w.refuse(m, "behind a ~")
		case before == '$':
			w.refuse(m, "behind a $")
		default:
			w.replace(i, reference(m.p.variable(), quoted || w.unquote))
			continue
		}
		return
	}
}

func (w *shellWriter) before(at int) byte {
	if at == 0 {
		return 0
	}
	return w.text[at-1]
}

// escaped reports whether an odd number of backslashes stands before a byte.
func (w *shellWriter) escaped(at int) bool {
	n := at - len(strings.TrimRight(w.text[:at], `\`))
	return n%2 == 1
}

func (w *shellWriter) words(words []*syntax.Word) {
	for _, word := range words {
		w.word(word, false)
	}
}

func (w *shellWriter) word(word *syntax.Word, quoted bool) {
	if word != nil {
		w.parts(word.Parts, quoted)
	}
}

func (w *shellWriter) parts(parts []syntax.WordPart, quoted bool) {
	for _, p := range parts {
		w.part(p, quoted)
	}
}

func (w *shellWriter) part(p syntax.WordPart, quoted bool) {
	switch p := p.(type) {
	case *syntax.Lit:
		w.put(p, quoted)
	case *syntax.SglQuoted:
		w.single(p, quoted)
	case *syntax.DblQuoted:
		if !p.Dollar { // $"…" is a translation in bash and a dollar in sh
			w.parts(p.Parts, true)
		}
	case *syntax.ParamExp:
		w.expansion(p, quoted)
	case *syntax.CmdSubst:
		w.substitution(p)
	case *syntax.ArithmExp:
		w.arithmetic(func() { w.arithm(p.X) })
	case *syntax.ProcSubst:
		w.stmts(p.Stmts)
	}
	// Whatever else there is (extended globs) has no safe place.
}

// single replaces marks in single quotes, which end before the reference and begin again behind it.
func (w *shellWriter) single(s *syntax.SglQuoted, quoted bool) {
	w.mayName(s, s.Value)
	if s.Dollar || quoted { // $'…' is no quoting in sh; within double quotes a ' is one character
		return
	}
	for i := range w.within(s) {
		if m := w.marks[i]; !w.fits(m) {
			w.refuse(m, w.only)
			return
		} else if w.shows(m) {
			w.refuseSecret(m)
			return
		}
		w.replace(i, "'"+reference(w.marks[i].p.variable(), w.unquote)+"'")
	}
}

// substitution walks $(…), which begins quoting anew, and backticks, which do not: what is in those is unescaped before
// it is read.
func (w *shellWriter) substitution(c *syntax.CmdSubst) {
	unquote, names, starts := w.unquote, w.names, w.starts
	w.unquote, w.names, w.starts = c.Backquotes, false, ""
	reason := ""
	if c.Backquotes {
		reason = "inside backticks"
	}
	w.restrict(reason, func() { w.stmts(c.Stmts) })
	w.unquote, w.names, w.starts = unquote, names, starts
}

// expansion walks ${…}.
func (w *shellWriter) expansion(p *syntax.ParamExp, quoted bool) {
	w.mayRead(p)
	w.arithmetic(func() {
		w.arithm(p.Index)
		if p.Slice != nil {
			w.arithm(p.Slice.Offset)
			w.arithm(p.Slice.Length)
		}
	})
	if p.Repl != nil {
		w.restrict("in a pattern", func() {
			w.word(p.Repl.Orig, quoted)
			w.word(p.Repl.With, quoted)
		})
	}
	if p.Exp == nil {
		return
	}
	switch p.Exp.Op {
	case syntax.AlternateUnset, syntax.AlternateUnsetOrNull, syntax.DefaultUnset, syntax.DefaultUnsetOrNull, syntax.ErrorUnset,
		syntax.ErrorUnsetOrNull, syntax.AssignUnset, syntax.AssignUnsetOrNull:
		w.word(p.Exp.Word, quoted)
	default:
		w.restrict("in a pattern", func() { w.word(p.Exp.Word, quoted) })
	}
}

// mayRead refuses a variable with a value in it where only tame values may stand, and where bash would look into it.
func (w *shellWriter) mayRead(p *syntax.ParamExp) {
	if p.Param == nil || w.err != nil || p.Length {
		return
	}
	name := p.Param.Value
	looks := p.Excl || p.Exp != nil && p.Exp.Op == syntax.OtherParamOps
	switch holds := w.flow.held(name); {
	case w.only != "" && w.carries(p):
		w.refuseAt(p, "$"+name+", which holds a value,", w.only)
	case w.only != "" && w.flow.names[name]:
		w.refuseAt(p, "$"+name+", which names a variable with a value,", w.only)
	case holds && looks:
		w.refuseAt(p, "$"+name+", which holds a value,", "in an expansion that looks into it")
	}
}

// mayName refuses the name of a variable with a value in it where names are read like what they hold.
func (w *shellWriter) mayName(leaf syntax.Node, text string) {
	if !w.names || w.only == "" || w.err != nil {
		return
	}
	if name, found := w.flow.mentions(text); found {
		w.refuseAt(leaf, name+", which holds a value or names what does,", w.only)
	}
}

// arithm walks an arithmetic expression.
func (w *shellWriter) arithm(x syntax.ArithmExpr) {
	switch x := x.(type) {
	case *syntax.Word:
		w.word(x, true)
	case *syntax.BinaryArithm:
		w.arithm(x.X)
		w.arithm(x.Y)
	case *syntax.UnaryArithm:
		w.arithm(x.X)
	case *syntax.ParenArithm:
		w.arithm(x.X)
	}
}
