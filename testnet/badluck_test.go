package testnet

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// badLuck is a fleet of three servers and two plain nodes to which everything goes wrong, and another fleet of one.
type badLuck struct {
	*Fleet
	one     *Node    // a server that stays up
	victim  *Node    // plain
	down    *Node    // plain; it misses all that happens between the first part and the last
	foreign *Fleet   // another fleet, of one node
	spent   string   // a join string that is used up
	waiting []waiter // commands that down will find when it is back
}

type waiter struct{ what, id, status, detail string }

func TestBadLuck(t *testing.T) {
	t.Parallel()
	w := &badLuck{Fleet: New(t, 3), foreign: Found(t)}
	w.one, w.victim, w.down = w.Nodes[0], w.enlist("--server", "no"), w.enlist("--server", "no")
	w.Settled()
	part := func(name string, test func(t *testing.T, w *badLuck)) {
		t.Run(name, func(t *testing.T) {
			w.t, w.foreign.t = t, t
			test(t, w)
		})
		w.t, w.foreign.t = t, t
	}
	part("a node is removed while another is down", removedWhileDown)
	part("operators come and go", operatorsComeAndGo)
	part("tags change who is meant", tagsChangeTargets)
	part("joins that must not work", badJoins)
	part("data folders that are no good", badFolders)
	part("damaged files", damagedFiles)
	part("a record moved away comes back", recordComesBack)
	part("a damaged replica", damagedReplica)
	part("a joiner's clock is off", joinerClockOff)
	part("a node's clock is off", nodeClockOff)
	part("a node that missed it all catches up", missedItAll)
	part("a member that lies", lyingMember) // behind the turn of the gossip key: it would lose its voice in the middle
	part("two agents claim one address", sameAddress)
}

// enlist enrols and starts one more node.
func (f *Fleet) enlist(args ...string) *Node {
	f.t.Helper()
	n := f.add()
	n.Start("--join", f.Token(args...), "--name", n.Name, "--bind", n.Addr)
	return n
}

// stranger is a host that belongs to no fleet, nor to this one's list.
func (f *Fleet) stranger(name string) *Node {
	return &Node{fleet: f, Name: name, Dir: filepath.Join(f.Dir, name), Addr: FreeAddr(f.t)}
}

// complains holds a failed command line to what all promise: its exit code, one line that says what is wrong, with these
// words in it, and one that says what mends it.
func (r Result) complains(t *testing.T, code int, words ...string) {
	t.Helper()
	var said []string
	for line := range strings.Lines(r.Stderr) {
		// Before it: an agent's log, and whom a command would have met.
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "matched ") {
			said = append(said, strings.TrimSuffix(line, "\n"))
		}
	}
	switch {
	case r.Code != code:
		t.Errorf("exit %d, not %d", r.Code, code)
	case len(said) != 2 || !strings.HasPrefix(said[0], "muster: ") || !strings.HasPrefix(said[1], "  → "):
		t.Errorf("this is not one clear line and what mends it")
	case r.Stdout != "":
		t.Errorf("it printed %q", r.Stdout)
	}
	for _, word := range words {
		if !strings.Contains(r.Stderr, word) {
			t.Errorf("nothing of %q", word)
		}
	}
	if t.Failed() {
		t.Fatalf("it said:\n%s", r.Stderr)
	}
}

// absent holds that nothing is at path.
func absent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		entries, _ := os.ReadDir(path)
		t.Fatalf("%s was left behind: %v %v", path, entries, err)
	}
}

// wrong is one node's line of command show -o json, with its reason.
type wrong struct{ Name, Status, Detail string }

func (f *Fleet) fate(n *Node, id, of string) wrong {
	var shown struct{ Nodes []wrong }
	r := f.Muster(n, "command", "show", id, "-o", "json")
	if json.Unmarshal([]byte(r.Stdout), &shown) == nil {
		for _, o := range shown.Nodes {
			if o.Name == of {
				return o
			}
		}
	}
	return wrong{}
}

// awaitFate waits until a node's part of a command has a status, with these words as its reason.
func (f *Fleet) awaitFate(n *Node, id, of, status, reason string) {
	f.t.Helper()
	var last wrong
	defer func() {
		if f.t.Failed() {
			f.t.Logf("last: %+v", last)
		}
	}()
	f.Until(of+" says "+status+": "+reason, func() bool {
		if last = f.fate(n, id, of); last.Status == status && strings.Contains(last.Detail, reason) {
			return true
		}
		if last.Status != "" && last.Status != status && last.Status != "Pending" && last.Status != "InProgress" {
			f.t.Fatalf("%s: %+v; wanted %s: %s", of, last, status, reason)
		}
		return false
	})
}

