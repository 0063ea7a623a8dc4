package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

func small() Shape { return Shape{Servers: 3, Agents: 2, StormMS: 40_000} }

// sessionOf runs rounds on a fake fleet in virtual time.
func sessionOf(t *testing.T, rounds int, bug string, change func(*session)) (s *session, traced string, failed error) {
	t.Helper()
	asks := map[int]Ask{}
	for round := 1; round <= rounds; round++ {
		for _, step := range Plan(7, small(), round) {
			if step.Ask != nil {
				asks[step.Ask.Op] = *step.Ask
			}
		}
	}
	var out bytes.Buffer
	s = &session{Session: Session{Seed: 7, Shape: small()}, rounds: rounds, renew: 100, found: foundFake(asks, bug), trace: &trace{out: &out, path: "t.jsonl"},
		tally: newTally(), progress: func(string) {}}
	if change != nil {
		change(s)
	}
	synctest.Test(t, func(t *testing.T) { failed = s.run(t.Context()) })
	return s, out.String(), failed
}

// verdict returns what a session prints and its exit code.
func verdict(s *session, failed error) (string, int) {
	var out strings.Builder
	code := s.verdict(&out, failed)
	return out.String(), code
}

func TestAFleetThatKeepsItsPromisesPasses(t *testing.T) {
	s, traced, failed := sessionOf(t, 4, "", nil)
	text, code := verdict(s, failed)
	if code != 0 || !strings.Contains(text, "no promise was broken (seed 7, trace t.jsonl)") {
		t.Errorf("exit %d: %s", code, text)
	}
	if s.tally.rounds != 4 || s.tally.runs < 100 || s.tally.checked < 20 {
		t.Errorf("too little to test with: %s", text)
	}
	if !strings.Contains(traced, `"ended":{"round":4`) {
		t.Error("the trace does not tell of the end of all rounds")
	}
}

// TestBugsAreCaught plants one bug at a time, one for each promise.
func TestBugsAreCaught(t *testing.T) {
	bugs := shelfBugs()
	maps.Copy(bugs, map[string]check.Promise{
		"runs again after a restart": check.PromiseOnce,
		"starts more than it may":    check.PromiseBounds,
		"calls failures successes":   check.PromiseTruth,
		"changes its mind":           check.PromiseSteady,
		"forgets a tag":              check.PromiseKept,
		"forgets a command":          check.PromiseKept,
		"lists what was a while ago": check.PromiseFresh,
		"replicas differ":            check.PromiseReplicas,
		"runs another body":          check.PromiseSigned,
		"leaves what it kills":       check.PromiseDead,
		"leaks":                      check.PromiseLevel,
		"never settles":              promiseRest,
		"panics":                     promiseCrash,
	})
	for bug, want := range bugs {
		t.Run(bug, func(t *testing.T) {
			s, _, failed := sessionOf(t, 3, bug, func(s *session) { s.goOn, s.renew = true, 3 })
			text, code := verdict(s, failed)
			if code != 1 || !slices.ContainsFunc(s.violations, func(v check.Violation) bool { return v.Promise == want }) {
				t.Errorf("exit %d, not caught: %s", code, text)
			}
			if !strings.HasPrefix(text, "BROKEN: ") || !strings.Contains(text, "seed 7, trace t.jsonl") {
				t.Errorf("the verdict does not begin with the promise, the seed and the trace: %s", text)
			}
		})
	}
}

// TestLostAnswers: commands that were taken while their sender was told nothing are found, and held to the promises.
func TestLostAnswers(t *testing.T) {
	s, _, failed := sessionOf(t, 3, "answers nothing", nil)
	if text, code := verdict(s, failed); code != 0 || s.tally.asks[AskRun][check.InDoubt] < 5 || s.tally.checked <= s.tally.asks[AskRun][check.Accepted] {
		t.Errorf("exit %d: %s", code, text)
	}
}

