package tidy

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/muster-fleet/muster"

// house is the parsed sources of the module, or of a planted one.
type house struct {
	fset  *token.FileSet
	rooms []room // by path
}

// room is one package; its path is below the module: node/auth.
type room struct {
	path  string
	files []file
}

// file is one source; its path is below the module's folder, with slashes.
type file struct {
	path string
	test bool
	*ast.File
}

// imports lists what the room's shipped code imports, with where.
func (h house) imports(r room) []imported {
	var out []imported
	for _, f := range r.files {
		if f.test {
			continue
		}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue
			}
			out = append(out, imported{p, h.at(f, spec.Pos())})
		}
	}
	return out
}

type imported struct{ path, where string }

// own returns a path below the module, if the import is one of its packages.
func (i imported) own() (string, bool) { return strings.CutPrefix(i.path, module+"/") }

// foreign reports whether the import is a library of somebody else's: its first element has a dot.
func (i imported) foreign() bool {
	first, _, _ := strings.Cut(i.path, "/")
	_, own := i.own()
	return strings.Contains(first, ".") && !own
}

// at returns file:line of a position.
func (h house) at(f file, pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, h.fset.Position(pos).Line)
}

func (h house) find(path string) (file, bool) {
	for _, r := range h.rooms {
		for _, f := range r.files {
			if f.path == path {
				return f, true
			}
		}
	}
	return file{}, false
}

// root returns the module's folder.
func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// standing reads the house as it stands, by what the go command lists: sources for this platform, tests included.
func standing(t *testing.T) house {
	t.Helper()
	top := root(t)
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir, cmd.Stderr = top, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Dir, ImportPath                    string
			GoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			sources[path.Join(strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"), name)] = string(text)
		}
	}
	if len(sources) == 0 {
		t.Fatal("the go command lists no sources")
	}
	return plant(t, sources)
}

// plant makes a house of sources in memory: path below the module → text.
func plant(t *testing.T, sources map[string]string) house {
	t.Helper()
	h := house{fset: token.NewFileSet()}
	rooms := map[string][]file{}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		parsed, err := parser.ParseFile(h.fset, name, sources[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		rooms[path.Dir(name)] = append(rooms[path.Dir(name)], file{name, strings.HasSuffix(name, "_test.go"), parsed})
	}
	for _, p := range slices.Sorted(maps.Keys(rooms)) {
		h.rooms = append(h.rooms, room{p, rooms[p]})
	}
	return h
}

// none fails with every violation that there is.
func none(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}

// caught fails unless there are exactly as many violations as wanted, in order, each with the wanted text in it.
func caught(t *testing.T, violations []string, want ...string) {
	t.Helper()
	if len(violations) != len(want) {
		t.Fatalf("caught %d violations, not %d:\n%s", len(violations), len(want), strings.Join(violations, "\n"))
	}
	for i, v := range violations {
		if !strings.Contains(v, want[i]) {
			t.Errorf("caught %q, wanted %q in it", v, want[i])
		}
	}
}

// within reports whether a path is the folder or below it.
func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestForeign(t *testing.T) {
	for path, want := range map[string]bool{"fmt": false, "net/http": false, module + "/exec": false, "golang.org/x/sys/unix": true} {
		if got := (imported{path: path}).foreign(); got != want {
			t.Errorf("%s: foreign is %v", path, got)
		}
	}
}
