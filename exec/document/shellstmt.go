package document

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

func (w *shellWriter) stmts(stmts []*syntax.Stmt) {
	for _, s := range stmts {
		w.stmt(s)
	}
}

// stmt walks a command and its redirections. What a program that runs its input is given is code.
func (w *shellWriter) stmt(s *syntax.Stmt) {
	if s == nil || w.err != nil {
		return
	}
	var reader string // the program that runs what it reads here
	if s.Cmd != nil {
		reader = w.runsInput(s.Cmd)
	}
	if w.bareExec(s.Cmd) && slices.ContainsFunc(s.Redirs, reads) {
		reader = "some later command" // through a descriptor, which is not followed
	}
	var sink string // the program that runs what is written here: > >(sh)
	for _, r := range s.Redirs {
		if r.Word != nil && sink == "" {
			sink = w.runsInput(r.Word)
		}
	}
	for _, r := range s.Redirs {
		w.restrict(input(reader), func() {
			w.redirect(r)
			if r.Hdoc != nil && w.only != "" {
				w.judgeInput(r.Hdoc, quotedDelimiter(r.Word), s.Cmd != nil && w.carries(s.Cmd))
			}
		})
	}
	if sink != "" && w.bareExec(s.Cmd) {
		w.refuseAt(s, "all that the script says", input(sink))
	}
	w.restrict(input(sink), func() { w.command(s.Cmd) })
}

// bareExec reports whether a command is exec without a program: its redirections hold for the rest of the script.
func (w *shellWriter) bareExec(c syntax.Command) bool {
	call, ok := c.(*syntax.CallExpr)
	if !ok || len(call.Args) != 1 {
		return false
	}
	name, _ := w.literal(call.Args[0])
	return name == "exec"
}

// reads reports whether something is read by a redirection.
func reads(r *syntax.Redirect) bool {
	switch r.Op {
	case syntax.RdrOut, syntax.AppOut, syntax.RdrClob, syntax.RdrAll, syntax.AppAll, syntax.DplOut, syntax.DplIn:
		return false
	}
	return true
}

// input says why a value may not be what a program reads.
func input(program string) string {
	if program == "" {
		return ""
	}
	return "in what " + program + " reads and runs"
}

func (w *shellWriter) redirect(r *syntax.Redirect) {
	if w.endsEarly(r) {
		w.refuseAt(r, "a value", "in a script with a heredoc that has its delimiter behind an expansion")
	}
	switch {
	case r.Hdoc != nil && quotedDelimiter(r.Word):
		w.literalHeredoc(r)
	case r.Hdoc != nil:
		w.word(r.Hdoc, true)
	case r.Op == syntax.DplIn || r.Op == syntax.DplOut:
		w.restrict("as a file descriptor", func() { w.word(r.Word, false) })
	default:
		w.word(r.Word, false)
	}
}

// endsEarly reports whether the parser has taken for a heredoc's end what is not at the beginning of a line, as no shell
// does: what follows is text of the heredoc then.
func (w *shellWriter) endsEarly(r *syntax.Redirect) bool {
	if r.Hdoc == nil || len(r.Hdoc.Parts) == 0 {
		return false
	}
	last := r.Hdoc.Parts[len(r.Hdoc.Parts)-1]
	end := int(last.End().Offset())
	delimiter, _ := w.literal(r.Word)
	for i := range w.marksIn(r.Hdoc) {
		if strings.HasPrefix(w.text[w.marks[i].end:], delimiter) {
			return true // the parser would, as soon as an expansion stands there
		}
	}
	text := ""
	if lit, ok := last.(*syntax.Lit); ok {
		text = lit.Value
	}
	if r.Op == syntax.DashHdoc {
		text = strings.TrimRight(text, "\t")
	}
	return end < len(w.text) && !strings.HasSuffix(text, "\n")
}

func quotedDelimiter(word *syntax.Word) bool {
	return strings.ContainsRune(word.Lit(), '\\') || slices.ContainsFunc(word.Parts, func(p syntax.WordPart) bool {
		_, lit := p.(*syntax.Lit)
		return !lit
	})
}

