package document

import (
	"cmp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// flow is where values go in a script: the variables that may hold one. It is judged without order: a variable that
// holds a value anywhere holds it everywhere.
type flow struct {
	holds     map[string]bool
	names     map[string]bool // variables whose text names one that holds a value: y=x, which arithmetic and eval follow
	integers  map[string]bool // variables that bash evaluates on assignment
	functions map[string][]*syntax.Stmt
	prints    map[string]bool // functions in which a value is: what they print may be one
}

// maxRounds bounds how often a script is gone through: once more for each variable that is given on to one that stands
// above it.
const maxRounds = 20

// trace finds where values go.
func (w *shellWriter) trace(file *syntax.File) {
	w.flow = &flow{holds: map[string]bool{"_": true}, names: map[string]bool{}, integers: map[string]bool{},
		functions: map[string][]*syntax.Stmt{}, prints: map[string]bool{}}
	for _, name := range []string{"RANDOM", "SRANDOM", "OPTIND", "HISTCMD"} {
		w.flow.integers[name] = true // bash evaluates what they are given
	}
	for _, p := range w.b.d.all() {
		if !p.tame() {
			w.flow.holds[p.variable()] = true
		}
	}
	for _, name := range w.b.held() {
		w.flow.holds[name] = true
	}
	w.settle(file)
}

// settle goes through a script again and again until nothing is found any more.
func (w *shellWriter) settle(file *syntax.File) {
	f := w.flow
	for range maxRounds {
		before := f.size()
		syntax.Walk(file, func(n syntax.Node) bool {
			w.follow(n)
			return true
		})
		if f.size() == before {
			return
		}
	}
	w.err = refuse(w.src.lines[0], "%s: variables are given on from one to another so often that nobody can say where values go", w.b.s.of())
}

func (f *flow) size() int {
	return len(f.holds) + len(f.names) + len(f.integers) + len(f.functions) + len(f.prints)
}

// held reports whether an expansion of a name may give a value. Positional parameters are one: nobody counts them.
func (f *flow) held(name string) bool {
	return f.holds[name] || name != "0" && name != "" && strings.Trim(name, "0123456789") == "" && f.holds["@"]
}

// positional notes that a function's arguments, or those of set, may be values.
func (f *flow) positional(set map[string]bool) {
	for _, p := range []string{"@", "*", "OPTARG"} {
		set[p] = true
	}
}

// mentions reports whether a text has the name of a variable with a value in it, or of one that names such a variable.
func (f *flow) mentions(text string) (name string, found bool) {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !letter(r) && r != '_' }) {
		if word != "_" && (f.holds[word] || f.names[word]) {
			return word, true
		}
	}
	return "", false
}

// mentioned is mentions for all literal texts of a node.
func (w *shellWriter) mentioned(n syntax.Node) (name string, found bool) {
	syntax.Walk(n, func(n syntax.Node) bool {
		if found {
			return false
		}
		switch n := n.(type) {
		case *syntax.Lit:
			name, found = w.flow.mentions(n.Value)
		case *syntax.SglQuoted:
			name, found = w.flow.mentions(n.Value)
		case *syntax.ParamExp:
			if n.Param != nil && w.flow.names[n.Param.Value] {
				name, found = n.Param.Value, true
			}
			return false
		}
		return !found
	})
	return name, found
}

