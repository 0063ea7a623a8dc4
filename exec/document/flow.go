package document

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// flow is where values go in a script: the variables that may hold one. It is judged without order: a variable that
// holds a value anywhere holds it everywhere.
type flow struct {
	holds     map[string]bool
	integers  map[string]bool // variables that bash evaluates on assignment
	functions map[string]*syntax.Stmt
}

// maxRounds bounds how often a script is gone through: once more for each variable that is given on to one that stands
// above it.
const maxRounds = 20

// trace finds where values go, again and again until nothing is found any more.
func (w *shellWriter) trace(file *syntax.File) {
	f := &flow{holds: map[string]bool{}, integers: map[string]bool{}, functions: map[string]*syntax.Stmt{}}
	w.flow = f
	for _, p := range w.b.d.parameters {
		if !p.tame() {
			f.holds[variable(p.Name)] = true
		}
	}
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

func (f *flow) size() int { return len(f.holds) + len(f.integers) + len(f.functions) }

// follow notes what one node does with values.
func (w *shellWriter) follow(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.Assign:
		if n.Name != nil && (n.Value != nil && w.carries(n.Value) || n.Array != nil && w.carries(n.Array)) {
			w.flow.holds[n.Name.Value] = true
		}
	case *syntax.ParamExp:
		if n.Param != nil && n.Exp != nil && n.Exp.Word != nil && w.carries(n.Exp.Word) {
			w.flow.holds[n.Param.Value] = true
		}
	case *syntax.WordIter:
		if slices.ContainsFunc(n.Items, func(word *syntax.Word) bool { return w.carries(word) }) {
			w.flow.holds[n.Name.Value] = true
		}
	case *syntax.FuncDecl:
		if n.Name != nil {
			w.flow.functions[n.Name.Value] = n.Body
		}
	case *syntax.DeclClause:
		w.followDeclaration(n)
	case *syntax.CallExpr:
		w.followCall(n)
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

func (w *shellWriter) followDeclaration(c *syntax.DeclClause) {
	integer := false
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

// followCall notes values that become arguments: of a function, or by set.
func (w *shellWriter) followCall(c *syntax.CallExpr) {
	if len(c.Args) < 2 || !slices.ContainsFunc(c.Args[1:], func(word *syntax.Word) bool { return w.carries(word) }) {
		return
	}
	name, _ := w.literal(c.Args[0])
	switch {
	case name == "set" || w.flow.functions[name] != nil:
		for _, p := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "@", "*"} {
			w.flow.holds[p] = true
		}
	case name == "printf" && len(c.Args) > 2:
		if option, _ := w.literal(c.Args[1]); option == "-v" {
			target, _ := w.literal(c.Args[2])
			w.flow.holds[target] = true
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
			found = found || n.Param != nil && w.flow.holds[n.Param.Value]
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
		if body := w.flow.functions[name]; body != nil && !slices.Contains(within, name) && len(within) < 10 {
			found = w.runsInputOf(body, append(slices.Clone(within), name))
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
