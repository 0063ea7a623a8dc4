package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// constant are calls whose results never change once they are made: package variables may hold them.
var constant = map[string]string{
	"regexp.MustCompile": "a compiled pattern",
	"errors.New":         "an error value",
	"fleet.Errorf":       "an error value",
	"Errorf":             "an error value, in node/fleet itself",
	"base32.NewEncoding": "an alphabet",
	"time.Date":          "a moment",
}

// variables are package variables that nothing else explains, as package.name.
var variables = map[string]string{
	"cmd/muster.release": "the linker sets it, nobody else",
	"node/report.native": "the host's byte order, a value of encoding/binary",
	"testnet.Build":      "a sync.OnceValues: the binary is built once per test process",
}

// mutable lists init functions, package variables that could hold state, and writes to those that are tables.
func mutable(h house) []string {
	var out []string
	for _, r := range h.rooms {
		tables := map[string]bool{}
		for _, f := range r.files {
			out = append(out, h.inits(f)...)
			if !f.test {
				out = append(out, h.variablesOf(r, f, tables)...)
			}
		}
		for _, f := range r.files {
			if !f.test {
				out = append(out, h.writes(f, tables)...)
			}
		}
	}
	return out
}

func (h house) inits(f file) []string {
	var out []string
	for _, d := range f.Decls {
		if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == "init" {
			out = append(out, h.at(f, d.Pos())+": an init function")
		}
	}
	return out
}

// variablesOf lists package variables that are neither constant nor a table, and adds all names to tables.
func (h house) variablesOf(r room, f file, tables map[string]bool) []string {
	var out []string
	for _, d := range f.Decls {
		d, ok := d.(*ast.GenDecl)
		if !ok || d.Tok != token.VAR {
			continue
		}
		for _, spec := range d.Specs {
			spec := spec.(*ast.ValueSpec)
			for i, name := range spec.Names {
				if name.Name == "_" {
					continue
				}
				tables[name.Name] = true
				var value ast.Expr
				if i < len(spec.Values) {
					value = spec.Values[i]
				}
				if isPattern(value) && !within(r.path, "testnet") {
					out = append(out, fmt.Sprintf("%s: %s is compiled whenever a run starts: make it a fleet.Pattern", h.at(f, name.Pos()), name.Name))
				}
				if variables[r.path+"."+name.Name] == "" && !isConstant(value) && !isEmbedded(spec) {
					out = append(out, fmt.Sprintf("%s: package variable %s may hold state", h.at(f, name.Pos()), name.Name))
				}
			}
		}
	}
	return out
}

// isEmbedded reports whether a variable is a file of the source as text.
func isEmbedded(spec *ast.ValueSpec) bool {
	text, ok := spec.Type.(*ast.Ident)
	if !ok || text.Name != "string" || spec.Doc == nil {
		return false
	}
	for _, line := range spec.Doc.List {
		if strings.HasPrefix(line.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// isPattern reports whether an initial value is a regular expression that is compiled when the process starts.
func isPattern(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && f.Sel.Name == "MustCompile"
}

// isConstant reports whether an initial value is one of the calls above, a method of one, or a table written out.
func isConstant(value ast.Expr) bool {
	switch v := value.(type) {
	case *ast.CompositeLit:
		switch v.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			return true
		}
	case *ast.CallExpr:
		if bytes, ok := v.Fun.(*ast.ArrayType); ok && bytes.Len == nil { // []byte("name")
			return true
		}
		switch f := v.Fun.(type) {
		case *ast.Ident:
			return constant[f.Name] != ""
		case *ast.SelectorExpr:
			if of, ok := f.X.(*ast.Ident); ok {
				return constant[of.Name+"."+f.Sel.Name] != ""
			}
			return isConstant(f.X) // fleet.Errorf(…).Hinted(…)
		}
	}
	return false
}

// writes lists what changes a package variable: assignments to it or into it, ++, its address, delete and clear.
func (h house) writes(f file, tables map[string]bool) []string {
	var out []string
	for _, d := range f.Decls {
		d, ok := d.(*ast.FuncDecl)
		if !ok || d.Body == nil {
			continue
		}
		local := locals(d)
		hit := func(e ast.Expr, what string) {
			if name, ok := rootName(e); ok && tables[name] && !local[name] {
				out = append(out, fmt.Sprintf("%s: %s of package variable %s", h.at(f, e.Pos()), what, name))
			}
		}
		ast.Inspect(d.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, left := range n.Lhs {
						hit(left, "a change")
					}
				}
			case *ast.IncDecStmt:
				hit(n.X, "a change")
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					hit(n.X, "the address")
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (f.Name == "delete" || f.Name == "clear" || f.Name == "copy") {
					hit(n.Args[0], "a change")
				}
			}
			return true
		})
	}
	return out
}