// follow notes what one node does with values.
func (w *shellWriter) follow(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.Assign:
		w.followAssign(n)
	case *syntax.ParamExp:
		assigns := n.Exp != nil && (n.Exp.Op == syntax.AssignUnset || n.Exp.Op == syntax.AssignUnsetOrNull)
		if n.Param != nil && assigns && n.Exp.Word != nil && w.carries(n.Exp.Word) {
			w.flow.holds[n.Param.Value] = true
		}
	case *syntax.WordIter:
		for _, word := range n.Items {
			w.note(n.Name.Value, word)
		}
	case *syntax.FuncDecl:
		if n.Name == nil {
			return
		}
		if name := n.Name.Value; !slices.Contains(w.flow.functions[name], n.Body) {
			w.flow.functions[name] = append(w.flow.functions[name], n.Body)
		}
		if w.carries(n.Body) {
			w.flow.prints[n.Name.Value] = true
		}
	case *syntax.DeclClause:
		w.followDeclaration(n)
	case *syntax.CallExpr:
		w.followCall(n)
	case *syntax.BinaryTest:
		if n.Op == syntax.TsReMatch && w.carries(n.X) {
			w.flow.holds["BASH_REMATCH"] = true
		}
	case *syntax.Stmt:
		if n.Cmd != nil && slices.ContainsFunc(n.Redirs, func(r *syntax.Redirect) bool { return w.carries(r) }) {
			w.readers(n.Cmd)
		}
	case *syntax.BinaryCmd:
		if (n.Op == syntax.Pipe || n.Op == syntax.PipeAll) && w.carries(n.X) {
			w.readers(n.Y)
		}
	}
}

// note gives a variable what a node has.
func (w *shellWriter) note(name string, n syntax.Node) {
	if w.carries(n) {
		w.flow.holds[name] = true
	}
	if _, found := w.mentioned(n); found {
		w.flow.names[name] = true
	}
}

func (w *shellWriter) followAssign(a *syntax.Assign) {
	if a.Name == nil {
		return
	}
	if a.Value != nil {
		w.note(a.Name.Value, a.Value)
	}
	if a.Array != nil {
		w.note(a.Name.Value, a.Array)
	}
	if w.flow.integers[a.Name.Value] && w.flow.names[a.Name.Value] {
		w.flow.holds[a.Name.Value] = true // a number that bash reads from there, or another name for it
	}
}

func (w *shellWriter) followDeclaration(c *syntax.DeclClause) {
	integer := c.Variant != nil && c.Variant.Value == "nameref"
	for _, a := range c.Args {
		if a.Naked && a.Value != nil {
			option, _ := w.literal(a.Value)
			integer = integer || strings.HasPrefix(option, "-") && strings.ContainsAny(option, "in")
		}
		if integer && a.Name != nil {
			w.flow.integers[a.Name.Value] = true
		}
	}
}

// followCall notes values that become arguments: of a function, by set, by cd.
func (w *shellWriter) followCall(c *syntax.CallExpr) {
	args := c.Args
	name := ""
	for len(args) > 0 {
		if name, _ = w.literal(args[0]); name != "command" && name != "builtin" {
			break
		}
		args = args[1:]
	}
	if len(args) < 2 {
		return
	}
	if name == "eval" || name == "trap" {
		w.followText(args[1:])
	}
	if name == "set" || len(w.flow.functions[name]) > 0 {
		for _, word := range args[1:] {
			if _, found := w.mentioned(word); found {
				w.flow.positional(w.flow.names)
				w.flow.names["1"], w.flow.names["2"], w.flow.names["3"] = true, true, true
			}
		}
	}
	if !slices.ContainsFunc(args[1:], func(word *syntax.Word) bool { return w.carries(word) }) {
		return
	}
	switch {
	case name == "set" || len(w.flow.functions[name]) > 0:
		w.flow.positional(w.flow.holds)
	case name == "cd" || name == "pushd":
		for _, folder := range []string{"PWD", "OLDPWD", "DIRSTACK"} {
			w.flow.holds[folder] = true
		}
	case name == "printf" && len(args) > 2:
		if option, _ := w.literal(args[1]); option == "-v" {
			target, _ := w.literal(args[2])
			w.flow.holds[target] = true
		}
	}
}

// followText notes what a text does that eval or trap runs in this shell.
func (w *shellWriter) followText(words []*syntax.Word) {
	text, known := codeOf(words)
	if inner := w.innerShell(text); known && inner != nil {
		if file := inner.fileOf(text); file != nil {
			syntax.Walk(file, func(n syntax.Node) bool {
				inner.follow(n)
				return true
			})
		}
	}
}

