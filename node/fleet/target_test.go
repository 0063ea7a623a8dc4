package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func member(name string, tags ...string) Member {
	m := Member{ID: Sum([]byte(name)), Name: name, Role: Plain, Tags: map[string]string{}}
	for _, t := range tags {
		k, v, _ := strings.Cut(t, "=")
		m.Tags[k] = v
	}
	return m
}

// fleetOfSix is what the tables select from.
func fleetOfSix() []Member {
	all := []Member{
		member("web01", "role=web", "env=prod"),
		member("web02", "role=web", "env=test", "owner="),
		member("web13", "role=web", "env=prod"),
		member("db1", "role=db", "env=prod", "app/tier=back end"),
		member("in", "role=odd"),
		member("cold"),
	}
	for i := range 4 {
		all[i].Facts = Facts{OS: "debian", OSVersion: "12", Arch: "amd64", Version: "1.0.0"}
	}
	all[3].Facts.OS, all[3].Facts.Arch, all[3].Role = "rocky", "arm64", Voter
	return all
}

func selected(t Target, members []Member) string {
	var names []string
	for i := range members {
		if t.Match(&members[i]) {
			names = append(names, members[i].Name)
		}
	}
	return strings.Join(names, " ")
}

func TestTargetSelects(t *testing.T) {
	id := Sum([]byte("web13"))
	for _, c := range []struct{ text, want string }{
		{"*", "web01 web02 web13 db1 in cold"},
		{"all", "web01 web02 web13 db1 in cold"},
		{"not all", ""},
		{"tag.role=web and os.name=debian and not web13", "web01 web02"},
		{"tag.env != prod", "web02"}, // cold and in have no tag.env
		{"not tag.env=prod", "web02 in cold"},
		{"tag.env not in (prod, test)", ""},
		{"tag.role in (db, odd)", "db1 in"},
		{"tag.role in (w*, od?)", "web01 web02 web13 in"},
		{"tag.role='w*'", ""},
		{`tag.role="web"`, "web01 web02 web13"},
		{"tag.owner=*", "web02"},
		{`tag.owner=""`, "web02"},
		{`tag.app/tier="back end"`, "db1"},
		{"web*", "web01 web02 web13"},
		{"web?2", "web02"},
		{"web[01-12]", "web01 web02"},
		{"web[01,13],db1", "web01 web13 db1"},
		{"web01, db*", "web01 db1"},
		{`"in"`, "in"},
		{"name=in*", "in"},
		{"id=" + id.String(), "web13"},
		{"id=" + id.Text(), "web13"},
		{"id=" + id.String()[:6] + "*", "web13"},
		{id.String()[:8], "web13"},
		{id.Text(), "web13"},
		{id.String()[:3], ""}, // too short to be an ID
		{"arch=arm64 or web01 and tag.env=test", "db1"},
		{"(arch=arm64 or web01) and tag.env=prod", "web01 db1"},
		{"NOT (tag.env=prod OR cold) AND name!='in'", "web02"},
		{"role=voter", "db1"},
		{"os.name!=debian", "db1"}, // no facts from in and cold
		{"os.version=12 and version=1.*", "web01 web02 web13 db1"},
		{"Key=tag:role,Values=web,db", "web01 web02 web13 db1"},
		{"Key=tag:role,Values=web and Key=tag:env,Values=prod", "web01 web13"},
		{"Key=InstanceIds,Values=web01," + id.String(), "web01 web13"},
		{"Key=tag-key,Values=owner", "web02"},
		{"Key=tag-key,Values=owner,app/tier", "web02 db1"},
		{"Key=tag:role,Values=w*", ""},
		{"@nobody", ""},
	} {
		target, err := ParseTarget(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := selected(target, fleetOfSix()); got != c.want {
			t.Errorf("%s selects %q, want %q", c.text, got, c.want)
		}
		again, err := ParseTarget(target.String())
		if err != nil || again.String() != target.String() {
			t.Errorf("%s is written %q, which reads back as %q, %v", c.text, target, again, err)
		}
	}
}

func TestTargetCanonical(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{" all ", "*"},
		{"((a))or(b)", "a or b"},
		{"a and (b and c)", "a and b and c"},
		{"a and (b or c)", "a and (b or c)"},
		{"not (a or b)", "not (a or b)"},
		{"not not a", "not not a"},
		{"b, a ,a", "a,b"},
		{"tag.k in ('x')", "tag.k=x"},
		{"tag.k NOT IN (x,'*')", `tag.k not in (x, "*")`},
		{"tag.k='it\"s'", `tag.k="it\"s"`},
		{"tag.k='and'", `tag.k="and"`},
		{`"all"`, `"all"`},
		{`"web01"`, "web01"},
		{"@canary or @early", "@canary or @early"},
		{"Key=tag:a,Values=b,c", "tag.a in (b, c)"},
		{"Key=tag-key,Values=a", "tag.a=*"},
	} {
		target, err := ParseTarget(c.text)
		if err != nil || target.String() != c.want {
			t.Errorf("%s is written %q, %v; want %q", c.text, target, err, c.want)
		}
	}
}

