package document

import (
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"github.com/muster-fleet/muster/node/fleet"
)

// FuzzParse: whatever the text, Parse ends with an Invalid or with a document that plans for the values it completes.
func FuzzParse(f *testing.F) {
	for _, text := range guides(f) {
		f.Add(text)
	}
	for _, b := range BuiltIn() {
		f.Add(b.Text)
	}
	f.Add([]byte(docWith("echo {{ p }}")))
	f.Add([]byte(typed))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			if fleet.KindOf(err) != fleet.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		d.Help("x")
		d.RawShell()
		v, err := d.Complete(nil)
		if err != nil {
			return
		}
		again, err := d.Complete(v.Arguments())
		if err != nil {
			t.Fatalf("what was complete is not any more: %v", err)
		}
		if _, err := d.Uses(again); err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Fatalf("%v", err)
		}
		plan, err := d.Plan(again, Host{Platform: Linux}, nil)
		if err != nil {
			if fleet.KindOf(err) != fleet.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := plan.Check(); err != nil {
			t.Fatalf("a plan that no runner takes: %v", err)
		}
	})
}

// FuzzRewrite: a script that is taken is a script again, has no reference of the document's left outside of comments,
// and has ours only where a shell takes nothing in them for more than text.
func FuzzRewrite(f *testing.F) {
	for _, p := range places {
		f.Add(p.script)
	}
	for _, script := range []string{"`echo \"{{ n }}\"`", "cat <<'E'\n\\{{ p }}$\nE\n", `"${x:-'{{ p }}'}"`, "$(( {{ n }} ))", "{{ p }} | {{ l }}", "x[{{ n }}]=1", "# {{ p }}\n'{{ p }}'"} {
		f.Add(script)
		f.Add("#!/bin/bash\n" + script)
	}
	d := parsed(f, docWith("true"))
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 2_000 || strings.Contains(script, "SSM_") || strings.Contains(script, "MUSTER_LINES_") {
			return
		}
		var src source
		src.add(&node{text: script, line: 1})
		b := builder{d: d, s: d.steps[0]}
		c, err := b.rewriteShell(src)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("no line: %v", err)
			}
			return
		}
		if len(refs(src.text)) == 0 {
			if c.text != src.text {
				t.Fatalf("%q became %q", src.text, c.text)
			}
			return
		}
		dialects, _ := dialectsOf(src.text)
		read := 0
		for _, dialect := range dialects {
			if file, err := parseShell(c.text, dialect); err == nil {
				read++
				guarded(t, c.text, file)
			}
		}
		if read == 0 && !strings.ContainsAny(c.text, "#") { // the parser takes the # of "x"#y for a comment, shells do not
			t.Fatalf("%q became %q, which is no script", src.text, c.text)
		}
	})
}

// guarded fails if a reference of ours stands where a shell splits it, takes its name, or sees code. It knows nothing of
// how the references came there.
func guarded(t *testing.T, text string, file *syntax.File) {
	t.Helper()
	var path []syntax.Node
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			path = path[:len(path)-1]
			return true
		}
		path = append(path, n)
		switch n := n.(type) {
		case *syntax.Lit:
			if strings.Contains(n.Value, "{{ p }}") && !within[*syntax.Comment](path) {
				t.Fatalf("left over in %q", text)
			}
		case *syntax.SglQuoted:
			if strings.Contains(n.Value, "${SSM_") {
				t.Fatalf("quoted away in %q", text)
			}
		case *syntax.ParamExp:
			name := ""
			if n.Param != nil {
				name = n.Param.Value
			}
			if ours := strings.HasPrefix(name, "SSM_") || strings.HasPrefix(name, "MUSTER_LINES_") || strings.HasPrefix(name, storeVariable); ours && !held(n, name, path) {
				t.Fatalf("%s stands open in %q", name, text)
			}
		}
		return true
	})
}

func within[T syntax.Node](path []syntax.Node) bool {
	for _, n := range path {
		if _, ok := n.(T); ok {
			return true
		}
	}
	return false
}

// held reports whether a reference is quoted, or can only be a number or a word that the author listed.
func held(p *syntax.ParamExp, name string, path []syntax.Node) bool {
	switch name {
	case "SSM_n", "SSM_b", "SSM_e":
		return p.Excl == false
	}
	for i := len(path) - 2; i >= 0; i-- {
		switch n := path[i].(type) {
		case *syntax.DblQuoted:
			return !within[*syntax.ArithmExp](path[i:]) && !n.Dollar
		case *syntax.Redirect:
			return n.Hdoc != nil
		case *syntax.CmdSubst:
			if n.Backquotes {
				return false
			}
			return false // $(…) begins quoting anew, and we have not met any
		case *syntax.Stmt:
			return false
		}
	}
	return false
}