// client asks a node's agent.
func (n *Node) client() *api.Client { return api.Dial(filepath.Join(n.Dir, "agent.sock")) }

func badJoins(t *testing.T, w *badLuck) {
	life := 3 * time.Second
	expired, born := w.Token("--expires", life.String()), time.Now()
	pattern := w.Token("--name-pattern", "web*")
	var deleted struct{ ID, Join string }
	w.JSON(&deleted, w.one, "token", "create")
	w.Must(w.one, "token", "delete", deleted.ID)
	good := w.Token()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0") // takes packets and says nothing, as a firewall does
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct {
		what, join, name, bind string
		code                   int
		words                  []string
	}{
		{what: "garbage", join: "hello", code: 2, words: []string{"no join string", "muster token create"}},
		{what: "cut", join: good[:len(good)-7], code: 2, words: []string{"damaged or cut"}},
		{what: "cut short", join: good[:40], code: 2, words: []string{"damaged or cut"}},
		{what: "used up", join: w.spent, code: 3, words: []string{"used up (1 of 1 uses)"}},
		{what: "deleted", join: deleted.Join, code: 3, words: []string{"taken back"}},
		{what: "another fleet", join: aimed(t, good, w.foreign.Nodes[0].Addr), code: 3, words: []string{"another fleet"}},
		{what: "name pattern", join: pattern, code: 3, words: []string{"web*", "s1"}},
		{what: "name taken", join: good, name: w.one.Name, code: 3, words: []string{w.one.Name + " is enrolled already"}},
		{what: "a bad name", join: good, name: "No Name", code: 2, words: []string{"No Name", "--name"}},
		{what: "nobody answers", join: aimed(t, good, silent.LocalAddr().String(), FreeAddr(t)), code: 5, words: []string{"no answer from " + silent.LocalAddr().String(), "firewall"}},
		{what: "port in use", join: good, bind: w.one.Addr, code: 5, words: []string{w.one.Addr, "address already in use", "--bind"}},
		{what: "a bad port", join: good, bind: "here", code: 2, words: []string{"here"}},
		{what: "expired", join: expired, code: 3, words: []string{"expired at"}}, // last: by then it is
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.join == expired {
				wait(time.Until(born.Add(life))) // a token's life is real time
			}
			s := w.stranger("s1")
			name, bind := c.name, c.bind
			if name == "" {
				name = s.Name
			}
			if bind == "" {
				bind = s.Addr
			}
			w.Muster(s, "join", c.join, "--name", name, "--bind", bind).complains(t, c.code, c.words...)
			absent(t, s.Dir)
			if c.code == 5 {
				return // waiting twice says nothing new
			}
			w.Muster(s, "agent", "--join", c.join, "--name", name, "--bind", bind).complains(t, c.code, c.words...)
			absent(t, s.Dir)
		})
	}
	var tokens []struct{ Used, Uses int }
	w.JSON(&tokens, w.one, "token", "list")
	unused := 0
	for _, token := range tokens {
		if token.Used == 0 {
			unused++
		}
	}
	if unused < 2 {
		t.Fatalf("a refused join was counted: %+v", tokens)
	}
}

// aimed is a join string that names other addresses.
func aimed(t *testing.T, join string, addrs ...string) string {
	t.Helper()
	j, err := auth.ParseJoinString(join)
	if err != nil {
		t.Fatal(err)
	}
	j.Addrs = addrs
	return j.String()
}

// shifted is a clock that is off.
func shifted(by time.Duration) func() auth.Instant {
	return func() auth.Instant {
		at := host.Clock()
		at.Wall = at.Wall.Add(by)
		return at
	}
}

func joinerClockOff(t *testing.T, w *badLuck) {
	join, err := auth.ParseJoinString(w.Token())
	if err != nil {
		t.Fatal(err)
	}
	for by, words := range map[time.Duration]string{10 * time.Minute: "ahead of the fleet's", -10 * time.Minute: "behind the fleet's"} {
		s := w.stranger("late")
		_, err := host.Join(t.Context(), host.NewHost{Dir: s.Dir, Name: s.Name, Bind: s.Addr}, join, shifted(by), slog.New(slog.DiscardHandler))
		if fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), words) {
			t.Fatalf("a joiner whose clock is %s off: %v", by, err)
		}
		absent(t, s.Dir)
	}
}