func TestTargetFaults(t *testing.T) {
	for _, c := range []struct{ text, want, hint string }{
		{"", "expected a target at column 1", "--all"},
		{"tag.role=", "expected a value at column 10", ""},
		{"tag.role==web", "unexpected == at column 9", "use ="},
		{"a && b", "unexpected & at column 3", "use and"},
		{"a || b", "unexpected | at column 3", "use or"},
		{"!a", "unexpected ! at column 1", "use not"},
		{"tag.role", "expected = or in after tag.role at column 9", "tag.role=VALUE"},
		{"os.nme=debian", "unknown key os.nme at column 1", "os.name"},
		{"env=prod", "unknown key env at column 1", "tag.env"},
		{"tag:env=prod", "unknown key tag:env at column 1", "tag.env"},
		{"role=web", "role is one of node, spare, voter, leader at column 1", "tag.role=web"},
		{"a b", "expected and or or at column 3", "commas"},
		{"a and", "expected a node's name or key=value at column 6", ""},
		{"and a", "expected a node's name or key=value before and at column 1", ""},
		{"(a or b", "( without ) at column 1", ""},
		{"a)", ") without ( at column 2", ""},
		{"web[01-20", "[ without ] at column 4", "web[01-20,25]"},
		{"web[20-1]", "counts down", ""},
		{"web[1-99999]", "more than 10000 nodes", ""},
		{"web[1-2]*", "a nodeset with a wildcard at column 1", "apart"},
		{"tag.x=a,b", "unexpected comma at column 8", "in (a, b)"},
		{"tag.x in a", "expected ( after in at column 10", "in (a, b)"},
		{"tag.x in (a b)", "expected a comma or ) at column 13", ""},
		{"tag.x = and", "expected a value at column 9", "quotes"},
		{"tag.x='a", "a quote that does not end at column 7", ""},
		{"Web01", "not a node's name at column 1", "web01"},
		{"@Bad!", "unexpected ! at column 5", ""},
		{"@", "expected a group's name after @ at column 1", ""},
		{"Key=tag:role", "expected ,Values= at column 13", "Key=tag:role,Values=web,db"},
		{"Key=foo,Values=a", "expected tag:K, tag-key or InstanceIds", ""},
		{"tag.é=1", "expected a tag's key", ""},
		{"é ü=", "not a node's name at column 1", ""},
		{strings.Repeat("not ", 40) + "a", "nested too deep", ""},
		{strings.Repeat("(", 40) + "a", "nested too deep", ""},
		{strings.Repeat("a", MaxTarget+1), "4097 bytes", ""},
		{strings.Repeat("web[1-6000],", 2) + "a", "more than 10000 nodes", ""},
		{"a\xff", "not UTF-8", ""},
	} {
		_, err := ParseTarget(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", clip(c.text), err, c.want)
			continue
		}
		if e, ok := err.(*Error); !ok || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%q: hint of %#v, want %q", clip(c.text), err, c.hint)
		}
	}
}

func TestTargetFaultPointsAtThePlace(t *testing.T) {
	_, err := ParseTarget("tag.role=web and\ttag.env==prod")
	want := "target: unexpected == at column 25\n  tag.role=web and tag.env==prod\n                          ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	long := strings.Repeat("web01 or ", 50) + "tag.x=="
	_, err = ParseTarget(long)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || len([]rune(lines[1])) > 130 || []rune(lines[1])[len([]rune(lines[2]))-1] != '=' {
		t.Errorf("the mark misses its place:\n%v", err)
	}
}

func TestTargetUsesFactsAndGroups(t *testing.T) {
	for text, want := range map[string]bool{
		"tag.a=b": false, "role=voter": false, "name=a": false, "os.name=a": true, "not (a or arch=b)": true,
		"version=1": true, "os.version=1": true, "tag.os.name=a": false,
	} {
		target, err := ParseTarget(text)
		if err != nil || target.UsesFacts() != want {
			t.Errorf("%s uses facts: %v, %v; want %v", text, target.UsesFacts(), err, want)
		}
	}
	target, err := ParseTarget("@b or not (@a and @b)")
	if err != nil || !slices.Equal(target.Groups(), []string{"a", "b"}) {
		t.Errorf("groups %v, %v", target.Groups(), err)
	}
}