// literalHeredoc makes a heredoc with a quoted delimiter, in which nothing is expanded, one in which only our references
// are: the delimiter loses its quotes, and what would mean something is escaped.
func (w *shellWriter) literalHeredoc(r *syntax.Redirect) {
	var inside []int
	for i := range w.within(r.Hdoc) {
		if m := w.marks[i]; !w.fits(m) {
			w.refuse(m, w.only)
			return
		}
		inside = append(inside, i)
	}
	if len(inside) == 0 {
		return
	}
	start, end := int(r.Word.Pos().Offset()), int(r.Word.End().Offset())
	delimiter := strings.NewReplacer(`'`, "", `"`, "", `\`, "").Replace(w.text[start:end])
	odd := strings.ContainsFunc(delimiter, func(c rune) bool { return !letter(c) && c != '_' })
	if delimiter == "" || odd || w.unquote || !strings.ContainsRune(" \t\n;&|)<>", rune(w.text[end])) { // 'EOF'#x is one word to a shell
		w.refuse(w.marks[inside[0]], "in a heredoc that ends with "+w.text[start:end])
		return
	}
	w.edits = append(w.edits, edit{start, end, delimiter})
	escape := strings.NewReplacer(`\`, `\\`, `$`, `\$`, "`", "\\`")
	at := int(r.Hdoc.Pos().Offset())
	keep := func(to int) {
		if part := w.text[at:to]; strings.ContainsAny(part, "\\$`") {
			w.edits = append(w.edits, edit{at, to, escape.Replace(part)})
		}
	}
	for _, i := range inside {
		keep(w.marks[i].start)
		w.replace(i, reference(w.marks[i].p.variable(), true))
		at = w.marks[i].end
	}
	keep(int(r.Hdoc.End().Offset()))
}

func (w *shellWriter) command(c syntax.Command) {
	switch c := c.(type) {
	case *syntax.CallExpr:
		w.call(c)
	case *syntax.DeclClause:
		w.declaration(c)
	case *syntax.BinaryCmd:
		w.binary(c)
	case *syntax.Subshell:
		w.stmts(c.Stmts)
	case *syntax.Block:
		w.stmts(c.Stmts)
	case *syntax.IfClause:
		for ; c != nil; c = c.Else {
			w.stmts(c.Cond)
			w.stmts(c.Then)
		}
	case *syntax.WhileClause:
		w.stmts(c.Cond)
		w.stmts(c.Do)
	case *syntax.ForClause:
		w.loop(c)
	case *syntax.CaseClause:
		w.word(c.Word, false)
		for _, item := range c.Items {
			w.words(item.Patterns)
			w.stmts(item.Stmts)
		}
	case *syntax.FuncDecl:
		w.stmt(c.Body)
	case *syntax.TimeClause:
		w.stmt(c.Stmt)
	case *syntax.CoprocClause:
		if sink := w.runsInput(c.Stmt); sink != "" {
			w.refuseAt(c, "what the script writes to it", input(sink))
		}
		w.stmt(c.Stmt)
	case *syntax.TestClause:
		w.test(c.X)
	case *syntax.ArithmCmd:
		w.arithmetic(func() { w.arithm(c.X) })
	case *syntax.LetClause:
		w.arithmetic(func() {
			for _, x := range c.Exprs {
				w.arithm(x)
			}
		})
	}
}

func (w *shellWriter) binary(c *syntax.BinaryCmd) {
	reader := ""
	if c.Op == syntax.Pipe || c.Op == syntax.PipeAll {
		reader = w.runsInput(c.Y)
	}
	w.restrict(input(reader), func() { w.stmt(c.X) })
	w.stmt(c.Y)
}

func (w *shellWriter) loop(c *syntax.ForClause) {
	switch l := c.Loop.(type) {
	case *syntax.WordIter:
		w.words(l.Items)
	case *syntax.CStyleLoop:
		w.arithmetic(func() {
			w.arithm(l.Init)
			w.arithm(l.Cond)
			w.arithm(l.Post)
		})
	}
	w.stmts(c.Do)
}

// test walks [[ … ]]. Its comparisons of numbers are arithmetic.
func (w *shellWriter) test(x syntax.TestExpr) {
	switch x := x.(type) {
	case *syntax.Word:
		w.word(x, false)
	case *syntax.ParenTest:
		w.test(x.X)
	case *syntax.UnaryTest:
		if x.Op == syntax.TsVarSet || x.Op == syntax.TsRefVar {
			w.restrict("as a variable's name", func() { w.test(x.X) })
			if word, ok := x.X.(*syntax.Word); ok {
				w.subscript(word)
			}
			return
		}
		w.test(x.X)
	case *syntax.BinaryTest:
		switch x.Op {
		case syntax.TsEql, syntax.TsNeq, syntax.TsLeq, syntax.TsGeq, syntax.TsLss, syntax.TsGtr:
			w.arithmetic(func() {
				w.test(x.X)
				w.test(x.Y)
			})
			return
		}
		w.test(x.X)
		w.test(x.Y)
	}
}

func (w *shellWriter) assigns(assigns []*syntax.Assign) {
	for _, a := range assigns {
		w.assign(a)
	}
}

