package testnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// neighbour is the newest commit whose program is of the level before this one's. A fleet is upgraded host by host, so that
// the two must work side by side, whoever leads.
const neighbour = "0b64a64"

// TestNeighbours runs a fleet of two versions: whatever operators do, in both directions, under leaders of both; then the
// older hosts are upgraded one by one while something runs on them; then the fleet's level rises, and not before.
func TestNeighbours(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("builds two programs and runs both for minutes: MUSTER_LONG")
	}
	w := newNeighbours(t)
	part := func(name string, test func(t *testing.T, w *neighbours)) {
		t.Run(name, func(t *testing.T) {
			w.t = t
			test(t, w)
		})
		w.t = t
		if t.Failed() {
			t.FailNow()
		}
	}
	part("an older leader", func(t *testing.T, w *neighbours) {
		w.letLead("n1", "n2")
		w.everything("older")
	})
	part("a newer leader", func(t *testing.T, w *neighbours) {
		w.letLead("n3")
		w.everything("newer")
		w.levelWaits()
	})
	part("the older are upgraded", upgradeTheOlder)
	part("the level rises", levelRises)
	part("who was away comes back", whoWasAway)
}

// neighbours are a fleet of two versions: servers n1, n2 (older) and n3 (newer), plain n4 (newer), n5 and n6 (older).
type neighbours struct {
	*Fleet
	older string         // the program
	runs  map[string]int // what was run, by ID, on how many hosts
}

func newNeighbours(t *testing.T) *neighbours {
	t.Helper()
	older := buildOlder(t)
	newer, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	f := &Fleet{t: t, bin: newer, Dir: shortTemp(t), Voter: 3}
	t.Cleanup(f.end)
	w := &neighbours{Fleet: f, older: older, runs: map[string]int{}}
	first := f.add()
	first.bin = older
	f.Must(first, "init", "--fleet", "test", "--operator", "tester", "--name", first.Name, "--bind", first.Addr,
		"--recovery-file", filepath.Join(f.Dir, "recovery.key"))
	first.Start()
	for _, h := range []struct {
		bin    string
		server string
	}{{older, "yes"}, {"", "yes"}, {"", "no"}, {older, "no"}, {older, "no"}} {
		n := f.add()
		n.bin = h.bin
		n.Start("--join", f.Token("--server", h.server), "--name", n.Name, "--bind", n.Addr)
	}
	f.Settled()
	return w
}

// buildOlder builds the neighbour's program from this repository's history.
func buildOlder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var tree bytes.Buffer
	archive := exec.Command("git", "archive", neighbour)
	archive.Dir, archive.Stdout = "..", &tree
	if err := archive.Run(); err != nil {
		t.Skipf("the history of this repository, for the program before this one: git archive %s: %v", neighbour, err)
	}
	unpack := exec.Command("tar", "-x", "-C", dir)
	unpack.Stdin = &tree
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	bin := filepath.Join(dir, "muster-older")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "./cmd/muster") // the same in every folder, so that it is cached
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", neighbour, err, out)
	}
	return bin
}

func (w *neighbours) node(name string) *Node {
	w.t.Helper()
	n := w.Find(name)
	if n == nil {
		w.t.Fatalf("no node %s", name)
	}
	return n
}

// letLead restarts leaders until one of those leads.
func (w *neighbours) letLead(names ...string) {
	w.t.Helper()
	for range 20 {
		var leader *Node
		w.Until("somebody leads", func() bool { leader = w.Leader(w.node("n4")); return leader != nil })
		if slices.Contains(names, leader.Name) {
			w.t.Logf("%s leads", leader.Name)
			return
		}
		leader.Stop()
		w.Until("another leads", func() bool { l := w.Leader(w.node("n4")); return l != nil && l != leader })
		leader.Start()
		w.Settled()
	}
	w.t.Fatalf("none of %s came to lead", names)
}

// everything does what operators do from hosts of both versions, with what the other's hosts keep.
func (w *neighbours) everything(what string) {
	w.t.Helper()
	w.commands(what)
	w.documents(what)
	w.parameters(what)
	w.tagsAndSettings(what)
	w.shells(what)
	w.agree()
}

