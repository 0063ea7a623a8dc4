package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// did makes an event of one parameter.
func did(from, to int64, a ask, got answer) event {
	a.key = "/a"
	return event{ask: a, answer: got, from: from, to: to}
}

func put(version uint32, value string) ask {
	return ask{op: opPut, born: 1, version: version, value: value}
}

func found(version, newest uint32, value string) answer {
	return answer{found: true, born: 1, version: version, newest: newest, value: value}
}

// TestModel judges histories of one parameter that were made by hand.
func TestModel(t *testing.T) {
	t.Parallel()
	was := func(v verdict) answer { return answer{verdict: v} }
	get := ask{op: opGet}
	one := did(0, 10, put(1, "a"), was(taken))
	two := did(20, 30, put(2, "b"), was(taken))
	for name, c := range map[string]struct {
		history []event
		legal   bool
	}{
		"in order":                         {[]event{one, two, did(40, 50, get, found(2, 2, "b"))}, true},
		"a stale read":                     {[]event{one, two, did(40, 50, get, found(1, 1, "a"))}, false},
		"a read beside the write sees old": {[]event{one, two, did(25, 50, get, found(1, 1, "a"))}, true},
		"a read of nothing too late":       {[]event{one, did(20, 30, get, answer{})}, false},
		"another value":                    {[]event{one, did(20, 30, get, found(1, 1, "x"))}, false},
		"two take one version":             {[]event{one, two, did(20, 30, put(2, "c"), was(taken))}, false},
		"one of two is refused":            {[]event{one, two, did(20, 30, put(2, "c"), was(refused))}, true},
		"refused for nothing":              {[]event{one, did(20, 30, put(2, "c"), was(refused)), did(40, 50, get, found(1, 1, "a"))}, false},
		"unknown, and it was taken":        {[]event{one, did(20, forever, put(2, "b"), was(unknown)), did(40, 50, get, found(2, 2, "b"))}, true},
		"unknown, taken much later": {[]event{
			one, did(20, forever, put(2, "b"), was(unknown)), did(40, 50, get, found(1, 1, "a")), did(60, 70, get, found(2, 2, "b")),
		}, true},
		"unknown, and it was not": {[]event{one, did(20, forever, put(2, "b"), was(unknown)), did(40, 50, put(2, "c"), was(taken)), did(60, 70, get, found(2, 2, "c"))}, true},
		"seen, and gone again":    {[]event{one, two, did(40, 50, get, found(2, 2, "b")), did(60, 70, get, found(1, 1, "a"))}, false},
		"deleted":                 {[]event{one, did(20, 30, ask{op: opDelete, born: 1, version: 1}, was(taken)), did(40, 50, get, answer{})}, true},
		"deleted, and back": {[]event{
			one, did(20, 30, ask{op: opDelete, born: 1, version: 1}, was(taken)), did(40, 50, put(1, "a"), was(taken)),
		}, false},
		"born anew": {[]event{
			one, did(20, 30, ask{op: opDelete, born: 1, version: 1}, was(taken)), did(40, 50, ask{op: opPut, born: 2, version: 1, value: "n"}, was(taken)),
			did(60, 70, get, answer{found: true, born: 2, version: 1, newest: 1, value: "n"}),
		}, true},
		"a label moves": {[]event{
			one, two, did(40, 50, ask{op: opLabel, born: 1, seq: 1, version: 1, label: "current"}, was(taken)),
			did(60, 70, ask{op: opLabel, born: 1, seq: 2, version: 2, label: "current"}, was(taken)),
			did(80, 90, ask{op: opGet, label: "current"}, answer{found: true, born: 1, version: 2, newest: 2, seq: 2, value: "b", labels: "current"}),
		}, true},
		"a label that did not move": {[]event{
			one, two, did(40, 50, ask{op: opLabel, born: 1, seq: 1, version: 1, label: "current"}, was(taken)),
			did(60, 70, ask{op: opLabel, born: 1, seq: 2, version: 2, label: "current"}, was(taken)),
			did(80, 90, ask{op: opGet, label: "current"}, answer{found: true, born: 1, version: 1, newest: 2, seq: 2, value: "a", labels: "current"}),
		}, false},
		"an old version by its number": {[]event{one, two, did(40, 50, ask{op: opGet, version: 1}, found(1, 2, "a"))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if wrong := judge(c.history); (len(wrong) == 0) != c.legal {
				t.Errorf("%q", wrong)
			}
		})
	}
}

// TestIdleHistories: what proves nothing fails.
func TestIdleHistories(t *testing.T) {
	t.Parallel()
	busy := counts{gets: leastGets, taken: leastTaken, faults: 1}
	if why := busy.idle(); why != "" {
		t.Error(why)
	}
	for name, edit := range map[string]func(*counts){
		"reads": func(c *counts) { c.gets-- }, "changes": func(c *counts) { c.taken-- }, "wrong": func(c *counts) { c.faults = 0 },
	} {
		c := busy
		edit(&c)
		if why := c.idle(); !strings.Contains(why, name) {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// TestPlan: the same seed gives the same plan, within the history, and never takes a majority.
func TestPlan(t *testing.T) {
	t.Parallel()
	kinds := []fault{faultKill, faultPause, faultPart, faultAlone, faultLead}
	for number := range 300 {
		plan := planOf(seedOf(7, number), kinds)
		if len(plan) == 0 {
			t.Errorf("history %d has no faults", number)
		}
		for i, x := range planOf(seedOf(7, number), kinds) {
			p := plan[i]
			if x.fault != p.fault || x.from != p.from || x.to != p.to || !slices.Equal(x.hosts, p.hosts) {
				t.Fatalf("history %d has two plans", number)
			}
			if p.to <= p.from || p.to > span || i > 0 && p.from < plan[i-1].to || len(p.hosts) < 1 || 2*len(p.hosts) > hosts {
				t.Errorf("history %d: %+v", number, p)
			}
		}
	}
}

// TestJudgedBefore: what was judged is passed over, of its own seed alone.
func TestJudgedBefore(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/done"
	j, err := openJudged(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{2, 3} {
		if err := j.add(9, number); err != nil {
			t.Fatal(err)
		}
	}
	if j, err = openJudged(path); err != nil {
		t.Fatal(err)
	}
	if got := j.left(9, 1, 4); !slices.Equal(got, []int{1, 4}) {
		t.Errorf("left %v", got)
	}
	if got := j.left(8, 1, 3); len(got) != 3 {
		t.Errorf("of another seed %v", got)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{"more": "more", "--histories 0": "at least 1", "--bad": "-bad"} {
		if _, err := parseOptions(strings.Fields(line), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