func TestTooLittleFails(t *testing.T) {
	s, _, failed := sessionOf(t, 2, "refuses everything", nil)
	if text, code := verdict(s, failed); code != 1 || !strings.Contains(text, "TOO LITTLE: 0 runs in") {
		t.Errorf("exit %d: %s", code, text)
	}
	idle := newTally()
	if got := idle.tooLittle(time.Minute); len(got) != 8 {
		t.Errorf("an idle session lacks %v", got)
	}
}

func TestPlanIsPure(t *testing.T) {
	shape := Shape{Servers: 5, Agents: 10, StormMS: 24_000}
	for round := 1; round <= 3; round++ {
		if !reflect.DeepEqual(Plan(7, shape, round), Plan(7, shape, round)) {
			t.Errorf("round %d differs from itself", round)
		}
		if reflect.DeepEqual(Plan(7, shape, round), Plan(8, shape, round)) || reflect.DeepEqual(Plan(7, shape, round), Plan(7, shape, round+1)) {
			t.Error("another seed or round gives the same plan")
		}
	}
}

// TestPlans looks at many plans: every fault ends in its round, references point to what comes before, numbers are
// unique, and a majority of servers is left unless everybody is struck.
func TestPlans(t *testing.T) {
	for _, shape := range []Shape{small(), {Servers: 5, Agents: 10, StormMS: 24_000}, {Servers: 1, Agents: 0, StormMS: 5000}, {Servers: 3, Agents: 0, StormMS: 40_000}} {
		for seed := range uint64(60) {
			for round := 1; round <= 3; round++ {
				soundPlan(t, shape, Plan(seed, shape, round))
			}
		}
	}
}

func soundPlan(t *testing.T, shape Shape, steps []Step) {
	t.Helper()
	open, numbers, ops, last := map[int]Fault{}, map[int]bool{}, map[int]AskKind{}, int64(0)
	for _, s := range steps {
		if numbers[s.Number] || s.Number >= (s.Round+1)*roundSteps || s.AtMS < last || s.AtMS > shape.StormMS {
			t.Fatalf("step %d at %d ms: not unique, out of order or after the storm", s.Number, s.AtMS)
		}
		numbers[s.Number], last = true, s.AtMS
		switch {
		case s.Fault != nil:
			open[s.Number] = *s.Fault
		case s.Lift != 0:
			if _, ok := open[s.Lift]; !ok {
				t.Fatalf("step %d ends what did not begin", s.Number)
			}
			delete(open, s.Lift)
		case s.Ask != nil:
			ops[s.Ask.Op] = s.Ask.Kind
			if s.Ask.Ref != 0 && ops[s.Ask.Ref] == "" {
				t.Fatalf("operation %d is about %d, which does not come before it", s.Ask.Op, s.Ask.Ref)
			}
			if late := s.Ask.Kind == AskCAS || s.Ask.Kind == AskLabel; late && s.Ask.Ref == 0 || s.Ask.Kind == AskUntag && s.Ask.Node == shape.founders()[0] && s.Ask.Key == ringKey {
				t.Fatalf("operation %s", s.Ask)
			}
			if !slices.Contains(shape.hosts(), s.Ask.From) || len(s.Ask.meant(shape.hosts())) == 0 && shape.Agents > 0 {
				t.Fatalf("operation %s", s.Ask)
			}
		}
		if away := serversAway(shape, open); away > (shape.Servers-1)/2 && away < shape.Servers {
			t.Fatalf("at %d ms %d of %d servers are away", s.AtMS, away, shape.Servers)
		}
	}
	if len(open) != 0 {
		t.Fatalf("faults never end: %v", open)
	}
}

// serversAway counts the servers that faults take away; the leader is one more. All of them count as such only if one fault
// takes everybody.
func serversAway(shape Shape, open map[int]Fault) int {
	away := map[string]bool{}
	for _, f := range open {
		if takesAway(f.Kind) && len(f.Hosts) >= shape.Servers+shape.Agents {
			return shape.Servers
		}
		for _, h := range f.Hosts {
			if takesAway(f.Kind) && (h == Leader || slices.Contains(shape.servers(), h)) {
				away[h] = true
			}
		}
	}
	return len(away)
}

