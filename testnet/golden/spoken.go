package golden

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// room is a package of this module with its types.
type room struct {
	path  string
	dir   string
	files []*ast.File
	info  *types.Info
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	Module                  *struct{ Main bool }
}

// load type-checks the rooms below root that speak to other hosts or keep files, without their tests: what the command line
// signs is opened there.
func load(root string) ([]room, error) {
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Module",
		"./consensus/...", "./exec/...", "./node/...", "./params/...")
	list.Dir = root
	list.Stderr = os.Stderr
	out, err := list.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := list.Start(); err != nil {
		return nil, err
	}
	var ours []listed
	exports := map[string]string{}
	for dec := json.NewDecoder(out); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if p.Module != nil && p.Module.Main {
			ours = append(ours, p)
		}
	}
	if err := list.Wait(); err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	files := token.NewFileSet()
	imports := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	var rooms []room
	for _, p := range ours {
		r := room{path: p.ImportPath, dir: p.Dir, info: &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{},
			Instances: map[*ast.Ident]types.Instance{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
		}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			r.files = append(r.files, f)
		}
		conf := types.Config{Importer: imports}
		if _, err := conf.Check(p.ImportPath, files, r.files, r.info); err != nil {
			return nil, err
		}
		rooms = append(rooms, r)
	}
	return rooms, nil
}

// carriers are functions by their full names, with the parameters that go through wire: numbers of arguments, and of type
// parameters.
type carriers struct {
	values map[string][]int
	types  map[string][]int
}

const wirePath = "github.com/muster-fleet/muster/node/fleet/wire"

// spoken lists the types that go through wire, by the package that declares them.
func spoken(rooms []room) map[string][]string {
	c := carriers{
		values: map[string][]int{wirePath + ".Marshal": {0}, wirePath + ".Unmarshal": {1}},
		types:  map[string][]int{},
	}
	found := map[string][]string{}
	for grew := true; grew; {
		grew = false
		for _, r := range rooms {
			for _, f := range r.files {
				for _, d := range f.Decls {
					if d, ok := d.(*ast.FuncDecl); ok && d.Body != nil && c.look(r, d, found) {
						grew = true
					}
				}
			}
		}
	}
	return found
}

// look reads one function: what it gives to carriers is spoken, or, where that is a parameter of its own, makes it a carrier.
func (c carriers) look(r room, d *ast.FuncDecl, found map[string][]string) (grew bool) {
	self := r.info.Defs[d.Name].(*types.Func)
	signature := self.Type().(*types.Signature)
	take := func(t types.Type) {
		grew = c.take(self.FullName(), signature, t, found) || grew
	}
	ast.Inspect(d.Body, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			if instance, ok := r.info.Instances[id]; ok {
				if f, ok := r.info.Uses[id].(*types.Func); ok {
					for _, i := range c.types[f.Origin().FullName()] {
						take(instance.TypeArgs.At(i))
					}
				}
			}
			return true
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f := called(r, call)
		if f == nil {
			return true
		}
		for _, i := range c.values[f.Origin().FullName()] {
			if i >= len(call.Args) {
				continue
			}
			if p := parameter(r, signature, call.Args[i]); p >= 0 {
				grew = add1(c.values, self.FullName(), p) || grew
			}
			take(r.info.Types[call.Args[i]].Type)
		}
		return true
	})
	return grew
}

// called returns the function that a call names, or nil.
func called(r room, call *ast.CallExpr) *types.Func {
	fun := ast.Unparen(call.Fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	switch x := fun.(type) {
	case *ast.Ident:
		f, _ := r.info.Uses[x].(*types.Func)
		return f
	case *ast.SelectorExpr:
		f, _ := r.info.Uses[x.Sel].(*types.Func)
		return f
	}
	return nil
}

// parameter returns which of a function's own parameters an argument is, where that may be of any type; -1: none.
func parameter(r room, s *types.Signature, arg ast.Expr) int {
	id, ok := ast.Unparen(arg).(*ast.Ident)
	if !ok {
		return -1
	}
	for i := range s.Params().Len() {
		if p := s.Params().At(i); r.info.Uses[id] == p && types.IsInterface(p.Type()) {
			return i
		}
	}
	return -1
}

// take notes a type that goes through wire, or the type parameter that it is.
func (c carriers) take(self string, s *types.Signature, t types.Type, found map[string][]string) bool {
	for {
		switch x := types.Unalias(t).(type) {
		case *types.Pointer:
			t = x.Elem()
			continue
		case *types.Slice:
			t = x.Elem()
			continue
		case *types.TypeParam:
			for i := range s.TypeParams().Len() {
				if s.TypeParams().At(i) == x {
					return add1(c.types, self, i)
				}
			}
			return false
		case *types.Named:
			if _, ok := x.Underlying().(*types.Struct); !ok || x.Obj().Pkg() == nil || x.TypeArgs().Len() > 0 {
				return false
			}
			if x.Obj().Parent() != x.Obj().Pkg().Scope() { // declared within a function: what it holds is looked at there
				return false
			}
			return add1(found, x.Obj().Pkg().Path(), x.Obj().Name())
		}
		return false
	}
}

func add1[T comparable](to map[string][]T, key string, v T) bool {
	if slices.Contains(to[key], v) {
		return false
	}
	to[key] = append(to[key], v)
	return true
}

// missing lists spoken types that no file keeps, as PACKAGE.TYPE.
func missing(rooms []room) ([]string, error) {
	var out []string
	all := spoken(rooms)
	for _, r := range rooms {
		if len(all[r.path]) == 0 {
			continue
		}
		kept, err := read(filepath.Join(r.dir, File))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, name := range all[r.path] {
			if _, ok := kept[name]; !ok {
				out = append(out, strings.TrimPrefix(r.path, "github.com/muster-fleet/muster/")+"."+name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
