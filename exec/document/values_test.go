package document

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const typed = `schemaVersion: "2.2"
parameters:
  s: {type: String, minChars: 1, maxChars: 20}
  i: {type: Integer, default: 5}
  b: {type: Boolean, default: false}
  l: {type: StringList, default: [], maxItems: 4, allowedPattern: "^[^x]*$"}
  m: {type: StringMap, default: {}}
  ms: {type: MapList, default: []}
mainSteps:
- {name: a, action: aws:runShellScript, inputs: {runCommand: [ls]}}
`

func TestArgumentsAsPeopleTypeThem(t *testing.T) {
	d := parsed(t, typed)
	for _, c := range []struct {
		words []string
		want  string // name=JSON, or what the error says
	}{
		{[]string{"s=a=b c"}, `s="a=b c"`},
		{[]string{"s=<&>\"é\n"}, `s="<&>\"é\n"`},
		{[]string{"s=5"}, `s="5"`},
		{[]string{"i=-7"}, `i=-7`},
		{[]string{"i=7.0"}, `i=7`},
		{[]string{"b=True"}, `b=true`},
		{[]string{"l=a,b"}, `l=["a,b"]`},
		{[]string{`l=["a","b"]`, "l=c"}, `l=["a","b","c"]`},
		{[]string{"l=[ -f x ]"}, `l=["[ -f x ]"]`},
		{[]string{`m={"b": 1.50, "a": [true, null, "x"]}`}, `m={"a":[true,null,"x"],"b":1.50}`},
		{[]string{`ms=[{"a":"b"}]`}, `ms=[{"a":"b"}]`},
		{[]string{"s"}, "not NAME=VALUE"},
		{[]string{"t=1"}, `no parameter "t"`},
		{[]string{"s=1", "s=2"}, "given twice"},
		{[]string{"i=x"}, "whole number"},
		{[]string{"b=yes"}, "true or false"},
		{[]string{"m=x"}, "a map is wanted"},
		{[]string{"s=\xff"}, "UTF-8"},
		{[]string{"s={{ ssm:/a/x:3 }}"}, `s="{{ ssm:/a/x:3 }}"`},
		{[]string{"s={{ssm-secure:/x}}"}, `s="{{ ssm-secure:x }}"`},
		{[]string{"i={{ ssm:x }}"}, `i="{{ ssm:x }}"`},
		{[]string{"l={{ ssm:x:label }}"}, `l="{{ ssm:x:label }}"`},
		{[]string{`l=["a","{{ ssm:x }}"]`}, `l=["a","{{ ssm:x }}"]`},
		{[]string{"s=a {{ ssm:x }}"}, "one reference to the store, or none"},
		{[]string{"l=a {{ ssm:x }}"}, "one reference to the store, or none"},
		{[]string{"m={{ ssm:x }}1"}, "one reference to the store, or none"},
		{[]string{"s={{ ssm:x:1:2 }}"}, "is no parameter"},
		{[]string{"s={{ ssm:a/b }}"}, "is no parameter"},
		{[]string{"s={{ ssm: }}"}, "is no parameter"},
	} {
		args, err := d.ParseArguments(c.words)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = args[0].Name + "=" + args[0].Value
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%q: %s, wanted %s", c.words, got, c.want)
		}
	}
}

func TestCompleteChecksAndAddsDefaults(t *testing.T) {
	d := parsed(t, typed)
	v, err := d.Complete([]Argument{{"s", `"x"`}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Argument{{"b", "false"}, {"i", "5"}, {"l", "[]"}, {"m", "{}"}, {"ms", "[]"}, {"s", `"x"`}}
	if got := v.Arguments(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		args []Argument
		want string
	}{
		{nil, "missing: s"},
		{[]Argument{{"s", `"x"`}, {"s", `"x"`}}, "given twice"},
		{[]Argument{{"t", `"x"`}}, `no parameter "t"`},
		{[]Argument{{"s", `""`}}, "at least 1"},
		{[]Argument{{"s", `"` + strings.Repeat("é", 21) + `"`}}, "at most 20"},
		{[]Argument{{"s", `"a\u0000"`}}, "zero byte"},
		{[]Argument{{"s", `"x"`}, {"m", `{"a":"\u0000"}`}}, "zero byte"},
		{[]Argument{{"s", `x`}}, "not JSON"},
		{[]Argument{{"s", `["x"]`}}, "a text is wanted"},
		{[]Argument{{"s", `null`}}, "a text is wanted"},
		{[]Argument{{"s", `"a" "b"`}}, "after the end"},
		{[]Argument{{"s", `"x"`}, {"l", `["a","b","c","d","e"]`}}, "at most 4"},
		{[]Argument{{"s", `"x"`}, {"l", `["a","x"]`}}, "does not match"},
		{[]Argument{{"s", `"x"`}, {"l", `[["a"]]`}}, "list of texts"},
		{[]Argument{{"s", `"x"`}, {"i", `1.5`}}, "whole number"},
		{[]Argument{{"s", `"x"`}, {"m", `{"a":1,"a":2}`}}, "twice"},
		{[]Argument{{"s", `"x"`}, {"m", strings.Repeat(`{"a":`, 30) + "1" + strings.Repeat("}", 30)}}, "nested deeper"},
		{[]Argument{{"s", `"x"`}, {"m", `{"a":"` + strings.Repeat("x", MaxValues) + `"}`}}, "more than"},
	} {
		if _, err := d.Complete(c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.100v: %v, wanted %s", c.args, err, c.want)
		}
	}
}

// TestWhatIsSignedIsComplete: the values that are signed come to the same values on the host, and the same plan.
func TestWhatIsSignedIsComplete(t *testing.T) {
	d := parsed(t, typed)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[^x\x00]{1,20}`)
		given := Values{of: map[string]any{
			"s": text.Draw(t, "s"), "i": rapid.Int64().Draw(t, "i"), "b": rapid.Bool().Draw(t, "b"), "l": rapid.SliceOfN(text, 0, 4).Draw(t, "l"),
		}}
		v, err := d.Complete(given.Arguments())
		if err != nil {
			t.Fatalf("%v: %v", given, err)
		}
		again, err := d.Complete(v.Arguments())
		if err != nil || !slices.Equal(again.Arguments(), v.Arguments()) {
			t.Fatalf("%v, %v: %v", v.Arguments(), again.Arguments(), err)
		}
		if v.of["s"] != given.of["s"] || v.of["i"] != given.of["i"] {
			t.Fatalf("%v became %v", given, v)
		}
	})
}
