package main

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// thing is something with fields, for tests.
type thing map[string]any

func (t thing) field(name string) (any, bool, error) {
	v, ok := t[name]
	return v, ok, nil
}

func testFunctions() map[string]templateFunction {
	f := plainFunctions()
	f["param"] = ofTexts(1, func(t []string) (any, error) {
		if t[0] == "/none" {
			return nil, fleet.Errorf(fleet.NotFound, "no %s", t[0]).Hinted("look")
		}
		return "<" + t[0] + ">", nil
	})
	f["below"] = ofTexts(1, func([]string) (any, error) {
		return []any{thing{"Key": "A", "Value": "1", "Secret": false}, thing{"Key": "B", "Value": "2", "Secret": true}}, nil
	})
	return f
}

func TestTemplatesMeanWhatTextTemplateMeans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{`a {{- /* note */ -}} b`, "ab"},
		{`{{ param "/x" }}`, "</x>"},
		{`{{ "/x" | param | quote }}`, `"</x>"`},
		{`{{ range below "/" }}{{ .Key }}={{ .Value }};{{ end }}`, "A=1;B=2;"},
		{`{{ range $i, $p := below "/" }}{{ $i }}{{ $p.Key }}{{ if $p.Secret }}!{{ end }}{{ end }}`, "0A1B!"},
		{`{{ range split "," "" }}[{{ . }}]{{ end }}`, "[]"},
		{`{{ range below "/" }}{{ if eq .Key "A" }}{{ continue }}{{ end }}{{ .Key }}{{ end }}`, "B"},
		{`{{ range below "/" }}{{ .Key }}{{ break }}{{ end }}`, "A"},
		{`{{ $x := "1" }}{{ range below "/" }}{{ $x = .Key }}{{ end }}{{ $x }}`, "B"},
		{`{{ $x := "1" }}{{ if true }}{{ $x := "2" }}{{ $x }}{{ end }}{{ $x }}`, "21"},
		{`{{ with param "/x" }}{{ . }}{{ else }}no{{ end }}`, "</x>"},
		{`{{ with "" }}{{ . }}{{ else }}no{{ end }}`, "no"},
		{`{{ if not (eq "a" "b") }}yes{{ else if true }}no{{ end }}`, "yes"},
		{`{{ if false }}a{{ else if ne "a" "b" }}b{{ end }}`, "b"},
		{`{{ printf "%s-%d" "a" 3 }}`, "a-3"},
		{`{{ true }} {{ 7 }}`, "true 7"},
	} {
		got, err := executeTemplate("t", c.text, testFunctions(), 1<<20)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.text, got, err, c.want)
		}
	}
}

func TestTemplatesSayWhereTheyAreWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, want string
		kind       fleet.Kind
	}{
		{"\n\n{{ param \"/none\" }}", "t:3: no /none", fleet.NotFound},
		{"{{ if true }}\n{{ range below \"/\" }}\n{{ param \"/none\" }}{{ end }}{{ end }}", "t:3: no /none", fleet.NotFound},
		{"a\n{{ parm }}", `t:2: function "parm" not defined`, fleet.Invalid},
		{"{{ if }}", "t:1: missing value for if", fleet.Invalid},
		{"{{ param }}", "t:1: param takes other arguments", fleet.Invalid},
		{"{{ below \"/\" }}", "t:1: that is no text", fleet.Invalid},
		{"{{ range \"x\" }}{{ end }}", "t:1: range goes over lists", fleet.Invalid},
		{"{{ .Key }}", "t:1: no .Key here", fleet.Invalid},
		{"{{ range below \"/\" }}{{ .Nothing }}{{ end }}", "t:1: no field .Nothing", fleet.Invalid},
		{"{{ define \"x\" }}{{ end }}", "define", fleet.Invalid},
		{"{{ template \"x\" }}", "is not understood", fleet.Invalid},
		{"{{ range split \",\" \"" + strings.Repeat(",", 40) + "\" }}" + strings.Repeat("0123456789", 1000) + "{{ end }}", "more than", fleet.Exhausted},
	} {
		_, err := executeTemplate("t", c.text, testFunctions(), 100_000)
		if err == nil || !strings.Contains(err.Error(), c.want) || fleet.KindOf(err) != c.kind {
			t.Errorf("%.60q: %v (%s); want %q (%s)", c.text, err, fleet.KindOf(err), c.want, c.kind)
		}
	}
}

func TestTemplatesComeToAnEnd(t *testing.T) {
	t.Parallel()
	inner := `{{ range split "," "` + strings.Repeat(",", 200) + `" }}`
	_, err := executeTemplate("t", strings.Repeat(inner, 4)+"{{ $x := 1 }}"+strings.Repeat("{{ end }}", 4), testFunctions(), 1<<20)
	if fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("1,600,000,000 turns: %v", err)
	}
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{`{{ range below "/" }}{{ .Key }}{{ end }}`, `{{ $x := param "/x" | quote }}{{ if $x }}{{ $x }}{{ end }}`, `{{ (below "/").X.Y }}`, `{{ . }}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := executeTemplate("t", text, testFunctions(), 1<<16)
		if err == nil && len(out) > 1<<16 {
			t.Errorf("%d bytes", len(out))
		}
	})
}
