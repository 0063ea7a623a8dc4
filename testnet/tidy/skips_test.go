package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// skips are the tests that may skip, as file and function, and what they then lack. Only what a host can lack belongs
// here; what go test -short leaves out needs no line, and a skip that rapid takes for "draw again" is none.
var skips = map[string]string{
	"cmd/host/listen_test.go listens":                       "IPv6",
	"cmd/muster/node_list_test.go TestRealAnsible":          "ansible-inventory",
	"packaging/observe_test.go TestPromtool":                "promtool, of Debian's package prometheus",
	"testnet/lan/upgrade_test.go TestUpgradeTwenty":         "a person who asked for the long run: MUSTER_LONG",
	"testnet/machine/hosts_test.go TestHosts":               "a person who asked for the long run: MUSTER_LONG",
	"testnet/lan/upgrade_test.go TestUpgradeToNoGood":       "a person who asked for the long run: MUSTER_LONG",
	"testnet/lan/upgrade_test.go TestUpgradeKilled":         "a person who asked for the long run: MUSTER_LONG",
	"testnet/neighbours_test.go TestNeighbours":             "a person who asked for the long run: MUSTER_LONG",
	"testnet/neighbours_test.go buildOlder":                 "the history of this repository, to build the program before this one",
	"cmd/muster/decide_test.go TestSudo":                    "an account with ID 1, as every Debian has",
	"exec/action/http_test.go smallDisk":                    "root, to mount a small disk",
	"exec/runner/runner_test.go TestFullDisk":               "root, to mount a small disk",
	"exec/runner/runner_test.go TestRunAsAnotherUser":       "root, to run as another account",
	"node/gossip/measure_test.go TestMeasure":               "a person who asked for figures: MUSTER_MEASURE",
	"node/gossip/outbound_test.go TestMeasureOutbound":      "a person who asked for figures: MUSTER_MEASURE",
	"node/report/damage_test.go TestFullDisk":               "user and mount namespaces",
	"node/report/damage_test.go onFullDisk":                 "the right to mount in a namespace; TestFullDisk says so",
	"node/session/copy/copy_test.go TestFullDisk":           "root, to mount a small disk",
	"node/session/host_test.go TestAnotherUser":             "root, to run as another account",
	"node/session/host_test.go TestFullDisk":                "root, to mount a small disk",
	"node/session/start_test.go TestProgramsAreTheAccounts": "root, to run as another account",
	"node/transport/udp_test.go TestDualStack":              "a network namespace with IPv6",
	"node/transport/udp_test.go listenUDP":                  "a network namespace with the address, IPv6's above all",
	"testnet/badluck_disk_test.go mounted":                  "root, to mount a small disk",
	"packaging/packaging_test.go TestTwoBuildsAreOne":       "a person who asked for the long run: MUSTER_LONG",
	"testnet/machine/packages_test.go TestPackages":         "a person who asked for the long run: MUSTER_LONG",
	"testnet/bubble_outbound_test.go TestMeasureUplinks":    "a person who asked for figures: MUSTER_MEASURE",
	"testnet/chaos/chaos_test.go TestShortChaos":            "root, for hosts in namespaces",
	"testnet/delay/box_test.go space":                       "root, for network namespaces",
	"testnet/figures/hosts_test.go needsRoot":               "root, for hosts in namespaces",
	"testnet/hosts/hosts_test.go TestHosts":                 "root, for hosts in namespaces",
	"testnet/machine/packages_test.go machines":             "root, and debootstrap to make a root with",
	"testnet/lan/main_test.go needRoot":                     "root, for hosts in namespaces",
}

// skipping lists the functions that skip tests, by file and function, with where.
func skipping(h house) map[string]string {
	out := map[string]string{}
	for _, r := range h.rooms {
		for _, f := range r.files {
			for _, d := range f.Decls {
				d, ok := d.(*ast.FuncDecl)
				if !ok || d.Body == nil {
					continue
				}
				if where := h.skipIn(f, d); where != "" {
					out[f.path+" "+d.Name.Name] = where
				}
			}
		}
	}
	return out
}

// skipIn returns where a function skips a test of package testing, or "".
func (h house) skipIn(f file, d *ast.FuncDecl) string {
	where := ""
	var enclosing []*ast.FuncType
	var visit func(n ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			enclosing = append(enclosing, n.Type)
			ast.Inspect(n.Body, visit)
			enclosing = enclosing[:len(enclosing)-1]
			return false
		case *ast.IfStmt:
			if asksShort(n.Cond) {
				if n.Else != nil {
					ast.Inspect(n.Else, visit)
				}
				return false
			}
		case *ast.SelectorExpr:
			of, ok := n.X.(*ast.Ident)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, n.Sel.Name) && !drawn(enclosing, of.Name) {
				where = h.at(f, n.Pos())
			}
		}
		return true
	}
	enclosing = append(enclosing, d.Type)
	ast.Inspect(d.Body, visit)
	return where
}

// asksShort reports whether a condition holds only in a short run: testing.Short(), alone or with others that must hold too.
func asksShort(cond ast.Expr) bool {
	switch c := cond.(type) {
	case *ast.CallExpr:
		return typeText(c.Fun) == "testing.Short"
	case *ast.BinaryExpr:
		return c.Op == token.LAND && (asksShort(c.X) || asksShort(c.Y))
	}
	return false
}

// drawn reports whether the innermost parameter of that name is a *rapid.T.
func drawn(enclosing []*ast.FuncType, name string) bool {
	for _, f := range slices.Backward(enclosing) {
		for _, field := range f.Params.List {
			for _, param := range field.Names {
				if param.Name == name {
					return typeText(field.Type) == "*rapid.T"
				}
			}
		}
	}
	return false
}

func typeText(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return "*" + typeText(t.X)
	case *ast.SelectorExpr:
		return typeText(t.X) + "." + t.Sel.Name
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// wrongSkips compares what skips with what may.
func wrongSkips(h house, may map[string]string) []string {
	var out []string
	found := skipping(h)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if may[name] == "" {
			out = append(out, fmt.Sprintf("%s: a test may be skipped that is not in the table of skips", found[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(may)) {
		if found[name] == "" {
			out = append(out, name+" does not skip")
		}
	}
	return out
}

func TestSkips(t *testing.T) { none(t, wrongSkips(standing(t), skips)) }

func TestSkipsCatches(t *testing.T) {
	skip := "Skip" // so that the text below is found by no search for it
	h := plant(t, map[string]string{
		"exec/a_test.go": strings.ReplaceAll(`package exec
func TestA(t *testing.T) { t.Skip("not today") }
func TestB(t *testing.T) { t.Run("", func(t *testing.T) { t.Skipf("") }) }
func TestC(t *testing.T) { rapid.Check(t, func(t *rapid.T) { t.Skip() }) }
func TestD(t *testing.T) { rapid.Check(t, func(r *rapid.T) { t.SkipNow() }) }
func pick[T any](t *rapid.T) { t.Skip() }
func need(t testing.TB) { t.Skip() }
func TestF(t *testing.T) { if n > 5 && testing.Short() { t.Skip() } }
func TestG(t *testing.T) { if n > 5 || testing.Short() { t.Skip() } }
func TestH(t *testing.T) { if testing.Short() { return } else { t.Skip() } }
`, "Skip", skip),
	})
	caught(t, wrongSkips(h, map[string]string{"exec/a_test.go TestA": "root", "exec/a_test.go TestZ": "root"}),
		"exec/a_test.go:3", "exec/a_test.go:5", "exec/a_test.go:9", "exec/a_test.go:10", "exec/a_test.go:7", "TestZ does not skip")
}
