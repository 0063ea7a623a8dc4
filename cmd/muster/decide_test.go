package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, c := range []struct {
		name                         string
		euid                         int
		flags                        globalFlags
		env                          map[string]string
		data, socket, identity, root string
	}{
		{"root", 0, globalFlags{}, map[string]string{"HOME": "/root"},
			systemData, systemSocket, "/root/.config/muster/operator.key", "/root/.config/muster/root.key"},
		{"person", 1000, globalFlags{}, map[string]string{"HOME": home},
			home + "/.local/share/muster", home + "/.local/share/muster/agent.sock", home + "/.config/muster/operator.key", home + "/.config/muster/root.key"},
		{"XDG", 1000, globalFlags{}, map[string]string{"HOME": home, "XDG_DATA_HOME": home + "/d", "XDG_CONFIG_HOME": home + "/c"},
			home + "/d/muster", home + "/d/muster/agent.sock", home + "/c/muster/operator.key", home + "/c/muster/root.key"},
		{"flags", 1000, globalFlags{dataDir: "/d", identity: "/k/bob.key"}, map[string]string{"HOME": home, "MUSTER_DATA_DIR": "/no", "MUSTER_IDENTITY": "/no"},
			"/d", "/d/agent.sock", "/k/bob.key", "/k/bob.root.key"},
		{"environment", 0, globalFlags{}, map[string]string{"MUSTER_DATA_DIR": "/e", "MUSTER_SOCKET": "/e/s", "MUSTER_IDENTITY": "/e/id"},
			"/e", "/e/s", "/e/id", "/e/id.root.key"},
		{"socket", 0, globalFlags{dataDir: "/d", socket: "/s"}, map[string]string{"HOME": "/root"},
			"/d", "/s", "/root/.config/muster/operator.key", "/root/.config/muster/root.key"},
	} {
		a := &app{euid: c.euid, flags: c.flags, getenv: func(k string) string { return c.env[k] }}
		if a.euid != 0 && c.socket == home+"/.local/share/muster/agent.sock" && exists(systemSocket) {
			c.socket = systemSocket
		}
		got := []string{a.dataDir(), a.socketPath(), a.identityPath(), a.rootKeyPath()}
		if want := []string{c.data, c.socket, c.identity, c.root}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
}

// TestSudo: under sudo the key belongs to who called it.
func TestSudo(t *testing.T) {
	t.Parallel()
	caller, err := user.LookupId("1")
	if err != nil {
		t.Skip("no account with ID 1")
	}
	a := &app{euid: 0, getenv: func(k string) string { return map[string]string{"SUDO_UID": "1", "HOME": "/root"}[k] }}
	if got, want := a.identityPath(), filepath.Join(caller.HomeDir, ".config", "muster", "operator.key"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if a.keyOwner().uid != 1 || a.personName() != caller.Username {
		t.Errorf("%+v, %s", a.keyOwner(), a.personName())
	}
	if os.Geteuid() != 0 {
		return
	}
	i, _ := testKeys(t)
	path := filepath.Join(t.TempDir(), "x", "operator.key")
	if err := a.writeIdentity(path, i); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		if uid := ownerOf(t, p); uid != 1 {
			t.Errorf("%s belongs to %d", p, uid)
		}
	}
}