// TestEveryFaultComesUp: a few rounds go through all kinds.
func TestEveryFaultComesUp(t *testing.T) {
	shape := Shape{Servers: 5, Agents: 10, StormMS: 24_000}
	for seed := range uint64(20) {
		seen := map[FaultKind]bool{}
		for round := 1; round <= 5; round++ {
			for _, s := range Plan(seed, shape, round) {
				if s.Fault != nil {
					seen[s.Fault.Kind] = true
				}
			}
		}
		for _, kind := range kinds() {
			if !seen[kind] {
				t.Errorf("seed %d: no %s in 5 rounds", seed, kind)
			}
		}
	}
}

func TestReplay(t *testing.T) {
	_, traced, _ := sessionOf(t, 3, "", nil)
	was, steps, err := readTrace(strings.NewReader(traced))
	if err != nil {
		t.Fatal(err)
	}
	if was.Seed != 7 || was.Shape != small() || len(steps) != 3 {
		t.Errorf("the trace is of %+v with %d rounds", was, len(steps))
	}
	s, again, failed := sessionOf(t, 3, "", func(s *session) { s.Seed, s.replayed = 99, steps })
	if text, code := verdict(s, failed); code != 0 {
		t.Errorf("exit %d: %s", code, text)
	}
	_, repeated, err := readTrace(strings.NewReader(again))
	if err != nil {
		t.Fatal(err)
	}
	for round := range steps {
		if !reflect.DeepEqual(byStep(steps[round]), byStep(repeated[round])) {
			t.Errorf("round %d was not repeated step by step", round)
		}
	}
	for _, bad := range []string{"", "{}\n", "no trace\n"} {
		if _, _, err := readTrace(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passes for a trace", bad)
		}
	}
}

func byStep(steps []Step) map[int]Step {
	out := map[int]Step{}
	for _, s := range steps {
		out[s.Number] = s
	}
	return out
}

func TestBodies(t *testing.T) {
	for _, body := range []Body{Says, Fails, Floods, Sleeps, Leaves, Stubborn} {
		a := Ask{Kind: AskRun, Op: 7042, Body: body, LastsMS: 1000}
		if body == Stubborn {
			a.LastsMS = 1000
		}
		if !strings.Contains(a.script(), "O=7042;") || !strings.Contains(a.script(), "n end") || a.writes("n1") == "" {
			t.Errorf("%s: %s", body, a.script())
		}
	}
	if len(Ask{Op: 1, Body: Floods}.writes("n1")) != floodSize {
		t.Error("a flood of another size")
	}
	if mark(7042) != "0.007042" || mark(123456) != "0.123456" {
		t.Errorf("marks %s %s", mark(7042), mark(123456))
	}
}

func TestNotes(t *testing.T) {
	id := fleet.UUID{15: 1}
	asks := map[int]Ask{7: {Op: 7, Body: Says}}
	text := fmt.Sprintf("start 1000000000 %[1]s n1 7 55 abc\nstop 2000000000 %[1]s n1 7 55 \nend 3000000000 %[1]s n1 7 55 3\n"+
		"nonsense\nstart x %[1]s n1 7 55 abc\nstart 4000000000 %[1]s n2 7 56 abc\nend 5000000000 %[1]s n1 7 56 0", id)
	runs := runsOf("n1", readNotes(text), asks)
	if len(runs) != 2 {
		t.Fatalf("%d runs: %+v", len(runs), runs)
	}
	one := runs[0]
	if one.Command != id || one.Node != "n1" || one.Did != "abc" || one.Stopped.Unix() != 2 || one.End == nil || one.End.Exit != 3 || one.Writes != "op 7 on n1\n" {
		t.Errorf("%+v", one)
	}
	if two := runs[1]; two.End != nil || two.Did != "abc, as if on n2" {
		t.Errorf("a line that was broken off counts, or a run elsewhere does not show: %+v", two)
	}
}