func TestTargetResolve(t *testing.T) {
	groups := map[string]string{
		"web": "tag.role=web", "prod": "@web and tag.env=prod", "loop": "@loop2", "loop2": "a or @loop", "lost": "@nowhere",
		"d0": "web[01-02] or db1",
	}
	for i := range 20 {
		groups[fmt.Sprintf("d%d", i+1)] = fmt.Sprintf("(@d%d and a) or (@d%d and b)", i, i)
	}
	lookup := func(name string) (Target, bool) {
		text, ok := groups[name]
		if !ok {
			return Target{}, false
		}
		target, err := ParseTarget(text)
		return target, err == nil
	}
	for _, c := range []struct{ text, want, fault string }{
		{"web01", "web01", ""},
		{"@prod", "tag.role=web and tag.env=prod", ""},
		{"not @prod or cold", "not (tag.role=web and tag.env=prod) or cold", ""},
		{"@prod and not web13", "tag.role=web and tag.env=prod and not web13", ""},
		{"@loop", "", "group @loop holds itself"},
		{"cold or @lost", "", "no group @nowhere"},
		{"@d20", "", "longer than"},
	} {
		target, err := ParseTarget(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := target.Resolve(lookup)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: %v, want %q", c.text, err, c.fault)
			}
			continue
		}
		if err != nil || got.String() != c.want || len(got.Groups()) != 0 {
			t.Errorf("%s resolves to %q, %v; want %q", c.text, got, err, c.want)
		}
	}
}

func TestTargetInJSON(t *testing.T) {
	target, _ := ParseTarget("tag.a=b")
	raw, err := json.Marshal(target)
	var back Target
	if err != nil || json.Unmarshal(raw, &back) != nil || !back.Equal(target) {
		t.Errorf("%s became %v, %v", raw, back, err)
	}
	var zero Target
	m := member("a")
	if zero.Match(&m) || !zero.IsZero() || zero.String() != "" {
		t.Error("the zero target must select nothing")
	}
	whole := All()
	if !whole.Match(&m) {
		t.Error("All must select all")
	}
}

// TestTargetHostileGlob holds the promise that no pattern costs more than pattern times text.
func TestTargetHostileGlob(t *testing.T) {
	m := member("a", "k="+strings.Repeat("a", 256))
	target, err := ParseTarget("tag.k=" + strings.Repeat("*a", 1500) + "b")
	if err != nil || target.Match(&m) {
		t.Error(err)
	}
}

func drawNode(t *rapid.T, depth int) node {
	word := rapid.SampledFrom([]string{"web01", "db1", "in", "all", "x-1", "web13", "name"})
	free := rapid.StringMatching(`[a-zA-Z0-9*? "'\\.=,äß-]{0,6}`)
	top := 7
	if depth == 0 {
		top = 3
	}
	switch rapid.IntRange(0, top).Draw(t, "kind") {
	case 0:
		return everyNode{}
	case 1:
		return groupNode{rapid.SampledFrom([]string{"canary", "early"}).Draw(t, "group")}
	case 2:
		words := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(word, 1, 3).Draw(t, "words"))))
		var n namesNode
		for _, w := range words {
			n.items = append(n.items, item{text: w})
		}
		return n
	case 3:
		n := testNode{
			key:    rapid.SampledFrom([]string{"tag.role", "tag.a/b:c", "name", "os.name", "arch"}).Draw(t, "key"),
			negate: rapid.Bool().Draw(t, "negate"),
		}
		for range rapid.IntRange(1, 3).Draw(t, "values") {
			text := free.Draw(t, "value")
			n.values = append(n.values, value{text, hasGlob(text) && plainWord(text) && rapid.Bool().Draw(t, "glob")})
		}
		return n
	case 4:
		return notNode{drawNode(t, depth-1)}
	case 5:
		return joinAnd([]node{drawNode(t, depth-1), drawNode(t, depth-1)})
	default:
		return joinOr([]node{drawNode(t, depth-1), drawNode(t, depth-1)})
	}
}

// TestTargetRoundTrip: what String writes, ParseTarget reads back to the same tree, whatever the tree.
func TestTargetRoundTrip(t *testing.T) {
	members := fleetOfSix()
	rapid.Check(t, func(t *rapid.T) {
		want := newTarget(drawNode(t, 4))
		got, err := ParseTarget(want.String())
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if got.String() != want.String() || selected(got, members) != selected(want, members) {
			t.Fatalf("%s read back as %s", want, got)
		}
	})
}

