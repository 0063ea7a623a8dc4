package tidy

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// doing is what the pure rooms may not import, packages below it included: files, processes, sockets, locks, logs,
// the ways around them, and randomness that no seed repeats.
var doing = []string{
	"context", "crypto/rand", "io/ioutil", "log", "math/rand", "net", "os", "plugin", "runtime", "sync", "syscall", "testing", "unsafe",
}

// harmless is what lies below doing and does nothing.
var harmless = []string{"math/rand/v2", "net/netip", "net/url"}

// impure are functions of permitted packages that read a clock or draw randomness.
var impure = map[string][]string{
	"time":           {"After", "AfterFunc", "LoadLocation", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"},
	"crypto/ed25519": {"GenerateKey"},
	"crypto/ecdh":    {"GenerateKey"},
	"math/rand/v2": {
		"ExpFloat64", "Float32", "Float64", "Int", "Int32", "Int32N", "Int64", "Int64N", "IntN", "N", "NormFloat64", "Perm", "Shuffle",
		"Uint", "Uint32", "Uint32N", "Uint64", "Uint64N", "UintN",
	},
}

func isPure(path string) bool {
	height, _, ok := place(path)
	return ok && ladder[height].kind == pure
}

// deeds lists what pure rooms do that only shells may.
func deeds(h house) []string {
	var out []string
	for _, r := range h.rooms {
		if !isPure(r.path) {
			continue
		}
		for _, i := range h.imports(r) {
			if isDoing(i.path) {
				out = append(out, fmt.Sprintf("%s: %s is pure and may not import %s", i.where, r.path, i.path))
			}
		}
		for _, f := range r.files {
			if !f.test {
				out = append(out, h.deedsIn(f)...)
			}
		}
	}
	return out
}

func isDoing(path string) bool {
	below := func(folder string) bool { return within(path, folder) }
	return slices.ContainsFunc(doing, below) && !slices.ContainsFunc(harmless, below)
}

// deedsIn lists goroutines and impure calls of a source. It goes by names: a variable that is called like a package is
// taken for it.
func (h house) deedsIn(f file) []string {
	var out []string
	local := map[string][]string{} // name of a package in this file → its impure functions
	for _, spec := range f.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		names, watched := impure[path]
		switch {
		case !watched:
		case spec.Name == nil:
			local[called(path)] = names
		case spec.Name.Name == ".":
			out = append(out, h.at(f, spec.Pos())+": dot import of "+path)
		default:
			local[spec.Name.Name] = names
		}
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, h.at(f, n.Pos())+": a goroutine in a pure package")
		case *ast.SelectorExpr:
			if of, ok := n.X.(*ast.Ident); ok && slices.Contains(local[of.Name], n.Sel.Name) {
				out = append(out, fmt.Sprintf("%s: %s.%s in a pure package", h.at(f, n.Pos()), of.Name, n.Sel.Name))
			}
		}
		return true
	})
	return out
}

// called returns the name by which a package of the standard library goes.
func called(path string) string {
	parts := strings.Split(path, "/")
	name := parts[len(parts)-1]
	if name == "v2" {
		name = parts[len(parts)-2]
	}
	return name
}

func TestPureRoomsOnlyDecide(t *testing.T) { none(t, deeds(standing(t))) }

func TestPureRoomsOnlyDecideCatches(t *testing.T) {
	h := plant(t, map[string]string{
		"exec/a.go": `package exec
import (
	"net/netip"
	"os/exec"
	"sync/atomic"
	clock "time"
	"math/rand/v2"
)
var ( _ netip.Addr; _ *exec.Cmd; _ atomic.Bool )
func now() (clock.Time, *rand.Rand) { go now(); return clock.Now(), rand.New(rand.NewPCG(1, rand.Uint64())) }
`,
		"exec/a_test.go":       "package exec\nimport \"os\"\nvar _ = os.Args",
		"exec/runner/a.go":     "package runner\nimport \"os\"\nvar _ = os.Args",
		"node/fleet/a.go":      "package fleet\nimport \"net/http\"\nvar _ http.Client",
		"node/auth/a.go":       "package auth\nimport . \"time\"\nvar _ = Now",
		"consensus/a.go":       "package consensus\nimport \"time\"\nvar f = time.Since",
		"params/a.go":          "package params\nimport \"math/rand\"\nvar _ = rand.Int",
		"node/fleet/wire/a.go": "package wire\nimport \"crypto/ed25519\"\nvar _, _, _ = ed25519.GenerateKey(nil)",
	})
	caught(t, deeds(h),
		"consensus/a.go:3: time.Since",
		"exec/a.go:4: exec is pure and may not import os/exec",
		"exec/a.go:5: exec is pure and may not import sync/atomic",
		"exec/a.go:10: a goroutine",
		"exec/a.go:10: clock.Now",
		"exec/a.go:10: rand.Uint64",
		"node/auth/a.go:2: dot import of time",
		"node/fleet/a.go:2: node/fleet is pure and may not import net/http",
		"node/fleet/wire/a.go:3: ed25519.GenerateKey",
		"params/a.go:2: params is pure and may not import math/rand",
	)
}