func TestAnswers(t *testing.T) {
	id := fleet.UUID{15: 9}
	for _, c := range []struct {
		kind AskKind
		r    Result
		ack  check.Ack
		id   fleet.UUID
	}{
		{AskRun, Result{Stdout: `{"id":"` + id.String() + `"}`}, check.Accepted, id},
		{AskRun, Result{Stdout: `{"id":"` + id.String() + `","exit":5}`, Code: 5}, check.Accepted, id},
		{AskRun, Result{Code: 3, Stderr: "muster: no"}, check.Refused, fleet.UUID{}},
		{AskRun, Result{Code: 5, Stderr: "muster: lost\n  → before you repeat it: muster command show " + id.String()}, check.InDoubt, id},
		{AskRun, Result{Code: -1}, check.InDoubt, fleet.UUID{}},
		{AskTag, Result{Code: -1, Stderr: "n3 is switched off"}, check.Refused, fleet.UUID{}},
		{AskTag, Result{Code: -1, Stderr: "asking n3\nmatched 1"}, check.InDoubt, fleet.UUID{}},
		{AskTag, Result{}, check.Accepted, fleet.UUID{}},
		{AskTag, Result{Code: 1}, check.InDoubt, fleet.UUID{}},
		{AskUntag, Result{Code: 1, Stderr: "muster: there is no tag \"x\" to drop"}, check.Refused, fleet.UUID{}},
		{AskDelete, Result{Code: 1, Stderr: "muster: /x: no such parameter (ParameterNotFound)"}, check.Refused, fleet.UUID{}},
		{AskPut, Result{Code: 5, Stderr: "muster: no answer"}, check.InDoubt, fleet.UUID{}},
	} {
		if ack, got := ackOf(c.kind, c.r); ack != c.ack || got != c.id {
			t.Errorf("%s %+v: %s %s", c.kind, c.r, ack, got)
		}
	}
}

func TestOwners(t *testing.T) {
	id := fleet.UUID{15: 9}
	ids := map[int]fleet.UUID{7042: id}
	for _, c := range []struct {
		p                Process
		supervisor, ours bool
	}{
		{Process{Argv: []string{"sh", "-c", "x"}, Environ: []string{"A=1", "MUSTER_COMMAND_ID=" + id.String()}}, false, true},
		{Process{Argv: []string{"/proc/self/exe", "supervise", id.String()}}, true, true},
		{Process{Argv: []string{"/bin/sleep", "120", "0.007042"}}, false, true},
		{Process{Argv: []string{"/bin/sleep", "120", "0.007043"}}, false, false},
		{Process{Argv: []string{"sleep", "1000000"}}, false, false},
		{Process{Argv: []string{"muster", "agent"}}, false, false},
		{Process{}, false, false},
	} {
		got, supervisor, ours := c.p.owner(ids)
		if supervisor != c.supervisor || ours != c.ours || (ours && got != id) {
			t.Errorf("%v: %s %v %v", c.p, got, supervisor, ours)
		}
	}
}

func TestCrash(t *testing.T) {
	if got := crash("all is well\npanic: runtime error: index out of range\n\ngoroutine 1:\nmain.go:3\n"); !strings.Contains(got, "index out of range") || !strings.Contains(got, "main.go:3") {
		t.Errorf("got %q", got)
	}
	if got := crash("level=INFO msg=\"no panic: all is well\"\n"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range []string{"now", "--servers 0", "--storm 1s", "--minutes 0", "--minutes -1", "--plan", "--what", "--renew 0"} {
		var out strings.Builder
		if code := run(strings.Fields(bad), &out, &out); code != exitWrong {
			t.Errorf("%s: exit %d: %s", bad, code, out.String())
		}
	}
	var out strings.Builder
	if code := run(strings.Fields("--plan --rounds 1 --seed 3"), &out, &out); code != 0 || !strings.Contains(out.String(), "begins: ") {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

// TestShortChaos breaks a small real fleet for a while.
func TestShortChaos(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("hosts in namespaces need root")
	}
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	var out, progress strings.Builder
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	code := run([]string{"--seed", "7", "--minutes", "0", "--rounds", "2", "--storm", "15s", "--servers", "3", "--agents", "2", "--trace", path}, &out, &progress)
	t.Logf("%s\n%s", out.String(), progress.String())
	if code != 0 {
		t.Errorf("exit %d", code)
	}
}
