package tidy

import (
	"fmt"
	"slices"
	"testing"
)

// kind says how packages of one rung may meet.
type kind int

const (
	pure  kind = iota // decides: one package, never one of its own rung
	shell             // does: with the packages below it; never another shell
	top               // wires: whatever is below, and its own packages
	bench             // tests with whatever there is; nothing shipped imports it
)

// rung is one step of the ladder. A package imports what stands on lower rungs only.
type rung struct {
	kind  kind
	rooms []string
}

// ladder is the house from the ground up. A new package that decides is named here by hand; one below a shell, a command
// or testnet belongs to it.
var ladder = []rung{
	{pure, []string{"node/fleet"}},
	{pure, []string{"node/fleet/wire", "node/config", "node/budget"}},
	{pure, []string{"node/auth", "exec/schedule", "exec/steps"}},
	{pure, []string{"exec/document", "node/release"}},
	{pure, []string{"exec", "inventory", "params"}},
	{pure, []string{"patch"}},
	{pure, []string{"consensus"}},
	{pure, []string{"node"}},
	{pure, []string{"node/session/flow", "node/session/copy/talk"}},
	{shell, []string{"exec/s3", "exec/account", "exec/cage", "node/upgrade"}}, // what two shells ask of a store of objects, and of the host
	{shell, []string{
		"consensus/quorum", "exec/action", "exec/outlet", "exec/runner", "inventory/collect", "node/agent", "node/api",
		"node/decisions", "node/folder", "node/gossip", "node/metrics", "node/release/store", "node/report", "node/session", "node/transport", "patch/apt", "patch/dnf", "patch/zypper",
	}},
	{top, []string{"cmd/host"}},
	{top, []string{"cmd/muster"}},
	{top, []string{"packaging"}},
	{bench, []string{"node/auth/authtest", "testnet"}},
}

// libraries says who may import which library, the packages below it included. Tests and testnet import what they need.
var libraries = []struct {
	path  string
	rooms []string
	why   string
}{
	{"github.com/hashicorp/raft", []string{"consensus/quorum"}, "one adapter knows raft"},
	{"github.com/hashicorp/raft-boltdb", []string{"consensus/quorum"}, "raft's log on bbolt"},
	{"github.com/hashicorp/go-hclog", []string{"consensus/quorum"}, "raft logs through it"},
	{"github.com/hashicorp/serf", []string{"node/gossip"}, "one adapter knows serf"},
	{"github.com/hashicorp/memberlist", []string{"node/gossip"}, "serf stands on it"},
	{"github.com/quic-go/quic-go", []string{"node/transport"}, "one adapter knows QUIC"},
	{"github.com/vmihailenco/msgpack", []string{"node/fleet/wire"}, "one package decodes what peers send, bounded and canonical"},
	{"github.com/vmihailenco/msgpack", []string{"node/gossip"}, "memberlist's own messages are not canonical"},
	{"github.com/vmihailenco/msgpack", []string{"node/report"}, "finds the header of a body whose type it does not know"},
	{"github.com/cedar-policy/cedar-go", []string{"node/auth"}, "policy"},
	{"github.com/hashicorp/go-immutable-radix", []string{"node/auth", "consensus"}, "immutable state"},
	{"go.etcd.io/bbolt", []string{"consensus/quorum", "node/report"}, "files with transactions"},
	{"github.com/go-json-experiment/json", []string{"node/api/shape"}, "the one place where JSON has its shape"},
	{"github.com/spf13/cobra", []string{"cmd/muster"}, "the command line"},
	{"github.com/spf13/pflag", []string{"cmd/muster"}, "the flags of commands, for their manual pages"},
	{"golang.org/x/term", []string{"cmd/muster"}, "asking for secrets"},
	{"go.yaml.in/yaml/v4", []string{"exec/document"}, "documents are YAML"},
	{"go.yaml.in/yaml/v4", []string{"cmd/muster"}, "-o yaml"},
	{"go.yaml.in/yaml/v4", []string{"node/config"}, "the host's configuration is YAML"},
	{"mvdan.cc/sh/v3", []string{"exec/document"}, "where in a shell script a value stands"},
	{"github.com/aws/aws-sdk-go-v2", []string{"exec/s3"}, "signatures of S3's requests"},
	{"golang.org/x/sys", []string{"cmd", "exec/runner", "exec/cage", "node/api", "node/report", "node/session"}, "the kernel, in shells only"},
}

// place returns where a room stands: its rung, and the room of the table that it belongs to.
func place(path string) (height int, of string, ok bool) {
	for i, r := range ladder {
		for _, room := range r.rooms {
			if path == room || (r.kind != pure && within(path, room)) {
				return i, room, true
			}
		}
	}
	return 0, "", false
}

// brokenArrows lists imports within the house that do not point down the ladder.
func brokenArrows(h house) []string {
	var out []string
	for _, r := range h.rooms {
		from, home, ok := place(r.path)
		if !ok {
			out = append(out, fmt.Sprintf("%s has no place on the ladder", r.path))
			continue
		}
		for _, i := range h.imports(r) {
			path, own := i.own()
			to, other, known := place(path)
			if own && known && !mayImport(from, home, to, other) {
				out = append(out, fmt.Sprintf("%s: %s may not import %s", i.where, r.path, path))
			}
		}
	}
	return out
}