// rootName returns x of x, x.y, x[i] and *x.
func rootName(e ast.Expr) (string, bool) {
	for {
		switch v := e.(type) {
		case *ast.Ident:
			return v.Name, true
		case *ast.SelectorExpr:
			e = v.X
		case *ast.IndexExpr:
			e = v.X
		case *ast.SliceExpr:
			e = v.X
		case *ast.StarExpr:
			e = v.X
		case *ast.ParenExpr:
			e = v.X
		default:
			return "", false
		}
	}
}

// locals returns every name that a function declares anywhere in it.
func locals(d *ast.FuncDecl) map[string]bool {
	out := map[string]bool{}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				out[name.Name] = true
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				out[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, left := range n.Lhs {
					if name, ok := left.(*ast.Ident); ok {
						out[name.Name] = true
					}
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if name, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					out[name.Name] = true
				}
			}
		}
		return true
	})
	return out
}

// unusedVariables lists lines of the table above that nothing needs.
func unusedVariables(h house) []string {
	needed := map[string]bool{}
	for _, r := range h.rooms {
		for _, f := range r.files {
			for _, d := range f.Decls {
				if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.VAR && !f.test {
					for _, spec := range d.Specs {
						for _, name := range spec.(*ast.ValueSpec).Names {
							needed[r.path+"."+name.Name] = true
						}
					}
				}
			}
		}
	}
	var out []string
	for name := range variables {
		if !needed[name] {
			out = append(out, "there is no package variable "+name)
		}
	}
	return out
}

func TestNoHiddenState(t *testing.T) {
	h := standing(t)
	none(t, mutable(h))
	none(t, unusedVariables(h))
}

func TestNoHiddenStateCatches(t *testing.T) {
	h := plant(t, map[string]string{
		"exec/a.go": `package exec
import ("regexp"; "errors"; "sync")
var form = regexp.MustCompile("a")
var errA = errors.New("a")
var errB = fleet.Errorf(1, "b").Hinted("c")
var names = [...]string{"a"}
var kinds = map[string]int{"a": 1}
var bucket = []byte("b")
var _ error = errA
var count int
var lock sync.Mutex
var cache = make(map[string]int)
var seen = &names
func init() {}
func set(k string) {
	kinds[k] = 2
	names[0] = "b"
	count++
	delete(kinds, k)
	p := &names
	_ = p
}
func fine() {
	kinds := map[string]int{}
	kinds["a"] = 3
}
`,
		"exec/a_test.go": "package exec\nvar counter int\nfunc init() {}",
	})
	caught(t, mutable(h),
		"exec/a.go:14: an init function", "exec/a.go:3: form is compiled whenever a run starts",
		"exec/a.go:10: package variable count", "exec/a.go:11: package variable lock", "exec/a.go:12: package variable cache",
		"exec/a.go:13: package variable seen",
		"exec/a_test.go:3: an init function",
		"exec/a.go:16: a change of package variable kinds", "exec/a.go:17: a change of package variable names",
		"exec/a.go:18: a change of package variable count", "exec/a.go:19: a change of package variable kinds",
		"exec/a.go:20: the address of package variable names",
	)
}
