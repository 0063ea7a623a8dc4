package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// known are towns that several tests share.
var known towns

// spreads are measured once for several tests: by loss in percent.
var spreads = sync.OnceValue(func() map[int]spread {
	out := map[int]spread{}
	for _, percent := range []int{0, 10, 25} {
		out[percent] = measureSpread(setting{town: known.of(50), seed: 1, loss: float64(percent) / 100}, 4)
	}
	return out
})

func TestCommandsReachEverybody(t *testing.T) {
	for percent, s := range spreads() {
		if s.Had.All == 0 || s.Told.All == 0 || s.Told.All < s.Had.Half {
			t.Errorf("%d %% lost: had after %v, told after %v", percent, s.Had, s.Told)
		}
		if limit := 30 * time.Second; s.Told.All > limit {
			t.Errorf("%d %% lost: the last report came after %s", percent, s.Told.All)
		}
		if s.Messages == 0 || s.Rest == 0 {
			t.Errorf("%d %% lost: no traffic was counted", percent)
		}
	}
	if calm, lossy := spreads()[0], spreads()[25]; lossy.Had.P999 <= calm.Had.P999 {
		t.Errorf("a quarter of all packets is lost, and nobody notices: %v, %v", calm.Had, lossy.Had)
	}
}

func TestSameSeedSameTrace(t *testing.T) {
	s := setting{town: known.of(50), seed: 1, loss: 0.25}
	if again := measureSpread(s, 4); again.Trace != spreads()[25].Trace || again.Steps != spreads()[25].Steps {
		t.Errorf("the same seed went another way: %d steps, then %d", spreads()[25].Steps, again.Steps)
	}
	s.seed = 2
	if other := measureSpread(s, 4); other.Trace == spreads()[25].Trace {
		t.Error("another seed went the same way")
	}
	for seed := range uint64(2) {
		s := setting{town: known.of(50), seed: 100 + seed, loss: 0.1}
		if one, two := play(s, 10), play(s, 10); one.Trace != two.Trace || one.Steps != two.Steps || one.Runs != two.Runs {
			t.Errorf("the same seed went another way: %d steps and %d runs, then %d and %d", one.Steps, one.Runs, two.Steps, two.Runs)
		}
	}
}

// TestRolloutsKeepTheirBounds plays many rollouts under faults. So that it proves something, faults must have happened, runs
// must have failed, and rollouts must have been stopped.
func TestRolloutsKeepTheirBounds(t *testing.T) {
	for _, c := range []struct{ nodes, rollouts, least int }{{50, 300, 3000}, {2000, 1, 100}} {
		if c.nodes > wholeView && testing.Short() {
			continue
		}
		o := options{seed: 1000, loss: []float64{0, 0.1, 0.25}, jobs: 2, towns: &known}
		sum := o.seasons(c.nodes, c.rollouts, func() bool { return true }, func(string) {})
		for _, v := range sum.Violations {
			t.Errorf("%d nodes: %s", c.nodes, v)
		}
		for _, s := range sum.Stuck {
			t.Errorf("%d nodes: it never ends: %s", c.nodes, s)
		}
		for _, s := range sum.Lies {
			t.Errorf("%d nodes: %s", c.nodes, s)
		}
		if sum.Rollouts != c.rollouts || sum.Runs < c.least {
			t.Errorf("%d nodes: %d rollouts, %d runs", c.nodes, sum.Rollouts, sum.Runs)
		}
		if c.nodes > wholeView {
			continue
		}
		for _, f := range faults {
			if sum.Faults[f.name] == 0 {
				t.Errorf("%q never happened", f.name)
			}
		}
		if sum.Stopped < c.rollouts/10 || sum.Terms < 10 || sum.Cancelled == 0 || sum.Unknown == 0 || sum.Followers == 0 {
			t.Errorf("too little happened: %+v", sum)
		}
	}
}

// TestPlantedBugsAreCaught: a checker that finds nothing in a broken fleet proves nothing about a sound one.
func TestPlantedBugsAreCaught(t *testing.T) {
	for p := sound + 1; p < plants; p++ {
		t.Run(plantNames[p], func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				if s := play(setting{town: known.of(30), seed: seed, loss: 0.1, plant: p}, 20); len(s.Violations) > 0 {
					t.Logf("seed %d: %s", seed, s.Violations[0])
					return
				}
			}
			t.Error("it is not caught")
		})
	}
}

// TestQueue: what is first comes first, and of one moment what was queued first.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		last := queued{at: -1}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if q.empty() || rapid.Bool().Draw(t, "push") {
				q.push(max(last.at, 0)+time.Duration(rapid.IntRange(0, 5).Draw(t, "later")), nil)
				continue
			}
			x := q.pop()
			if !last.before(x) {
				t.Fatalf("%v came after %v", x, last)
			}
			last = x
		}
	})
}

func TestCommandLine(t *testing.T) {
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := command(args, &out, &errs)
		return code, out.String(), errs.String()
	}
	if code, out, _ := run("--nodes", "20", "--commands", "1", "--rollouts", "4", "--loss", "0", "--jobs", "1"); code != 0 ||
		!strings.Contains(out, "ROLLOUTS at 20 nodes: 4") || !strings.Contains(out, "violations: 0; rollouts without an end: 0") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out, _ := run("--nodes", "20", "--commands", "0", "--rollouts", "2", "-o", "json"); code != 0 || !strings.Contains(out, `"violations": null`) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out, _ := run("--nodes", "20", "--commands", "0", "--rollouts", "40", "--plant", "2"); code != 1 || !strings.Contains(out, "a paced command keeps its bounds: command ") {
		t.Errorf("a bug that was built in: exit code %d:\n%s", code, out)
	}
	for _, wrong := range [][]string{{"--nodes", "1"}, {"--nodes", "x"}, {"--rollouts", "1,2"}, {"--loss", "90"}, {"-o", "xml"}, {"more"}, {"--plant", "99"}, {"--jobs", "0"}} {
		if code, _, errs := run(wrong...); code != 2 || !strings.HasPrefix(errs, "sim: ") {
			t.Errorf("%v: exit code %d: %s", wrong, code, errs)
		}
	}
}