func mayImport(from int, home string, to int, other string) bool {
	if from != to {
		return to < from
	}
	return home == other || ladder[from].kind == bench
}

// strayLibraries lists imports of libraries by rooms that have no leave to.
func strayLibraries(h house) []string {
	var out []string
	for _, r := range h.rooms {
		if height, _, ok := place(r.path); ok && ladder[height].kind == bench {
			continue
		}
		for _, i := range h.imports(r) {
			if i.foreign() && !mayUse(r.path, i.path) {
				out = append(out, fmt.Sprintf("%s: %s may not import %s", i.where, r.path, i.path))
			}
		}
	}
	return out
}

func mayUse(room, library string) bool {
	for _, l := range libraries {
		if within(library, l.path) && slices.ContainsFunc(l.rooms, func(folder string) bool { return permits(folder, room) }) {
			return true
		}
	}
	return false
}

// permits reports whether leave for a folder is leave for a room: a pure room's is its own alone, so that consensus/quorum
// does not inherit from consensus.
func permits(folder, room string) bool {
	height, _, ok := place(folder)
	return folder == room || (within(room, folder) && !(ok && ladder[height].kind == pure))
}

// unusedLeave lists lines of the table of libraries that nothing needs.
func unusedLeave(h house) []string {
	var out []string
	for _, l := range libraries {
		for _, folder := range l.rooms {
			used := slices.ContainsFunc(h.rooms, func(r room) bool {
				return permits(folder, r.path) && slices.ContainsFunc(h.imports(r), func(i imported) bool { return within(i.path, l.path) })
			})
			if !used {
				out = append(out, fmt.Sprintf("%s has leave to import %s and does not", folder, l.path))
			}
		}
	}
	return out
}

func TestImportsPointDown(t *testing.T) {
	h := standing(t)
	none(t, brokenArrows(h))
	none(t, strayLibraries(h))
	none(t, unusedLeave(h))
}

func TestImportsPointDownCatches(t *testing.T) {
	source := func(name string, imports ...string) string {
		text := "package " + name + "\n"
		for _, i := range imports {
			text += fmt.Sprintf("import _ %q\n", i)
		}
		return text
	}
	h := plant(t, map[string]string{
		"cmd/host/a.go":           source("host", module+"/node/gossip", module+"/node/transport", "github.com/hashicorp/raft"),
		"cmd/muster/a.go":         source("main", module+"/cmd/host", module+"/testnet", "github.com/spf13/cobra"),
		"consensus/a.go":          source("consensus", module+"/exec", module+"/consensus/quorum"),
		"consensus/a_test.go":     source("consensus", module+"/node/auth/authtest", module+"/node", "pgregory.net/rapid"),
		"consensus/quorum/a.go":   source("quorum", "github.com/hashicorp/raft", "github.com/hashicorp/go-immutable-radix/v2"),
		"exec/a.go":               source("exec", module+"/node/auth", module+"/params"),
		"node/api/a.go":           source("api", module+"/node/api/shape", module+"/node"),
		"node/api/shape/a.go":     source("shape", "github.com/go-json-experiment/json/jsontext", module+"/node/auth/authtest"),
		"node/auth/a.go":          source("auth", module+"/exec", module+"/node/fleet/wire"),
		"node/auth/authtest/a.go": source("authtest", module+"/node/auth", module+"/testnet/fabric"),
		"node/fleet/a.go":         source("fleet", module+"/node/fleet/wire", "github.com/vmihailenco/msgpack/v5"),
		"node/gossip/a.go":        source("gossip", module+"/node/transport", "github.com/hashicorp/serf/serf", "github.com/quic-go/quic-go"),
		"node/plan/a.go":          source("plan"),
		"testnet/hosts/a.go":      source("hosts", module+"/cmd/host", module+"/testnet/fabric", "github.com/hashicorp/serf/serf"),
	})
	caught(t, brokenArrows(h),
		"cmd/muster/a.go:3: cmd/muster may not import testnet",
		"consensus/a.go:3: consensus may not import consensus/quorum",
		"exec/a.go:3: exec may not import params",
		"node/api/shape/a.go:3: node/api/shape may not import node/auth/authtest",
		"node/auth/a.go:2: node/auth may not import exec",
		"node/fleet/a.go:2: node/fleet may not import node/fleet/wire",
		"node/gossip/a.go:2: node/gossip may not import node/transport",
		"node/plan has no place on the ladder",
	)
	caught(t, strayLibraries(h),
		"cmd/host/a.go:4: cmd/host may not import github.com/hashicorp/raft",
		"consensus/quorum/a.go:3: consensus/quorum may not import github.com/hashicorp/go-immutable-radix/v2",
		"node/fleet/a.go:3: node/fleet may not import github.com/vmihailenco/msgpack/v5",
		"node/gossip/a.go:4: node/gossip may not import github.com/quic-go/quic-go",
	)
	if len(unusedLeave(plant(t, map[string]string{"exec/a.go": "package exec"}))) == 0 {
		t.Error("leave that nobody needs is not seen")
	}
}