// both does a thing from an older and from a newer host.
func (w *neighbours) both(do func(from, other *Node)) {
	w.t.Helper()
	do(w.node("n5"), w.node("n4"))
	do(w.node("n4"), w.node("n5"))
}

// run runs something on count hosts, all of which must succeed, and remembers it.
func (w *neighbours) run(from *Node, count int, args ...string) string {
	w.t.Helper()
	args = append([]string{"-o", "json", "run"}, args...)
	r := w.Muster(from, args...)
	var answer ranAnswer
	if err := json.Unmarshal([]byte(r.Stdout), &answer); r.Code != 0 || err != nil || answer.Tally.Success != count || answer.Tally.Targets != count {
		w.logs()
		w.t.Fatalf("from %s, muster %q: exit %d, %d of %d\n%s%s", from.Name, args, r.Code, answer.Tally.Success, count, r.Stdout, r.Stderr)
	}
	w.runs[answer.ID] = count
	return answer.ID
}

// mark is a shell line by which a host tells that it runs a command.
func (w *neighbours) mark() string {
	return `echo "$MUSTER_COMMAND_ID" >> ` + w.Dir + `/"$MUSTER_NODE".marks`
}

type ranAnswer struct {
	ID    string
	Tally struct{ Targets, Success int }
	Nodes []struct {
		Name, Status string
		Stdout       struct{ Text string }
	}
}

func (w *neighbours) commands(what string) {
	w.t.Helper()
	w.both(func(from, other *Node) {
		id := w.run(from, 6, "--all", "--", w.mark())
		var shown ranAnswer
		w.JSON(&shown, other, "command", "show", id)
		if len(shown.Nodes) != 6 {
			w.t.Errorf("%s shows %d hosts of what %s ran", other.Name, len(shown.Nodes), from.Name)
		}
		w.run(other, 6, "--all", "--max-concurrency", "2", "--max-errors", "0", "--", "echo paced "+what)
		if r := w.Muster(from, "run", "--target", other.Name, "--", "exit 3"); r.Code != 1 {
			w.t.Errorf("a failure on %s, told on %s: exit %d", other.Name, from.Name, r.Code)
		}
		async := strings.TrimSpace(w.Must(from, "run", "--all", "--async", "-o", "name", "--", "sleep 600"))
		w.Must(other, "command", "cancel", async)
		w.Until("what was cancelled ends everywhere", func() bool {
			var shown ranAnswer
			w.JSON(&shown, from, "command", "show", async)
			return !slices.ContainsFunc(shown.Nodes, func(n struct {
				Name, Status string
				Stdout       struct{ Text string }
			}) bool {
				return n.Status != "Cancelled"
			})
		})
	})
}

const neighbourText = `schemaVersion: "2.2"
description: Says a word.
parameters:
  word: {type: String}
mainSteps:
  - action: aws:runShellScript
    name: say
    inputs:
      runCommand: ['echo "{{ word }}" "{{ ssm:/%s/plain }}"']
`

func (w *neighbours) documents(what string) {
	w.t.Helper()
	w.both(func(from, other *Node) {
		name := "Say-" + what + "-" + from.Name
		w.Must(from, "param", "put", "/"+name+"/plain", "plain "+what)
		file := filepath.Join(w.Dir, name+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, neighbourText, name), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.Must(from, "doc", "put", file, "--name", name)
		w.run(other, 6, "--all", "--doc", name, "--", "word=hello")
	})
}

func (w *neighbours) parameters(what string) {
	w.t.Helper()
	w.both(func(from, other *Node) {
		name := "/secret/" + what + "/" + from.Name
		w.Must(other, "node", "tag", other.Name, "reads="+what)
		w.Must(from, "param", "put", name, "--type", "SecureString", "--generate", "24", "--readers", "tag.reads="+what)
		value := w.Must(from, "param", "get", name, "--decrypt")
		if got := w.Must(other, "param", "get", name, "--decrypt"); got != value || len(value) != 25 {
			w.t.Errorf("%s reads %q, %s wrote %q", other.Name, got, from.Name, value)
		}
		w.Must(other, "param", "put", name, "--type", "SecureString", "--generate", "24", "--overwrite")
		if got := w.Must(from, "param", "get", name+":1", "--decrypt"); got != value {
			w.t.Errorf("version 1 of %s is now %q", name, got)
		}
		// The host itself reads, with the keyring's key and without anybody's.
		w.Until(other.Name+" reads by itself", func() bool {
			cmd := w.Command(other, "param", "get", name, "--decrypt")
			cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "MUSTER_IDENTITY=") })
			out, err := cmd.Output()
			return err == nil && len(out) == 25
		})
	})
}