// readers notes the variables that read fills, below a node whose input holds a value.
func (w *shellWriter) readers(n syntax.Node) {
	syntax.Walk(n, func(n syntax.Node) bool {
		c, ok := n.(*syntax.CallExpr)
		if !ok || len(c.Args) == 0 {
			return true
		}
		if name, _ := w.literal(c.Args[0]); name == "read" || name == "mapfile" || name == "readarray" {
			w.flow.holds["REPLY"], w.flow.holds["MAPFILE"] = true, true
			for _, arg := range c.Args[1:] {
				if variable, known := w.literal(arg); known {
					w.flow.holds[variable] = true
				}
			}
		}
		return true
	})
}

// carries reports whether a value is anywhere in a node.
func (w *shellWriter) carries(n syntax.Node) bool {
	found := false
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Lit, *syntax.SglQuoted:
			found = found || w.marked(n)
		case *syntax.ParamExp:
			found = found || n.Param != nil && !n.Length && (w.flow.held(n.Param.Value) ||
				n.Excl && (w.flow.names[n.Param.Value] || n.Param.Value == "#" && w.flow.holds["@"]))
		case *syntax.CallExpr:
			if len(n.Args) > 0 {
				name, _ := w.literal(n.Args[0])
				found = found || w.flow.prints[name] || (name == "pwd" || name == "dirs") && w.flow.holds["PWD"]
			}
		}
		return !found
	})
	return found
}

// marked reports whether a leaf of the tree has a mark of a parameter that is not tame.
func (w *shellWriter) marked(leaf syntax.Node) bool {
	for i := range w.marksIn(leaf) {
		if !w.marks[i].p.tame() {
			return true
		}
	}
	return false
}

// runsInput returns the program below a node that runs what it reads, if there is one.
func (w *shellWriter) runsInput(n syntax.Node) string { return w.runsInputOf(n, nil) }

func (w *shellWriter) runsInputOf(n syntax.Node, within []string) string {
	found := ""
	syntax.Walk(n, func(n syntax.Node) bool {
		c, ok := n.(*syntax.CallExpr)
		if !ok || len(c.Args) == 0 || found != "" {
			return found == ""
		}
		name, _ := w.literal(c.Args[0])
		if bodies := w.flow.functions[name]; len(bodies) > 0 && !slices.Contains(within, name) && len(within) < 10 {
			for _, body := range bodies {
				found = cmp.Or(found, w.runsInputOf(body, append(slices.Clone(within), name)))
			}
			return true
		}
		found = inspect(w, c.Args).runs
		return true
	})
	return found
}

// literal returns the text that a word begins with, quotes taken off, and whether that is all of it: neither marks nor
// expansions are in it.
func (w *shellWriter) literal(word *syntax.Word) (text string, known bool) {
	return w.literals(word.Parts)
}

func (w *shellWriter) literals(parts []syntax.WordPart) (text string, known bool) {
	var out strings.Builder
	for _, p := range parts {
		text, whole := "", false
		switch p := p.(type) {
		case *syntax.Lit:
			text, whole = w.unmarked(p, p.Value)
			text = strings.ReplaceAll(text, `\`, "")
		case *syntax.SglQuoted:
			text, whole = w.unmarked(p, p.Value)
			whole = whole && !p.Dollar
		case *syntax.DblQuoted:
			text, whole = w.literals(p.Parts)
			whole = whole && !p.Dollar
		}
		out.WriteString(text)
		if !whole {
			return out.String(), false
		}
	}
	return out.String(), true
}

// unmarked returns what stands before the first mark of a leaf, and whether that is all of it.
func (w *shellWriter) unmarked(leaf syntax.Node, value string) (text string, whole bool) {
	for i := range w.marksIn(leaf) {
		m := w.marks[i]
		text, _, _ := strings.Cut(value, w.text[m.start:m.end])
		return text, false
	}
	return value, true
}
