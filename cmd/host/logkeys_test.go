package host

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logCall is one call of a logger, with its keys as they stand in the source.
type logCall struct {
	where string
	keys  []string
	odd   string // what is wrong with its arguments; empty: nothing
}

// logCalls finds the calls of loggers in a file.
func logCalls(files *token.FileSet, f *ast.File) []logCall {
	var out []logCall
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !isLogger(method.X) {
			return true
		}
		first := map[string]int{"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "With": 0}
		from, ok := first[method.Sel.Name]
		if !ok || len(call.Args) < from || call.Ellipsis != token.NoPos {
			return true
		}
		c := logCall{where: files.Position(call.Pos()).String()}
		for i := from; i < len(call.Args); {
			key, width, ok := keyOf(call.Args[i])
			if !ok || i+width > len(call.Args) {
				c.odd = "what stands where a key should is no text"
				break
			}
			c.keys = append(c.keys, key)
			i += width
		}
		out = append(out, c)
		return true
	})
	return out
}

// isLogger reports whether an expression is called as loggers are in this program: log, a.log, h.opts.Log.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "log"
	case *ast.SelectorExpr:
		return x.Sel.Name == "log" || x.Sel.Name == "Log"
	}
	return false
}

// keyOf reads a key, and how many arguments it takes with its value: two, or one of slog.Any("key", v) and its like.
func keyOf(x ast.Expr) (key string, width int, ok bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		return text, 2, err == nil && x.Kind == token.STRING
	case *ast.CallExpr:
		of, ok := x.Fun.(*ast.SelectorExpr)
		if !ok || len(x.Args) != 2 {
			return "", 0, false
		}
		if pkg, named := of.X.(*ast.Ident); !named || pkg.Name != "slog" {
			return "", 0, false
		}
		key, _, ok := keyOf(x.Args[0])
		return key, 1, ok
	}
	return "", 0, false
}

// wrongKeys lists calls with a key that is not on the list, or none where one should be.
func wrongKeys(calls []logCall, list []LogKey) []string {
	var out []string
	for _, c := range calls {
		if c.odd != "" {
			out = append(out, c.where+": "+c.odd)
		}
		for _, key := range c.keys {
			if !slices.ContainsFunc(list, func(k LogKey) bool { return k.Name == key }) {
				out = append(out, fmt.Sprintf("%s: the key %q is not on the list of cmd/host/logkeys.go; is there one for it?", c.where, key))
			}
		}
	}
	return out
}

// sourceCalls are the log calls of all that is shipped.
func sourceCalls(t *testing.T) []logCall {
	t.Helper()
	var out []logCall
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "testnet" || name == "testdata" || name == "packaging" || strings.HasPrefix(name, ".") && path != root) {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, logCalls(files, f)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whoever searches logs searches by keys: one thing has one.
func TestLogKeys(t *testing.T) {
	calls := sourceCalls(t)
	for _, wrong := range wrongKeys(calls, LogKeys()) {
		t.Error(wrong)
	}
	used := map[string]bool{}
	for _, c := range calls {
		for _, key := range c.keys {
			used[key] = true
		}
	}
	if len(used) < 20 {
		t.Errorf("only %d keys were found", len(used))
	}
	last := ""
	for _, k := range LogKeys() {
		if slices.Contains([]string{"time", "level", "msg", "source"}, k.Name) {
			t.Errorf("the key %q is slog's own: in JSON it would be there twice", k.Name)
		}
		if !used[k.Name] {
			t.Errorf("the key %q is on the list, and nothing is logged with it", k.Name)
		}
		if k.Name <= last || k.Means == "" {
			t.Errorf("the key %q is not in its place, or says nothing", k.Name)
		}
		last = k.Name
	}
}

func TestLogKeysCatches(t *testing.T) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "a.go", `package a
func f() {
	log.Info("good", "err", err)
	a.log.Warn("strange", "mystery", 1)
	h.opts.Log.Error("none", key, 1)
	a.log.Debug("half", "err")
	s.cfg.Log.Warn("wrapped", slog.Any("mystery", 1), "err", err)
	other.Info("no logger", "mystery", 1)
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := wrongKeys(logCalls(files, f), []LogKey{{"err", "why"}}); len(wrong) != 4 {
		t.Errorf("%q", wrong)
	}
}
