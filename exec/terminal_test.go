package exec_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"plain\n\ttext\n": "plain\n\ttext\n",
		"grüße, 世界, שלום, नमस्ते, e\u0301 🎉": "grüße, 世界, שלום, नमस्ते, e\u0301 🎉",
		`back\slash \x1b`:               `back\slash \x1b`,
		"\x1b[31mred\x1b[0m":            `\x1b[31mred\x1b[0m`,
		"\x1b]0;title\a":                `\x1b]0;title\x07`,
		"\x1b]52;c;cm0gLXJm\x1b\\":      `\x1b]52;c;cm0gLXJm\x1b\`,
		"one\rtwo":                      `one\x0dtwo`,
		"dos\r\n":                       "dos\\x0d\n",
		"a\bb\x00c\x7fd\v\f":            `a\x08b\x00c\x7fd\x0b\x0c`,
		"c1 \u0085 \u009b31m":           `c1 \u0085 \u009b31m`,
		"bare c1 \x9b31m":               `bare c1 \x9b31m`,
		"not utf-8 \xff\xc3(\xe2\x82":   `not utf-8 \xff\xc3(\xe2\x82`,
		"surrogate \xed\xa0\x80":        `surrogate \xed\xa0\x80`,
		"overlong \xc0\x9b":             `overlong \xc0\x9b`,
		"bidi \u202eevil\u202c \u2066x": `bidi \u202eevil\u202c \u2066x`,
		"marks \u200e\u200f\u061c":      `marks \u200e\u200f\u061c`,
		"zero\u200bwidth\ufeff\u00ad":   `zero\u200bwidth\ufeff\u00ad`,
		"lines\u2028and\u2029more":      `lines\u2028and\u2029more`,
		"tag \U000e0041":                `tag \U000e0041`,
		"filler \u3164":                 `filler \u3164`,
		"replacement \ufffd itself":     "replacement \ufffd itself",
	} {
		if got := string(exec.Printable([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPrintableLeavesItsInputAlone(t *testing.T) {
	for _, in := range []string{"abc\xe2\x82", "ab\x1bc\xe2", "plain"} {
		backing := []byte(in + "behind")
		exec.Printable(backing[:len(in)])
		if string(backing) != in+"behind" {
			t.Errorf("%q became %q", in+"behind", backing)
		}
	}
	plain := []byte("plain")
	if got := exec.Printable(plain); &got[0] != &plain[0] {
		t.Error("plain text was copied")
	}
}

func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"plain\n\t", "\x1b[31m", "\u202e", "\xe2\x82\xac", "\xff\xc3(", "grüße\x9b", "a\xe2\x82"} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		before := bytes.Clone(in)
		got := exec.Printable(in)
		if !bytes.Equal(in, before) {
			t.Fatal("the input was changed")
		}
		if !utf8.Valid(got) {
			t.Fatalf("%q is no UTF-8", got)
		}
		for _, r := range string(got) {
			if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
				t.Fatalf("%q holds %U", got, r)
			}
		}
		if again := exec.Printable(got); !bytes.Equal(again, got) {
			t.Fatal("what is printable is not left as it is")
		}
		if len(got) > 10*len(in) {
			t.Fatalf("%d bytes became %d", len(in), len(got))
		}
		// In pieces, cut anywhere, it comes to the same.
		at = max(0, min(at, len(in)))
		var pieces strings.Builder
		shown, rest := exec.PrintablePart(in[:at])
		pieces.Write(shown)
		shown, rest2 := exec.PrintablePart(append(bytes.Clone(rest), in[at:]...))
		pieces.Write(shown)
		pieces.Write(exec.Printable(rest2))
		if len(rest) > 3 || len(rest2) > 3 {
			t.Fatalf("%d and %d bytes kept back", len(rest), len(rest2))
		}
		if pieces.String() != string(got) {
			t.Fatalf("cut at %d: %q, whole: %q", at, pieces.String(), got)
		}
	})
}