func (w *shellWriter) assign(a *syntax.Assign) {
	name := ""
	if a.Name != nil {
		name = a.Name.Value
	}
	w.arithmetic(func() { w.arithm(a.Index) })
	if w.flow.integers[name] {
		w.arithmetic(func() { w.word(a.Value, false) })
		return
	}
	w.restrict(steers(name), func() {
		w.word(a.Value, false)
		if a.Array == nil {
			return
		}
		for _, e := range a.Array.Elems {
			w.arithmetic(func() { w.arithm(e.Index) })
			w.word(e.Value, false)
		}
	})
}

// declaration walks export, declare and the like. Words without = are options and names.
func (w *shellWriter) declaration(c *syntax.DeclClause) {
	numbers := false
	for _, a := range c.Args {
		switch {
		case a.Naked && a.Value != nil:
			option, _ := w.literal(a.Value)
			numbers = numbers || strings.HasPrefix(option, "-") && strings.ContainsAny(option, "in")
			w.restrict("as a variable's name", func() { w.word(a.Value, false) })
			w.subscript(a.Value)
		case numbers:
			w.arithmetic(func() { w.assign(a) })
		default:
			w.assign(a)
		}
	}
}

// call walks a simple command. A parameter that is all of it is a script: it is run as one, and the document counts as
// raw shell.
func (w *shellWriter) call(c *syntax.CallExpr) {
	w.assigns(c.Assigns)
	if i, ok := w.statement(c); ok {
		w.script(i)
		return
	}
	if len(c.Args) == 0 {
		return
	}
	v := inspect(w, c.Args)
	if name, known := w.literal(c.Args[0]); known {
		w.named(c, name)
	}
	before := w.starts
	w.starts = w.argvOf(c.Args[0])
	defer func() { w.starts = before }()
	for i, word := range c.Args {
		w.restrict(v.code[i], func() { w.word(word, false) })
		if i > 0 && w.splits(word.Parts) {
			w.unquoted(word)
		}
	}
	if v.strange != "" {
		w.refuseAt(c, v.strange, "as what is run")
	}
	for _, s := range v.snippets {
		w.judge(s, c.Args)
	}
}

// named refuses what only the name of a command tells.
func (w *shellWriter) named(c *syntax.CallExpr, name string) {
	switch name {
	case "alias", "enable", "hash":
		w.refuseAt(c, name, "in a script with values, where it makes a name mean something else")
	case "let":
		w.arithmetic(func() { w.wordNames(c.Args[1:]) })
	case "unset", "read", "printf", "test", "[", "mapfile", "readarray", "getopts", "declare", "typeset", "export", "readonly", "local", "wait":
		for _, word := range c.Args[1:] {
			w.subscript(word)
		}
	}
	if w.only != "" && w.carries(c) {
		w.refuseAt(c, name+", which has a value in it,", w.only)
	}
}

// wordNames refuses names of variables with values in words that are arithmetic.
func (w *shellWriter) wordNames(words []*syntax.Word) {
	for _, word := range words {
		if name, found := w.mentioned(word); found {
			w.refuseAt(word, name+", which holds a value or names what does,", w.only)
		}
	}
}

// subscript refuses a[x] as a variable's name, if x holds a value: bash evaluates it.
func (w *shellWriter) subscript(word *syntax.Word) {
	if word == nil {
		return
	}
	text, _ := w.literal(word)
	if _, index, ok := strings.Cut(text, "["); ok && index != "" {
		if name, found := w.flow.mentions(index); found {
			w.refuseAt(word, name+", which holds a value or names what does,", "in an array's index")
		}
	}
}

// unquoted refuses a word that a value could make into several, the first of which is an option or an operator.
func (w *shellWriter) unquoted(word *syntax.Word) {
	if w.err == nil {
		w.err = refuse(w.lineOf(word), "%s: a value without quotes becomes as many words as it has", w.b.s.of()).
			Hinted(`put quotes around the expansion: "$x"`)
	}
}

// statement returns the mark that is the whole of a command.
func (w *shellWriter) statement(c *syntax.CallExpr) (int, bool) {
	if len(c.Args) != 1 || len(c.Assigns) > 0 {
		return 0, false
	}
	word := c.Args[0]
	for i := range w.within(word) {
		m := w.marks[i]
		return i, !m.p.tame() && m.start == int(word.Pos().Offset()) && m.end == int(word.End().Offset())
	}
	return 0, false
}

func (w *shellWriter) script(i int) {
	m := w.marks[i]
	name := m.p.variable()
	switch {
	case w.only != "":
		w.refuse(m, w.only)
		return
	case m.p.isSecret():
		w.refuseSecret(m)
		return
	case m.p.Type == StringList:
		name = linesVariable(m.p.Name)
		w.lines = append(w.lines, m.p)
	case m.p.Type != String:
		w.refuse(m, "as the name of a command")
		return
	}
	w.raw = true
	w.replace(i, "eval "+reference(name, false))
}