func TestPersonName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"alice": "alice", "Alice Doe": "alice-doe", "_svc": "svc", "": "operator", "é": "operator", strings.Repeat("a", 80): strings.Repeat("a", 63)} {
		a := &app{euid: 1, getenv: func(k string) string { return map[string]string{"USER": in}[k] }}
		if got := a.personName(); got != want || fleet.CheckName(got) != nil {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestExitOf(t *testing.T) {
	t.Parallel()
	want := map[fleet.Kind]int{
		fleet.Internal: 1, fleet.Invalid: 2, fleet.Denied: 3, fleet.NotFound: 1, fleet.Conflict: 3, fleet.Unavailable: 5, fleet.Expired: 3, fleet.Exhausted: 1,
	}
	for kind, code := range want {
		if got := exitOf(fmt.Errorf("at: %w", fleet.Errorf(kind, "x"))); got != code {
			t.Errorf("%s exits %d, want %d", kind, got, code)
		}
	}
	if exitOf(os.ErrClosed) != 1 {
		t.Error("any other error exits 1")
	}
}

func TestChangeTags(t *testing.T) {
	t.Parallel()
	old := map[string]string{"a": "1", "b": "2"}
	for _, c := range []struct {
		changes []string
		want    map[string]string
	}{
		{nil, old},
		{[]string{"a=3", "b-"}, map[string]string{"a": "3"}},
		{[]string{"c=x=y-"}, map[string]string{"a": "1", "b": "2", "c": "x=y-"}},
		{[]string{"a-", "a=9"}, map[string]string{"a": "9", "b": "2"}},
		{[]string{"d="}, map[string]string{"a": "1", "b": "2", "d": ""}},
		{[]string{"z-"}, nil},
		{[]string{"a"}, nil},
		{[]string{"-"}, nil},
		{[]string{"bad key=1"}, nil},
	} {
		got, err := changeTags(old, c.changes)
		if (err != nil) != (c.want == nil) || (err == nil && !maps.Equal(got, c.want)) {
			t.Errorf("%q: got %v, %v", c.changes, got, err)
		}
	}
	if len(old) != 2 || old["a"] != "1" {
		t.Error("the node's own tags were changed")
	}
}

func TestJoinAddrs(t *testing.T) {
	t.Parallel()
	at := func(role fleet.Role, status fleet.Status, addrs ...string) fleet.Member {
		m := fleet.Member{Role: role, Status: status}
		for _, text := range addrs {
			m.Addrs = append(m.Addrs, netip.MustParseAddrPort(text))
		}
		return m
	}
	got := joinAddrs([]fleet.Member{
		at(fleet.Plain, fleet.Online, "10.0.0.1:1", "10.0.1.1:1"), at(fleet.Voter, fleet.ConnectionLost, "10.0.0.2:1"),
		at(fleet.Spare, fleet.Online, "10.0.0.3:1"), at(fleet.Lead, fleet.Online, "10.0.0.4:1", "10.0.0.1:1"), at(fleet.Plain, fleet.Left, "10.0.0.5:1"),
		at(fleet.Plain, fleet.Online),
	})
	if want := []string{"10.0.0.4:1", "10.0.0.3:1", "10.0.0.1:1", "10.0.1.1:1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var many []fleet.Member
	for i := range 40 {
		many = append(many, at(fleet.Plain, fleet.Online, fmt.Sprintf("10.0.0.%d:1", i)))
	}
	if got := joinAddrs(many); len(got) != auth.MaxJoinAddresses {
		t.Errorf("%d addresses", len(got))
	}
	if joinAddrs(nil) != nil {
		t.Error("addresses out of nothing")
	}
}

func TestMayServe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag  string
		nodes int
		want  bool
	}{{"auto", 1, true}, {"auto", 19, true}, {"auto", 20, false}, {"yes", 500, true}, {"no", 1, false}} {
		if got, err := mayServe(c.flag, c.nodes); err != nil || got != c.want {
			t.Errorf("%s at %d: %v, %v", c.flag, c.nodes, got, err)
		}
	}
}

// TestSight: the newest report of a node counts, others' reports do not, and who was lost while running is not waited for.
func TestSight(t *testing.T) {
	t.Parallel()
	command := fleet.UUID{1}
	ids := exec.SortIDs([]fleet.ID{{1}, {2}})
	now := time.UnixMilli(1_800_000_000_000)
	rollOf := func(second fleet.Status) roll {
		return newRoll([]api.Node{{Member: fleet.Member{ID: ids[0], Name: "a", Status: fleet.Online}}, {Member: fleet.Member{ID: ids[1], Name: "b", Status: second}}})
	}
	s := newSight(command, ids, now.Add(time.Hour), rollOf(fleet.Online))
	report := func(n int, seq uint32, status exec.Status) node.Update {
		return node.Update{Report: &exec.Report{Command: command, Node: ids[n], Seq: seq, Status: status}}
	}
	look := func() exec.Tally { return exec.Count(s.outcomes(now)) }

	s.take(report(0, 2, exec.Success))
	s.take(report(0, 1, exec.InProgress)) // late
	s.take(node.Update{Report: &exec.Report{Command: fleet.UUID{9}, Node: ids[1], Seq: 5, Status: exec.Failed}})
	if got := look(); got != (exec.Tally{Targets: 2, Success: 1, Pending: 1}) {
		t.Errorf("%+v", got)
	}
	s.take(report(1, 1, exec.InProgress))
	if got := look(); got.Running != 1 || got.Settled() {
		t.Errorf("%+v", got)
	}
	s.roll = rollOf(fleet.ConnectionLost)
	if got := look(); got.Unreachable != 1 || !got.Settled() || got.ExitCode() != exec.ExitUnknown {
		t.Errorf("%+v", got)
	}
	if s.mayBeAll(s.outcomes(now), look(), true) {
		t.Error("it is all before any server has told")
	}
	s.take(node.Update{Info: &node.CommandInfo{ID: command, Nodes: ids, Body: exec.Command{Header: auth.Header{Expires: now.UnixMilli() + 1}}}})
	if !s.mayBeAll(s.outcomes(now), look(), true) || s.mayBeAll(s.outcomes(now), look(), false) || s.heardAll(s.outcomes(now), look()) {
		t.Error("a lost node's last word may be on its way")
	}
	s.take(report(1, 2, exec.Success))
	if !s.heardAll(s.outcomes(now), look()) || look().ExitCode() != exec.ExitOK {
		t.Errorf("%+v", look())
	}
}

// TestWholeRunes: a character that the gap has cut is not taken for bytes that are no text.
func TestWholeRunes(t *testing.T) {
	t.Parallel()
	whole := strings.Repeat("é", 10)
	s := exec.Stream{Size: int64(len(whole)), Kept: int64(len(whole)), Head: []byte(whole[:5]), Tail: []byte(whole[13:])}
	got := outputOf(s)
	if got.Text != "éé" || got.Tail != "ééé" || got.Omitted != 10 || got.Base64 != "" {
		t.Errorf("%+v", got)
	}
	if got := outputOf(exec.Stream{Size: 5, Kept: 5, Head: []byte(whole[:5])}); got.Base64 == "" || got.Text != "" {
		t.Errorf("bytes that are no text: %+v", got)
	}
}

func TestFindUUID(t *testing.T) {
	t.Parallel()
	ids := []fleet.UUID{{0xab, 1}, {0xab, 2}, {0xcd}}
	for text, want := range map[string]fleet.Kind{"ab": fleet.Invalid, "": fleet.NotFound, "ef": fleet.NotFound} {
		if _, err := findUUID("command", text, ids); err == nil || fleet.KindOf(err) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got, err := findUUID("command", "CD", ids); err != nil || got != ids[2] {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPassing(t *testing.T) {
	t.Parallel()
	if !passing(fleet.Errorf(fleet.NotFound, "x"), time.Second) || passing(fleet.Errorf(fleet.NotFound, "x"), time.Minute) {
		t.Error("a command that no server knows is new or is none")
	}
	if !passing(fleet.Errorf(fleet.Unavailable, "x"), time.Hour) || passing(fleet.Errorf(fleet.Denied, "x"), 0) {
		t.Error("nobody there passes, a refusal does not")
	}
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Uid
}