// TestTargetLogic: not, and, or mean what they say.
func TestTargetLogic(t *testing.T) {
	members := fleetOfSix()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawNode(t, 3), drawNode(t, 3)
		for i := range members {
			m := &members[i]
			and, or, not := joinAnd([]node{a, b}).match(m), joinOr([]node{a, b}).match(m), notNode{a}.match(m)
			if and != (a.match(m) && b.match(m)) || or != (a.match(m) || b.match(m)) || not == a.match(m) {
				t.Fatalf("%s with %s and %s", m.Name, newTarget(a), newTarget(b))
			}
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"tag.role=web and os.name=debian and not web13", "web[01-20],db*", "web[1-3,7]", "@canary or *", "a not in (b)",
		"Key=tag:role,Values=web,db and Key=InstanceIds,Values=web01", `tag.x not in ("a b", 'c', d*)`, "((((a))))", "a,,b", "00[00000],*",
		"not not not (x or y)", "tag.a!=\"\\\"\"", "web[0-9][0-9]", "\x00", "é=1", "tag.a in (~*)", `tag.a="~b"`, "Key=tag-key,Values=a,b",
	} {
		f.Add(seed)
	}
	members := fleetOfSix()
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatalf("an error not for people: %#v", err)
			}
			return
		}
		again, err := ParseTarget(target.String())
		if err != nil || again.String() != target.String() || selected(again, members) != selected(target, members) {
			t.Fatalf("%q is written %q, read back as %q, %v", text, target, again, err)
		}
		target.UsesFacts()
		whole, err := target.Resolve(func(string) (Target, bool) { return target, len(target.Groups()) == 0 })
		if err == nil && (len(whole.Groups()) > 0 || len(whole.String()) > MaxTarget) || len(target.String()) > MaxTarget {
			t.Fatalf("%d bytes of target, %d with its groups", len(target.String()), len(whole.String()))
		}
	})
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"?", "", false}, {"a*b", "ab", true}, {"a*b", "axxb", true}, {"a*b", "axxc", false},
		{"*a*a*", "aa", true}, {"?", "é", true}, {"??", "é", false}, {"*é", "caé", true}, {"a", "ab", false}, {"a*", "b", false},
	} {
		if got := MatchGlob(c.pattern, c.text); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.text, got)
		}
	}
}

func BenchmarkMatch10000(b *testing.B) {
	members := make([]Member, 10_000)
	for i := range members {
		members[i] = member(fmt.Sprintf("web%05d", i), "role=web", "env=prod")
		members[i].Facts.OS = "debian"
	}
	target, err := ParseTarget("tag.role=web and os.name=deb* and not web[00001-00100] and tag.env in (test, prod)")
	if err != nil {
		b.Fatal(err)
	}
	view := NewView(members)
	b.ReportAllocs()
	for b.Loop() {
		if n := len(view.Select(target)); n != 9_900 {
			b.Fatal(n)
		}
	}
}

func TestTargetWithIDs(t *testing.T) {
	members := []*Member{
		{Name: "web01", ID: Sum([]byte("1"))}, {Name: "web02", ID: Sum([]byte("2"))}, {Name: "db01", ID: Sum([]byte("3")), Tags: map[string]string{"role": "db"}},
	}
	one := Sum([]byte("1")).Text()[:ScreenLen]
	for text, want := range map[string]string{
		"web01": "id=" + one, "name=web01": "id=" + one, "web[01-02]": "id in (", "tag.role=db": "tag.role=db", "*": "*",
		"tag.role=db or not web01": "not id=" + one, "id=" + one: "id=" + one, "web09": "", "web01 and web09": "",
	} {
		target, err := ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := target.WithIDs(members)
		if want == "" && err == nil || want != "" && (err != nil || !strings.Contains(got.String(), want) || slices.Contains(got.Keys(), "name")) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		for _, m := range members {
			if err == nil && got.Match(m) != target.Match(m) {
				t.Errorf("%s selects %s, and %s does not, or the other way round", text, m.Name, got)
			}
		}
	}
	for text, want := range map[string]string{"web01 or tag.a=b": "name tag.a", "id=abcdefgh": "id name", "id=" + one: "id", "os.name=debian and role=voter": "os.name role", "*": ""} {
		target, err := ParseTarget(text)
		if got := strings.Join(target.Keys(), " "); err != nil || got != want {
			t.Errorf("%s decides by %q, not %q (%v)", text, got, want, err)
		}
	}
}
