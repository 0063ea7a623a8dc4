package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// paced is the sight of a command with limits on n nodes, all of them there.
func paced(n int, p exec.Pace) *sight {
	var ids []fleet.ID
	var nodes []api.Node
	for i := range n {
		id := fleet.ID{byte(i + 1)}
		ids = append(ids, id)
		nodes = append(nodes, api.Node{Member: fleet.Member{ID: id, Name: "n" + string(rune('a'+i)), Status: fleet.Online}})
	}
	p.Limited = true
	s := newSight(fleet.UUID{7}, ids, time.UnixMilli(2_000_000_000_000), newRoll(nodes))
	body := exec.Command{Header: auth.Header{Expires: 2_000_000_000_000}, Count: uint32(n), Pace: p}
	s.info = &node.CommandInfo{ID: s.id, Body: body, Nodes: ids, Rollout: exec.NewRollout(body)}
	s.synced = true
	return s
}

func (s *sight) hear(i int, status exec.Status) {
	s.take(node.Update{Report: &exec.Report{Command: s.id, Node: s.nodes[i], Seq: 1, Status: status}})
}

// TestNewsInAnyOrder: nodes and servers tell on two ways. Whoever is heard first, the command is not over before it is
// known whether it was stopped, and the exit code is the same.
func TestNewsInAnyOrder(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	s := paced(4, exec.Pace{Concurrency: 1, Errors: 1})
	began := s.rollout()
	granted, err := began.Grant(s.pace(), []uint32{0})
	if err != nil {
		t.Fatal(err)
	}
	first := granted.End(s.pace(), []exec.Ending{{Node: 0, As: exec.EndedFailed}})
	second, err := first.Grant(s.pace(), []uint32{1})
	if err != nil {
		t.Fatal(err)
	}
	stopped := second.End(s.pace(), []exec.Ending{{Node: 1, As: exec.EndedFailed}})
	if stopped.Stopped != exec.StoppedByErrors {
		t.Fatalf("%+v", stopped)
	}
	over := func() bool {
		o := s.outcomes(now)
		return s.heardAll(o, s.count(o)) || s.mayBeAll(o, s.count(o), false)
	}
	for i, status := range []exec.Status{exec.Failed, exec.Failed, exec.Terminated, exec.Terminated} {
		s.hear(i, status)
	}
	if over() {
		t.Error("over before the servers have said why nothing more was started")
	}
	o := s.outcomes(now)
	if tally := s.count(o); tally.Stopped != exec.StoppedByErrors || tally.ExitCode() != exec.ExitBudget {
		t.Errorf("%+v: more failed than is borne", tally)
	}
	if !s.mayBeAll(o, s.count(o), true) {
		t.Error("servers that say nothing for long are waited for without end")
	}
	for _, r := range []exec.Rollout{second, stopped, granted} { // news of several servers, in their own order
		info := *s.info
		info.Rollout = r
		s.take(node.Update{Info: &info})
	}
	if !s.rollout().Equal(stopped) || !over() {
		t.Errorf("%+v is not the last word", s.rollout())
	}

	s = paced(2, exec.Pace{Concurrency: 2, Errors: 1}) // one failure is borne
	s.hear(0, exec.Failed)
	s.hear(1, exec.Success)
	if over() {
		t.Error("over before the servers have counted the ends")
	}
	info := *s.info
	both, err := info.Rollout.Grant(s.pace(), []uint32{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	info.Rollout = both.End(s.pace(), []exec.Ending{{Node: 0, As: exec.EndedFailed}, {Node: 1, As: exec.EndedOK}})
	s.take(node.Update{Info: &info})
	if o := s.outcomes(now); !over() || s.count(o).ExitCode() != exec.ExitFailed {
		t.Errorf("%+v", s.count(o))
	}
}

// TestStalled: a strict rollout whose running nodes are all lost is not waited for; any other is.
func TestStalled(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	for _, c := range []struct {
		strict, lost bool
		want         []string
	}{{true, true, []string{"na"}}, {true, false, nil}, {false, true, nil}} {
		s := paced(3, exec.Pace{Concurrency: 1, Strict: c.strict})
		var err error
		if s.info.Rollout, err = s.info.Rollout.Grant(s.pace(), []uint32{0}); err != nil {
			t.Fatal(err)
		}
		if c.lost {
			var nodes []api.Node
			for _, n := range s.roll.nodes {
				if n.Name == "na" {
					n.Status = fleet.ConnectionLost
				}
				nodes = append(nodes, n)
			}
			s.roll = newRoll(nodes)
		}
		var names []string
		for _, id := range s.stalled(s.outcomes(now)) {
			names = append(names, s.roll.name(id))
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%+v: %v", c, names)
		}
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	limited := exec.Pace{Limited: true, Concurrency: 5, Errors: 3, Waves: []uint32{1, 10, 100}}
	for _, c := range []struct {
		t    exec.Tally
		p    exec.Pace
		r    exec.Rollout
		took time.Duration
		want string
	}{
		{exec.Tally{Targets: 3, Success: 1, Pending: 2}, exec.Pace{}, exec.Rollout{}, 300 * time.Millisecond, "300 ms  1 of 3 ok, 2 pending"},
		{exec.Tally{Targets: 100, Success: 8, Failed: 2, Running: 5, Pending: 85}, limited, exec.Rollout{Wave: 1, Failed: 2}, 5 * time.Second,
			"5 s  wave 2 of 3, 8 of 100 ok, 2 failed, 5 running, 85 waiting, 1 of 3 errors left, 2/s, about 45 s left"},
		{exec.Tally{Targets: 10, Failed: 1, Terminated: 9}, exec.Pace{Limited: true}, exec.Rollout{Failed: 1, Stopped: exec.StoppedByErrors}, time.Minute,
			"1 min  0 of 10 ok, 1 failed, 9 never started, stopped"},
		{exec.Tally{Targets: 4, Success: 1, Running: 1, Unreachable: 1, Unknown: 1}, exec.Pace{}, exec.Rollout{}, 30 * time.Second,
			"30 s  1 of 4 ok, 1 running, 1 unknown, 1 unreachable, 2/min, about 30 s left"},
	} {
		if got := progressLine(c.t, c.p, c.r, c.took); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestPolicyClasses: nodes about which policy says the same stand together, and those that may come first.
func TestPolicyClasses(t *testing.T) {
	t.Parallel()
	policy, err := auth.CompilePolicy(`
@id("web-runs-what-web-wants")
permit (principal in Team::"web", action == Action::"run", resource is Node)
when { resource.hasTag("role") && resource.getTag("role") == "web" && !context.shell && !context.direct };
@id("deploys-go-everywhere")
permit (principal in Team::"web", action == Action::"run", resource is Node) when { context.document == "Deploy" };
`)
	if err != nil {
		t.Fatal(err)
	}
	bob := auth.Operator{Name: "bob", Teams: []string{"web"}}
	var nodes []fleet.Member
	for _, name := range []string{"web1", "web2", "db1", "web3"} {
		nodes = append(nodes, fleet.Member{Name: name, Tags: map[string]string{"role": strings.TrimRight(name, "123")}})
	}
	look := func(w work, mode auth.Mode) (out []string) {
		for _, c := range policyClasses(policy, bob, w, manner{mode: mode}, nodes) {
			out = append(out, c.Nodes+" "+c.Rule+c.Why)
		}
		return out
	}
	no := "policy: operator bob may not run: no rule permits it"
	argv := work{run: exec.Run{Argv: []string{"a", "b"}}}
	shell := work{run: exec.Run{Argv: []string{"a b"}}, shell: true}
	deploy := work{documents: []exec.DocumentRef{{Name: "Deploy"}}}
	for name, c := range map[string]struct {
		got, want []string
	}{
		"argv":   {look(argv, auth.ByQuorum), []string{"web[1-3] web-runs-what-web-wants", "db1 " + no}},
		"shell":  {look(shell, auth.ByQuorum), []string{"db1,web[1-3] " + no}},
		"direct": {look(argv, auth.Direct), []string{"db1,web[1-3] " + no}},
		"doc":    {look(deploy, auth.Direct), []string{"db1,web[1-3] deploys-go-everywhere"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", name, c.got, c.want)
		}
	}
}

// TestCutStream: a step's part of a stream is cut out of the head and the tail that a report has.
func TestCutStream(t *testing.T) {
	t.Parallel()
	whole := exec.Stream{Size: 10, Kept: 10, Head: []byte("0123456789")}
	gap := exec.Stream{Size: 100, Kept: 90, Head: []byte("0123456789"), Tail: []byte("uvwxyz")}
	for _, c := range []struct {
		of         exec.Stream
		from, to   int64
		head, tail string
		size, kept int64
	}{
		{whole, 2, 5, "234", "", 3, 3}, {whole, 0, 10, "0123456789", "", 10, 10}, {whole, 10, 10, "", "", 0, 0}, {whole, 4, 99, "456789", "", 6, 6},
		{gap, 8, 97, "89", "uvw", 89, 82}, {gap, 96, 100, "", "wxyz", 4, 0}, {gap, 20, 30, "", "", 10, 10}, {whole, 7, 3, "", "", 0, 0},
		{gap, 99, 97, "", "", 0, 0}, {whole, -5, -3, "", "", 0, 0}, {whole, -5, 2, "01", "", 2, 2},
	} {
		got := cutStream(c.of, exec.Span{From: c.from, To: c.to})
		if string(got.Head) != c.head || string(got.Tail) != c.tail || got.Size != c.size || got.Kept != c.kept {
			t.Errorf("%d to %d: %+v (%q, %q)", c.from, c.to, got, got.Head, got.Tail)
		}
	}
}

func TestFindNames(t *testing.T) {
	t.Parallel()
	var members []fleet.Member
	for _, name := range []string{"web01", "web02", "db1"} {
		members = append(members, fleet.Member{ID: fleet.Sum([]byte(name)), Name: name})
	}
	view := fleet.NewView(members)
	for text, want := range map[string]string{
		"web01\ndb1\n": "db1,web01", "web[01-02], db1": "db1,web01,web02", "db1 # web01": "db1", "web01\nweb01": "web01", "web02\r\n": "web02",
		"nosuch": "", "": "", "# db1": "", "web": "",
	} {
		found, err := findNames(view, text)
		var names []string
		for _, m := range found {
			names = append(names, m.Name)
		}
		if strings.Join(names, ",") != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, names, err)
		}
		if err == nil && len(view.Select(namesTarget(view, found))) != len(found) {
			t.Errorf("%q: the target %s is for others", text, namesTarget(view, found))
		}
	}
}

func TestValueWords(t *testing.T) {
	t.Parallel()
	parameters := []document.Parameter{{Name: "release"}, {Name: "stage", AllowedValues: []string{"test", "live"}}}
	for _, c := range []struct {
		given []string
		typed string
		want  []string
	}{
		{nil, "", []string{"release=", "stage="}}, {[]string{"release=1"}, "", []string{"stage="}}, {nil, "stage=", []string{"stage=test", "stage=live"}},
		{nil, "stage=l", []string{"stage=test", "stage=live"}}, {nil, "nosuch=", nil},
	} {
		if got := valueWords(parameters, c.given, c.typed); !slices.Equal(got, c.want) {
			t.Errorf("%v %q: %q", c.given, c.typed, got)
		}
	}
}

// TestShelf: a command has one version of each document.
func TestShelf(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	one := published{ref: exec.DocumentRef{Name: "Deploy", Version: 1, Digest: fleet.ID{1}}}
	two := published{ref: exec.DocumentRef{Name: "Deploy", Version: 2, Digest: fleet.ID{2}}}
	for range 2 { // the same again is no second
		if err := s.put(one); err != nil || len(s.order) != 1 {
			t.Errorf("%+v, %v", s.order, err)
		}
	}
	if err := s.put(two); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("two versions: %v", err)
	}
	var err error
	for i := range exec.MaxDocuments + 1 {
		err = s.put(published{ref: exec.DocumentRef{Name: "D" + string(rune('a'+i)), Version: 1}})
	}
	if fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("too many: %v", err)
	}
}

// TestRawShell: policy hears that a document is handed its script, also by way of another; see exec/document.
func TestRawShell(t *testing.T) {
	t.Parallel()
	raw, ok := builtInDocument("AWS-RunShellScript")
	if !ok {
		t.Fatal("AWS-RunShellScript is not built in")
	}
	script, err := openBuiltIn(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := document.Parse([]byte(`{"schemaVersion":"2.2","mainSteps":[{"name":"a","action":"aws:runShellScript","inputs":{"runCommand":["true"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	plain := published{exec.DocumentRef{Name: "Plain", Version: 1}, doc}
	for _, c := range []struct {
		all  []published
		want bool
	}{{[]published{plain}, false}, {[]published{script}, true}, {[]published{plain, script}, true}, {[]published{script, plain}, true}} {
		if w := documentsWork(exec.Run{}, document.Values{}, c.all); w.shell != c.want || len(w.documents) != len(c.all) {
			t.Errorf("%+v: %+v", c.all, w)
		}
	}
}
