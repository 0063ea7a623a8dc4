package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestPortion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		count  int
		of     uint32
		wanted bool
	}{
		{"0", 10, 0, true}, {"7", 3, 7, true}, {"10%", 50, 5, true}, {"10%", 9, 0, true}, {"100%", 10_000, 10_000, true},
		{"0%", 5, 0, true}, {"33%", 10, 3, true},
		{"", 1, 0, false}, {"%", 1, 0, false}, {"-1", 1, 0, false}, {"+1", 1, 0, false}, {"101%", 1, 0, false}, {"1.5%", 1, 0, false},
		{"5 %", 1, 0, false}, {"4294967296", 1, 0, false},
	} {
		p, err := parsePortion("--max-errors", c.text)
		if (err == nil) != c.wanted || (err == nil && p.of(c.count) != c.of) {
			t.Errorf("%q of %d: %d, %v", c.text, c.count, p.of(c.count), err)
		}
	}
}

func TestLifespan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "1d12h": 36 * time.Hour, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0s": 0, "0d": 0,
	} {
		var l lifespan
		if err := l.Set(text); err != nil || time.Duration(l) != want {
			t.Errorf("%s: %v, %v", text, l, err)
		}
		var back lifespan
		if err := back.Set(l.String()); err != nil || back != l {
			t.Errorf("%s is written %s", text, l)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "1d-2h", "1dd", "5", "tomorrow"} {
		if d, err := parseLifespan(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	limited := func(c, e uint32, waves ...uint32) exec.Pace {
		return exec.Pace{Limited: true, Concurrency: c, Errors: e, Waves: waves}
	}
	strict := limited(50, 2)
	strict.Strict = true
	for _, c := range []struct {
		of    limits
		count int
		want  exec.Pace
		worst int
	}{
		{limits{}, 7, exec.Pace{}, 7},
		{limits{concurrency: "2"}, 50, limited(2, 0), 2},
		{limits{errors: "10%"}, 50, limited(50, 5), 50}, // the sixth failure stops it
		{limits{errors: "10%"}, 200, limited(50, 20), 70},
		{limits{concurrency: "10%", errors: "1"}, 5, limited(1, 1), 2},
		{limits{errors: "2", strict: true}, 100, strict, 3},
		{limits{canary: "1,5%,100%"}, 100, limited(50, 0, 1, 5, 100), 50},
		{limits{canary: "1,5%,100%", concurrency: "100%"}, 100, limited(100, 0, 1, 5, 100), 95},
		{limits{canary: "1, 10%, 100%", concurrency: "100%", errors: "3"}, 10, limited(10, 3, 1, 10), 10},
		{limits{canary: "1,10,100%"}, 4, limited(50, 0, 1, 4), 3},
		{limits{canary: "100%"}, 3, limited(50, 0, 3), 3},
	} {
		got, err := c.of.pace(c.count)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) || worstCase(got, c.count) != c.worst {
			t.Errorf("%+v of %d: %+v, worst %d, %v", c.of, c.count, got, worstCase(got, c.count), err)
		}
	}
	for _, bad := range []limits{
		{concurrency: "0"}, {concurrency: "0%"}, {concurrency: "x"}, {errors: "-1"}, {canary: "1,5%"}, {canary: "5,1,100%"},
		{canary: ","}, {canary: "0,100%"}, {canary: "100%,50%"},
	} {
		if got, err := bad.pace(100); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%+v: %+v, %v", bad, got, err)
		}
	}
}

// TestWorstCase: however nodes fail under a pace, in whatever order they end, no more than the worst case do.
func TestWorstCase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 40).Draw(t, "count")
		p := exec.Pace{
			Limited: true, Concurrency: uint32(rapid.IntRange(0, 12).Draw(t, "concurrency")), Errors: uint32(rapid.IntRange(0, 5).Draw(t, "errors")),
			Strict: rapid.Bool().Draw(t, "strict"),
		}
		if rapid.Bool().Draw(t, "waves") {
			p.Waves = stretchWaves([]uint32{1, uint32(rapid.IntRange(2, 9).Draw(t, "second")), 1}, uint32(count))
		}
		granted, running, failed, wave := 0, 0, 0, 0
		for {
			room := count - granted
			if len(p.Waves) > 0 {
				if granted == int(p.Waves[wave]) && running == 0 && wave < len(p.Waves)-1 {
					wave++
				}
				room = min(room, int(p.Waves[wave])-granted)
			}
			if p.Concurrency > 0 {
				room = min(room, int(p.Concurrency)-running)
			}
			if p.Strict {
				room = min(room, int(p.Errors)+1-failed-running)
			}
			if failed > int(p.Errors) {
				room = 0
			}
			switch {
			case room > 0 && (running == 0 || rapid.Bool().Draw(t, "start")):
				granted, running = granted+1, running+1
			case running > 0:
				running--
				if rapid.IntRange(0, 9).Draw(t, "fails") < 8 {
					failed++
				}
			default:
				if worst := worstCase(p, count); failed > worst {
					t.Fatalf("%d failed, the worst case of %+v is %d", failed, p, worst)
				}
				return
			}
		}
	})
}

func TestStretchWaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		waves []uint32
		count uint32
		want  []uint32
	}{
		{nil, 5, nil}, {[]uint32{1, 5, 100}, 100, []uint32{1, 5, 100}}, {[]uint32{1, 5, 100}, 3, []uint32{1, 3}},
		{[]uint32{1, 5, 100}, 5, []uint32{1, 5}}, {[]uint32{1, 5}, 9, []uint32{1, 9}},
	} {
		if got := stretchWaves(c.waves, c.count); !slices.Equal(got, c.want) {
			t.Errorf("%v for %d: %v", c.waves, c.count, got)
		}
	}
}

// TestSample: a seed picks the same nodes in any order of them, and a larger sample holds a smaller one.
func TestSample(t *testing.T) {
	t.Parallel()
	var members []fleet.Member
	for i := range 200 {
		members = append(members, fleet.Member{ID: fleet.Sum([]byte{byte(i)}), Name: fmt.Sprintf("n%03d", i)})
	}
	names := func(members []fleet.Member) []string {
		var out []string
		for _, m := range members {
			out = append(out, m.Name)
		}
		slices.Sort(out)
		return out
	}
	five := names(sample(members, 5, 7))
	turned := slices.Clone(members)
	slices.Reverse(turned)
	if got := names(sample(turned, 5, 7)); !slices.Equal(got, five) {
		t.Errorf("%v, then %v", five, got)
	}
	ten := names(sample(members, 10, 7))
	for _, name := range five {
		if !slices.Contains(ten, name) {
			t.Errorf("%s is in 5 and not in 10", name)
		}
	}
	if got := names(sample(members, 5, 8)); slices.Equal(got, five) {
		t.Error("another seed picks the same")
	}
	if len(sample(members, 999, 1)) != len(members) || len(ten) != 10 {
		t.Error("wrong sizes")
	}
	hits := map[string]int{}
	for seed := range uint64(400) {
		for _, m := range sample(members, 20, seed) {
			hits[m.Name]++
		}
	}
	for name, n := range hits { // 40 expected; five deviations
		if n < 10 || n > 70 {
			t.Errorf("%s was drawn %d times", name, n)
		}
	}
}

func TestYAML(t *testing.T) {
	t.Parallel()
	in := map[string]any{
		"a": "123", "b": true, "c": nil, "d": []any{"yes", "a: b", "one\ntwo\n", "null", "~", "", "2026-01-01", "# no", "\x1b[31m"},
		"e": map[string]any{}, "f": []any{}, "g": 1.5,
	}
	out, err := yamlOf(in)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(string(out), "\x1b{,") && !strings.Contains(string(out), "e: {}") {
		t.Errorf("%s", out)
	}
	var back map[string]any
	if err := yaml.Unmarshal(out, &back); err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(in)
	if got, _ := json.Marshal(back); string(got) != string(want) {
		t.Errorf("%s became %s by way of\n%s", want, got, out)
	}
	if !strings.Contains(string(out), `- "yes"`) {
		t.Errorf("older readers take yes for true:\n%s", out)
	}
}

// TestLineDiff: a diff says how to make the new text of the old one, and shows what is near a change.
func TestLineDiff(t *testing.T) {
	t.Parallel()
	if got := lineDiff("a", "b", "x\n", "x\n"); got != "" {
		t.Errorf("%q", got)
	}
	var old []string
	for i := range 20 {
		old = append(old, fmt.Sprint(i))
	}
	new := slices.Clone(old)
	new[4], new[15] = "four", "fifteen"
	got := lineDiff("v1", "v2", strings.Join(old, "\n")+"\n", strings.Join(new, "\n")+"\n")
	want := "--- v1\n+++ v2\n@@ -2,7 +2,7 @@\n 1\n 2\n 3\n-4\n+four\n 5\n 6\n 7\n@@ -13,7 +13,7 @@\n 12\n 13\n 14\n-15\n+fifteen\n 16\n 17\n 18\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := lineDiff("a", "b", "", "x\n"); got != "--- a\n+++ b\n@@ -0,0 +1,1 @@\n+x\n" {
		t.Errorf("%q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 12)
		old, new := text.Draw(t, "old"), text.Draw(t, "new")
		var was, is []string
		for _, e := range diffLines(old, new) {
			if inOld(e) == 1 {
				was = append(was, e.line)
			}
			if inNew(e) == 1 {
				is = append(is, e.line)
			}
		}
		if !slices.Equal(was, old) || !slices.Equal(is, new) {
			t.Fatalf("%v and %v out of %v and %v", was, is, old, new)
		}
	})
}
