package params

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestCanonicalName(t *testing.T) {
	deep := strings.Repeat("/a", MaxDepth)
	for text, want := range map[string]string{
		"P": "P", "/P": "P", " P ": "P", "\t/a/b\n": "/a/b", "/a/b": "/a/b", "a.b-c_D9": "a.b-c_D9", "/A/b": "/A/b", deep: deep,
		"/my/aws": "/my/aws", "xssm": "xssm", "/./..": "/./..", strings.Repeat("a", MaxName): strings.Repeat("a", MaxName), "aw": "aw",
	} {
		if got, err := CanonicalName(text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "ValidationException", "  ": "ValidationException", "/": "ValidationException", "a/b": "must begin with a slash", "/a//b": "without a name", "/a/": "without a name", "//a": "without a name",
		"a b": "only letters", "a:b": "only letters", "ä": "only letters", "a\x00b": "only letters", "{{a}}": "only letters",
		"aws": "aws or ssm", "/aws/x": "aws or ssm", "AWSthing": "aws or ssm", "/SsM.x/y": "aws or ssm", "ssmx": "aws or ssm",
		deep + "/a": "HierarchyLevelLimitExceededException", strings.Repeat("a", MaxName+1): "at most 1011",
	} {
		_, err := CanonicalName(text)
		wants(t, text, err, fleet.Invalid, want)
	}
}

func TestCheckPath(t *testing.T) {
	for text, want := range map[string]string{"/": "/", "/a": "/a", "/a/": "/a", "/a/b/": "/a/b", " /a ": "/a", "/aws": "/aws"} {
		if got, err := CheckPath(text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a", "a/b", "//", "/a//b", "/a b", "/a/*", strings.Repeat("/a", MaxDepth+1), "/" + strings.Repeat("a", MaxName)} {
		if got, err := CheckPath(text); err == nil {
			t.Errorf("%q is path %q", text, got)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		path, name           string
		recursive, want, all bool
	}{
		{"/", "P", false, true, true}, {"/", "/a/b", false, false, true}, {"/a", "/a/b", false, true, true}, {"/a", "/a/b/c", false, false, true},
		{"/a", "/ab/c", false, false, false}, {"/a", "a", false, false, false}, {"/a/b", "/a/b", false, false, false}, {"/a", "/A/b", false, false, false},
	} {
		if got := Below(c.path, c.name, false); got != c.want {
			t.Errorf("%s directly below %s: %v", c.name, c.path, got)
		}
		if got := Below(c.path, c.name, true); got != c.all {
			t.Errorf("%s below %s: %v", c.name, c.path, got)
		}
	}
}

func TestCheckLabel(t *testing.T) {
	for _, good := range []string{"a", "prod", "A_b.c-9", "_x", "-x", ".x", strings.Repeat("a", MaxLabel), "myaws"} {
		if err := CheckLabel(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "1a", "9", "a b", "a:b", "a/b", "ä", "aws", "AWSx", "ssm-1", "SSM", strings.Repeat("a", MaxLabel+1)} {
		wants(t, bad, CheckLabel(bad), fleet.Invalid, "InvalidLabels")
	}
}

func TestParseSelector(t *testing.T) {
	for text, want := range map[string]Selector{
		"/a/b": {Name: "/a/b"}, "/P": {Name: "P"}, "P:3": {Name: "P", Version: 3}, " P:prod ": {Name: "P", Label: "prod"}, "P:4294967295": {Name: "P", Version: 1<<32 - 1},
	} {
		got, err := ParseSelector(text)
		if err != nil || got != want || got.Check() != nil {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
		if again, err := ParseSelector(got.String()); err != nil || again != got {
			t.Errorf("%q is printed as %q, which is %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]struct {
		kind fleet.Kind
		text string
	}{
		"P:2:3": {fleet.NotFound, "ParameterNotFound"}, "P:": {fleet.Invalid, "ValidationException"}, ":3": {fleet.Invalid, "ValidationException"}, "P:0": {fleet.NotFound, "ParameterVersionNotFound"},
		"P:4294967296": {fleet.NotFound, "ParameterVersionNotFound"}, "P:3a": {fleet.NotFound, "ParameterVersionNotFound"}, "P:03": {fleet.NotFound, "ParameterVersionNotFound"}, "P:aws": {fleet.Invalid, "InvalidLabels"},
		"P:$L": {fleet.Invalid, "InvalidLabels"}, "": {fleet.Invalid, "ValidationException"},
	} {
		_, err := ParseSelector(text)
		wants(t, text, err, want.kind, want.text)
	}
	for _, bad := range []Selector{{}, {Name: "/P"}, {Name: "P", Version: 1, Label: "a"}, {Name: "P", Label: "1"}, {Name: "a/b"}} {
		if bad.Check() == nil {
			t.Errorf("%+v can be asked for", bad)
		}
	}
}

func TestScope(t *testing.T) {
	for _, good := range []string{"/", "/a/", "/a/b/", "/a/b", "P"} {
		if err := CheckScope(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "//", "/P", "a/", "a/b", "/a//", " /a/", "/a b/"} {
		if CheckScope(bad) == nil {
			t.Errorf("%q is a scope", bad)
		}
	}
	for _, c := range []struct {
		scope string
		ask   Ask
		ok    bool
	}{
		{"/a/b", Ask{Get: []Selector{{Name: "/a/b", Version: 2}}}, true},
		{"/a/b", Ask{Get: []Selector{{Name: "/a/b"}, {Name: "/a/c"}}}, false},
		{"/a/b", Ask{History: []HistoryAsk{{Name: "/a/b"}}}, true},
		{"/a/b", Ask{Path: []PathAsk{{Path: "/a/b"}}}, false},
		{"/a/", Ask{Get: []Selector{{Name: "/a/b"}, {Name: "/a/c/d"}}}, true},
		{"/a/", Ask{Get: []Selector{{Name: "/ab"}}}, false},
		{"/a/", Ask{Path: []PathAsk{{Path: "/a", Recursive: true}}}, true},
		{"/a/", Ask{Path: []PathAsk{{Path: "/a/b"}}}, true},
		{"/a/", Ask{Path: []PathAsk{{Path: "/ab"}}}, false},
		{"/a/", Ask{Path: []PathAsk{{Path: "/"}}}, false},
		{"/a/", Ask{History: []HistoryAsk{{Name: "/b"}}}, false},
		{"/a/", Ask{List: []ListAsk{{}}}, false},
		{"/", Ask{List: []ListAsk{{}}}, true},
		{"/", Ask{Path: []PathAsk{{Path: "/"}}}, true},
		{"/", Ask{Get: []Selector{{Name: "P"}}}, true},
	} {
		if err := c.ask.Within(c.scope); (err == nil) != c.ok {
			t.Errorf("%+v within %s: %v", c.ask, c.scope, err)
		}
	}
}

func TestAskCheck(t *testing.T) {
	many := make([]Selector, MaxGet+1)
	for i := range many {
		many[i].Name = "P"
	}
	for _, good := range []Ask{
		{Get: many[:MaxGet]}, {Path: []PathAsk{{Path: "/", Max: MaxPage, After: "/a/b"}}}, {List: []ListAsk{{}}}, {History: []HistoryAsk{{Name: "P", After: 7}}, Values: true},
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Ask{
		{}, {Get: many}, {Get: many[:1], List: []ListAsk{{}}}, {List: []ListAsk{{}, {}}}, {Path: []PathAsk{{Path: "/a/"}}}, {Path: []PathAsk{{}}}, {Path: []PathAsk{{Path: "/", Max: MaxPage + 1}}},
		{List: []ListAsk{{Max: MaxPage + 1}}}, {List: []ListAsk{{After: "/P"}}}, {List: []ListAsk{{Filters: []Filter{{Key: "Label", Values: []string{"a"}}}}}}, {History: []HistoryAsk{{Name: "/P"}}},
		{History: []HistoryAsk{{Name: "P", Max: MaxPage + 1}}}, {Path: []PathAsk{{Path: "/", Filters: []Filter{{Key: "Name", Values: []string{"a"}}}}}}, {Get: []Selector{{Name: "a b"}}},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v can be asked", bad)
		}
	}
}