func (w *neighbours) tagsAndSettings(what string) {
	w.t.Helper()
	w.both(func(from, other *Node) {
		role := what + "-" + from.Name
		w.Must(from, "node", "tag", other.Name, "role="+role)
		w.Must(from, "group", "put", role, "tag.role="+role)
		w.Until("the tag is everywhere", func() bool {
			return strings.TrimSpace(w.Must(other, "node", "list", "--target", "@"+role, "-o", "name")) == other.Name
		})
		w.run(other, 1, "--target", "@"+role, "--", "true")
		w.Must(from, "setting", "put", "records.keep", map[bool]string{true: "40d", false: "41d"}[from.Name == "n4"])
		w.Must(other, "token", "create", "--uses", "1")
		w.Must(from, "token", "list")
	})
}

func (w *neighbours) shells(what string) {
	w.t.Helper()
	w.both(func(from, other *Node) {
		if got := w.Must(from, "exec", other.Name, "--user", "root", "--", "echo "+what); got != what+"\n" {
			w.t.Errorf("exec from %s on %s: %q", from.Name, other.Name, got)
		}
		file, copied := filepath.Join(w.Dir, "file-"+what+from.Name), filepath.Join(w.Dir, "copy-"+what+from.Name)
		if err := os.WriteFile(file, bytes.Repeat([]byte(what), 100_000), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.Must(from, "cp", "--user", "root", file, other.Name+":"+copied)
		w.Must(from, "cp", "--user", "root", other.Name+":"+copied, copied+".back")
		want, _ := os.ReadFile(file)
		if got, err := os.ReadFile(copied + ".back"); err != nil || !bytes.Equal(got, want) {
			w.t.Errorf("cp from %s to %s and back: %d bytes, %v", from.Name, other.Name, len(got), err)
		}
		w.Must(other, "session", "list")
	})
}

// quorumShown is what a host's own replica has come to, and the fleet's level as it knows it.
type quorumShown struct {
	Replica struct {
		Act    uint64
		Digest string
	}
	Level struct {
		Level, Supports int
		Holding         []struct{ Name string }
	}
}

// agree waits until all servers have taken the same, and holds them to being equal then.
func (w *neighbours) agree() {
	w.t.Helper()
	var all []quorumShown
	w.Until("the servers have taken as much", func() bool {
		all = nil
		for _, name := range []string{"n1", "n2", "n3"} {
			var q quorumShown
			w.JSON(&q, w.node(name), "quorum", "status")
			all = append(all, q)
		}
		return all[0].Replica.Act == all[1].Replica.Act && all[1].Replica.Act == all[2].Replica.Act
	})
	for _, q := range all[1:] {
		if q.Replica.Digest != all[0].Replica.Digest || q.Replica.Digest == "" {
			w.t.Errorf("replicas of two versions differ: %+v", all)
		}
	}
}

// levelWaits holds the fleet to the level of its older hosts.
func (w *neighbours) levelWaits() {
	w.t.Helper()
	w.Until("the leader names who holds the level back", func() bool {
		var q quorumShown
		w.JSON(&q, w.node("n4"), "quorum", "status")
		var names []string
		for _, h := range q.Level.Holding {
			names = append(names, h.Name)
		}
		slices.Sort(names)
		return q.Level.Level == 1 && slices.Equal(names, []string{"n1", "n2", "n5", "n6"})
	})
	r := w.putReleaseKeys()
	if r.Code == 0 || !strings.Contains(r.Stderr, "level") {
		w.t.Errorf("what level 2 brought was taken at level 1: exit %d, %s", r.Code, r.Stderr)
	}
}

func (w *neighbours) putReleaseKeys() Result {
	key := auth.FormatReleaseKey(authtest.Signer("releases").Public())
	return w.Muster(w.node("n4"), "setting", "put", auth.SettingReleaseKeys, key)
}

// upgradeTheOlder replaces the older programs one by one while a command runs. n6 is away meanwhile.
func upgradeTheOlder(t *testing.T, w *neighbours) {
	w.node("n6").Stop()
	w.Until("n6 is gone", func() bool { return w.online() == 5 })
	for _, name := range []string{"n5", "n2", "n1"} {
		n := w.node(name)
		id := strings.TrimSpace(w.Must(w.node("n4"), "run", "--target", "not n6", "--async", "-o", "name", "--",
			w.mark()+"; until [ -e "+w.Dir+"/upgraded-"+name+" ]; do sleep 0.1; done"))
		w.Until("it runs", func() bool {
			marks, _ := os.ReadFile(filepath.Join(w.Dir, name+".marks"))
			return strings.Contains(string(marks), id)
		})
		n.Stop()
		n.bin = ""
		n.Start()
		if err := os.WriteFile(filepath.Join(w.Dir, "upgraded-"+name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.Until("what ran ends well everywhere", func() bool {
			var shown ranAnswer
			w.JSON(&shown, w.node("n4"), "command", "show", id)
			ok := 0
			for _, n := range shown.Nodes {
				if n.Status == "Success" {
					ok++
				}
			}
			return ok == 5
		})
		w.runs[id] = 5
		w.Settled()
		w.run(w.node("n4"), 5, "--target", "not n6", "--", "true")
		w.agree()
	}
}

func (w *neighbours) online() int {
	w.t.Helper()
	var s struct{ Nodes struct{ Online int } }
	w.JSON(&s, w.node("n4"), "status")
	return s.Nodes.Online
}

func levelRises(t *testing.T, w *neighbours) {
	w.Until("the fleet is at level 2", func() bool {
		for _, n := range w.Nodes[:5] {
			var q quorumShown
			w.JSON(&q, n, "quorum", "status")
			if q.Level.Level != int(fleet.LevelReleases) {
				return false
			}
		}
		return true
	})
	w.agree()
	if r := w.putReleaseKeys(); r.Code != 0 {
		t.Errorf("what level 2 brought is not taken at level 2: exit %d, %s", r.Code, r.Stderr)
	}
	w.run(w.node("n5"), 5, "--target", "not n6", "--", "true")
	for _, n := range w.Nodes[:3] { // from snapshot and log, as they are now
		n.Stop()
		n.Start()
		w.Settled()
	}
	w.agree()
	w.nothingLost()
}

// whoWasAway comes back with the older program: it keeps what it has and says nothing that harms, and has everything after
// its upgrade.
func whoWasAway(t *testing.T, w *neighbours) {
	n := w.node("n6")
	n.Start()
	w.Until("n6 is back", func() bool { return w.online() == 6 })
	w.Must(n, "status")
	w.run(w.node("n4"), 5, "--target", "not n6", "--", "true")
	n.Stop()
	n.bin = ""
	n.Start()
	w.Settled()
	w.Until("n6 runs again", func() bool { return w.Muster(w.node("n4"), "run", "--target", "n6", "--", "true").Code == 0 })
	w.run(w.node("n4"), 6, "--all", "--", "true")
	w.agree()
	w.nothingLost()
}

// nothingLost finds everything that was run again, with its end, and no host that did a thing twice.
func (w *neighbours) nothingLost() {
	w.t.Helper()
	for _, from := range []string{"n1", "n5"} {
		for id, count := range w.runs {
			var shown ranAnswer
			w.JSON(&shown, w.node(from), "command", "show", id)
			ok := 0
			for _, n := range shown.Nodes {
				if n.Status == "Success" {
					ok++
				}
			}
			if ok != count {
				w.t.Errorf("%s shows %d of %d of command %s", from, ok, count, id)
			}
		}
	}
	for _, n := range w.Nodes {
		marks, _ := os.ReadFile(filepath.Join(w.Dir, n.Name+".marks"))
		lines := strings.Fields(string(marks))
		slices.Sort(lines)
		if unique := slices.Compact(slices.Clone(lines)); len(unique) != len(lines) || len(lines) < 4 {
			w.t.Errorf("%s ran %d times, %d different commands", n.Name, len(lines), len(unique))
		}
	}
}
