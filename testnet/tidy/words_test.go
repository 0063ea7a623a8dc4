package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// undocumented lists packages without one comment that introduces them, and exported names without one of their own.
func undocumented(h house) []string {
	var out []string
	for _, r := range h.rooms {
		if n := introductions(r); n != 1 {
			out = append(out, fmt.Sprintf("%s has %d package comments, not one", r.path, n))
		}
		for _, f := range r.files {
			if f.test {
				continue
			}
			for _, d := range f.Decls {
				out = append(out, h.silent(f, d)...)
			}
		}
	}
	return out
}

// introductions counts the files that say what the package is: "Package x …", "Command x …".
func introductions(r room) int {
	count := 0
	for _, f := range r.files {
		words := f.Doc.Text()
		if !f.test && (strings.HasPrefix(words, "Package "+f.Name.Name+" ") || (f.Name.Name == "main" && strings.HasPrefix(words, "Command "))) {
			count++
		}
	}
	return count
}

// silent lists a declaration's exported names that nothing is said about. A comment on a group speaks for its constants
// and variables; each type says what it is.
func (h house) silent(f file, d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
			return []string{fmt.Sprintf("%s: %s has no doc comment", h.at(f, d.Pos()), d.Name.Name)}
		}
	case *ast.GenDecl:
		return h.silentSpecs(f, d)
	}
	return nil
}

func (h house) silentSpecs(f file, d *ast.GenDecl) []string {
	var out []string
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			alone := len(d.Specs) == 1 && d.Doc != nil
			if spec.Name.IsExported() && !alone && spec.Doc == nil && spec.Comment == nil {
				out = append(out, fmt.Sprintf("%s: %s has no doc comment", h.at(f, spec.Pos()), spec.Name.Name))
			}
		case *ast.ValueSpec:
			said := d.Doc != nil || spec.Doc != nil || spec.Comment != nil
			for _, name := range spec.Names {
				if name.IsExported() && !said {
					out = append(out, fmt.Sprintf("%s: %s has no doc comment", h.at(f, name.Pos()), name.Name))
				}
			}
		}
	}
	return out
}

// exportedReceiver reports whether a function is one that other packages can name.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	name := receiver(d)
	return name == "" || token.IsExported(name)
}

// receiver returns the name of a method's type, "" for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	of := d.Recv.List[0].Type
	for {
		switch t := of.(type) {
		case *ast.StarExpr:
			of = t.X
		case *ast.IndexExpr:
			of = t.X
		case *ast.IndexListExpr:
			of = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

func TestEverythingIsSaid(t *testing.T) { none(t, undocumented(standing(t))) }

func TestEverythingIsSaidCatches(t *testing.T) {
	h := plant(t, map[string]string{
		"exec/doc.go":        "// Package exec decides.\npackage exec",
		"params/doc.go":      "// This is params.\npackage params",
		"patch/a.go":         "// Package patch plans.\npackage patch",
		"patch/b.go":         "// Package patch also selects.\npackage patch",
		"cmd/muster/doc.go":  "// Command muster is it.\npackage main",
		"cmd/muster/main.go": "package main\nfunc main() {}",
		"exec/a.go": `package exec

func Bare() {}

// Said says it.
func Said() {}

type Thing struct{}

func (t *Thing) Do() {}

type hidden struct{}

func (hidden) Error() string { return "" }

const Loose = 1

// The limits.
const (
	MaxA = 1
	MaxB = 2
)

// The kinds.
type (
	// One is one.
	One struct{}
	Two struct{}
	Three struct{} // is three
)
`,
	})
	caught(t, undocumented(h),
		"exec/a.go:3: Bare", "exec/a.go:8: Thing", "exec/a.go:10: Do", "exec/a.go:16: Loose", "exec/a.go:28: Two",
		"params has 0 package comments", "patch has 2 package comments",
	)
}
