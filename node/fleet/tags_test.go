package fleet

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/muster-fleet/muster/testnet/hostile"
)

func TestCheckTags(t *testing.T) {
	for _, value := range []string{"", "web", "a b", "Grüße, 世界", "e\u0301", "שלום", "🚀", strings.Repeat("x", MaxTagValue), "\ufffd"} {
		if err := CheckTags(map[string]string{"k": value}); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
	for name, value := range map[string]string{
		"too long": strings.Repeat("x", MaxTagValue+1), "a new line": "a\nb", "a tab": "a\tb", "zero": "\x00", "escape": "\x1b[31m", "delete": "\x7f",
		"no UTF-8": "a\xff", "half a character": "\xe2\x82", "a surrogate": "\xed\xa0\x80", "CSI of C1": "\u009b31m", "next line of C1": "\u0085",
		"right to left override": "\u202egnp.exe", "an isolate": "\u2066a\u2069", "a left-to-right mark": "\u200e", "an Arabic letter mark": "\u061c",
		"zero width": "we\u200bb", "a joiner": "a\u200db", "a byte order mark": "\ufeffweb", "a soft hyphen": "we\u00adb", "a line separator": "\u2028",
		"a tag character": "\U000e0041", "a Hangul filler": "\u3164", "a variation selector": "a\ufe0f",
	} {
		if err := CheckTags(map[string]string{"k": value}); KindOf(err) != Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, key := range []string{"role", "a/b:c", "A.b_c-d", "0", strings.Repeat("k", 128)} {
		if err := CheckTags(map[string]string{key: "v"}); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", " ", "-a", "é", "a\n", "a\x00", strings.Repeat("k", 129)} {
		if err := CheckTags(map[string]string{key: "v"}); KindOf(err) != Invalid {
			t.Errorf("%q: %v", key, err)
		}
	}
	many := map[string]string{}
	for i := range MaxTags + 1 {
		many[fmt.Sprint(i)] = ""
	}
	if err := CheckTags(many); KindOf(err) != Exhausted {
		t.Errorf("%d tags: %v", len(many), err)
	}
}

// What passes is one line of text that shows as it is, and a target can name it.
func FuzzCheckTags(f *testing.F) {
	f.Add("role", "web")
	f.Add("a/b:c", "Grüße, 世界 🚀")
	f.Add("k", "a\u202eb")
	f.Add("k", "\u009b31m")
	f.Add("k", "a\xff")
	f.Add("k", `"quoted" \ 'text' * ?`)
	f.Add("k", "~")
	f.Add("k", "=~x")
	f.Fuzz(func(t *testing.T, key, text string) {
		err := CheckTags(map[string]string{key: text})
		if err != nil {
			if len(err.Error()) > 8*(len(key)+len(text))+200 || !utf8.ValidString(err.Error()) {
				t.Fatalf("a refusal of %d bytes: %q", len(err.Error()), err)
			}
			return
		}
		for _, part := range []string{key, text} {
			if !utf8.ValidString(part) || strings.ContainsFunc(part, unseen) {
				t.Fatalf("%q may be in a tag", part)
			}
		}
		target := newTarget(testNode{key: "tag." + key, values: []value{{text: text}}})
		parsed, err := ParseTarget(target.String())
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if m := (Member{Tags: map[string]string{key: text}}); !parsed.Match(&m) {
			t.Fatalf("%s does not select %+v", parsed, m.Tags)
		}
	})
}

// A glob is matched as its definition says, and in steps that the text and the pattern bound.
func FuzzGlob(f *testing.F) {
	for _, c := range [][2]string{{"*", ""}, {"a*b?c", "axxbyc"}, {"*a*a*a*b", "aaaaaaaaaaaaaaaa"}, {"??", "é\xff"}, {"[a]", "a"}, {"", "a"}} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 64 || len(text) > 256 || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			if MatchGlob(pattern, text) && pattern == "" && text != "" {
				t.Fatalf("nothing matches %q", text)
			}
			return
		}
		if got, want := MatchGlob(pattern, text), globByTable([]rune(pattern), []rune(text)); got != want {
			t.Fatalf("%q on %q: %v", pattern, text, got)
		}
	})
}

// globByTable says the same as MatchGlob, slowly: row i holds which beginnings of text the first i of pattern match.
func globByTable(pattern, text []rune) bool {
	row := make([]bool, len(text)+1)
	row[0] = true
	for _, p := range pattern {
		next := make([]bool, len(text)+1)
		for j := range next {
			switch {
			case p == '*':
				next[j] = row[j] || (j > 0 && next[j-1])
			case j > 0:
				next[j] = row[j-1] && (p == '?' || p == text[j-1])
			}
		}
		row = next
	}
	return row[len(text)]
}

// TestMemory: a target or nodeset costs no more than the names that it may stand for, whatever it says.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	texts := func(yield func(string, []byte) bool) {
		for name, text := range map[string]string{
			"open parentheses": strings.Repeat("(", MaxTarget), "nots": strings.Repeat("not ", MaxTarget/4), "ors": strings.Repeat("a or ", MaxTarget/5) + "a",
			"commas": strings.Repeat("a,", MaxTarget/2), "ranges": strings.Repeat("w[1-9999],", MaxTarget/10) + "a", "product": "w" + strings.Repeat("[0-9]", 800),
			"one range": "w[0-999999999]", "long": strings.Repeat("x", 1<<20), "globs": strings.Repeat("*?", MaxTarget/2), "groups": strings.Repeat("@a or ", MaxTarget/6) + "a",
			"values": "a in (" + strings.Repeat("b,", MaxTarget/2-8) + "b)", "quotes": strings.Repeat(`"`, MaxTarget), "brackets": strings.Repeat("[", MaxTarget),
			"widths": "w[000000001-000009999]", "padded": strings.Repeat("w[1,01,001],", MaxTarget/12) + "w", "commas alone": strings.Repeat(",", 1<<16),
		} {
			if !yield(name, []byte(text)) {
				return
			}
		}
	}
	// 10,000 names of up to 63 bytes with their set, thrice for what grows.
	bound := hostile.Bound{Base: 10 << 20, PerByte: 64}
	hostile.Check(t, bound, func(in []byte) { _, _ = ParseTarget(string(in)) }, hostile.Join(texts, hostile.Corpus(t, "FuzzParseTarget")))
	hostile.Check(t, bound, func(in []byte) { _, _ = Expand(string(in)) }, hostile.Join(texts, hostile.Corpus(t, "FuzzExpand")))
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 32}, func(in []byte) { _ = CheckTags(map[string]string{string(in): string(in)}) },
		hostile.Join(hostile.Inputs(4096), hostile.Corpus(t, "FuzzCheckTags")))
}