// nodeClockOff runs the victim's agent in this process with a clock that is off: it holds commands and says so, and runs
// them once its clock is right.
func nodeClockOff(t *testing.T, w *badLuck) {
	w.victim.Stop()
	for by, words := range map[time.Duration]string{10 * time.Minute: "ahead of the fleet's", -10 * time.Minute: "behind the fleet's"} {
		ran := filepath.Join(w.Dir, "clock."+strings.Fields(words)[0])
		stop := w.runHere(t, w.victim, shifted(by))
		w.Until("the node notices its clock", func() bool {
			return strings.Contains(w.Muster(w.victim, "status").Stderr, "clock is off by")
		})
		id := w.send(w.one, "--target", w.victim.Name, "--", "echo $MUSTER_NODE >> "+ran)
		w.awaitFate(w.one, id, w.victim.Name, "Pending", words)
		stop()
		if len(lines(t, ran)) != 0 {
			t.Fatal("a command was judged by a clock that is off")
		}
		w.victim.Start()
		w.awaitFate(w.one, id, w.victim.Name, "Success", "")
		w.victim.Stop()
	}
	w.victim.Start()
	w.Settled()
}

// runHere runs a node's agent in this process until stop is called.
func (f *Fleet) runHere(t *testing.T, n *Node, clock func() auth.Instant) (stop func()) {
	t.Helper()
	l, err := api.Listen(filepath.Join(n.Dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.Start(host.Options{
		Dir: n.Dir, Version: "test", Clock: clock, Supervise: []string{f.bin, "supervise"}, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = h.Answer(ctx, l) }()
	go func() {
		defer close(done)
		if err := h.Run(ctx); err != nil {
			t.Errorf("the agent of %s: %v", n.Name, err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func sameAddress(t *testing.T, w *badLuck) {
	twin := w.add()
	twin.Start("--join", w.Token("--server", "no"), "--name", twin.Name, "--bind", twin.Addr, "--advertise", w.victim.Addr)
	names := []string{w.victim.Name, twin.Name}
	slices.Sort(names)
	w.Until("the fleet warns of the address", func() bool {
		out := w.Muster(w.one, "status").Stderr
		return strings.Contains(out, "all say that they are at "+w.victim.Addr) && strings.Contains(out, "--advertise")
	})
	var list []struct{ ID, Name string }
	w.JSON(&list, w.one, "node", "list")
	ids := map[string]string{}
	for _, n := range list {
		ids[n.Name] = n.ID
	}
	if ids[names[0]] == "" || ids[names[1]] == "" || ids[names[0]] == ids[names[1]] {
		t.Fatalf("they are not told apart: %v", list)
	}
	ran := filepath.Join(w.Dir, "twin.ran")
	id := w.send(w.one, "--target", strings.Join(names, " or "), "--", "echo $MUSTER_NODE >> "+ran)
	for _, name := range names {
		w.awaitFate(w.one, id, name, "Success", "")
	}
	if got := lines(t, ran); !slices.Equal(got, names) {
		t.Fatalf("ran on %v", got)
	}
}

// TestAgentWaitsForTheFleet: a host may be up before the fleet is.
func TestAgentWaitsForTheFleet(t *testing.T) {
	f := Found(t)
	join := f.Token()
	f.Nodes[0].Stop()
	early := f.add()
	early.Launch("--join", join, "--name", early.Name, "--bind", early.Addr)
	f.Until("it says that nobody answers", func() bool {
		log, _ := os.ReadFile(early.log())
		return strings.Contains(string(log), "not enrolled yet; asking again")
	})
	f.Nodes[0].Start()
	f.Voter = 1
	f.Settled()
}

// TestRoleChanges: a node becomes a server, and is none any more, without anybody's starting its agent again.
func TestRoleChanges(t *testing.T) {
	f := Found(t)
	n := f.add()
	n.Start("--join", f.Token("--server", "no"), "--name", n.Name, "--bind", n.Addr)
	f.Voter = 1
	f.Settled()
	counted := func() bool {
		var q struct{ Voters, Spares []struct{ Name string } }
		f.JSON(&q, f.Nodes[0], "quorum", "status")
		return slices.ContainsFunc(append(q.Voters, q.Spares...), func(s struct{ Name string }) bool { return s.Name == n.Name })
	}
	replica := func() bool {
		r := f.Muster(n, "quorum", "status", "-o", "json")
		return strings.Contains(r.Stdout, `"replica"`)
	}
	f.Must(f.Nodes[0], "node", "tag", n.Name, "--server")
	f.Until("it is a server", func() bool { return counted() && replica() })
	pid := n.PID()
	f.Must(f.Nodes[0], "node", "tag", n.Name, "--no-server")
	f.Until("it is none", func() bool { return !counted() && f.Muster(n, "quorum", "status").Code == 0 && !replica() })
	if !n.Running() || n.PID() != pid {
		t.Fatal("the agent ended")
	}
	f.awaitAll(n, f.send(n, "--all", "--", "true"), "Success")
}
