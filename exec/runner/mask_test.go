package runner

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
)

// maskAll is what masking comes to, told slowly: every byte of every pattern that is found anywhere is hidden, and what is
// hidden in a row is one mask.
func maskAll(text []byte, secrets [][]byte) []byte {
	hidden := make([]bool, len(text))
	for _, p := range maskPatterns(secrets) {
		for at := 0; at+len(p) <= len(text); at++ {
			if bytes.Equal(text[at:at+len(p)], p) {
				for i := range p {
					hidden[at+i] = true
				}
			}
		}
	}
	var out []byte
	for i, b := range text {
		switch {
		case !hidden[i]:
			out = append(out, b)
		case i == 0 || !hidden[i-1]:
			out = append(out, maskText...)
		}
	}
	return out
}

func drawText(t *rapid.T, most int, name string) []byte {
	return []byte(rapid.StringOfN(rapid.SampledFrom([]rune("aab\nc ")), 0, most, -1).Draw(t, name))
}

// TestMaskingByChunks: however a text is cut, and whatever the secrets have in common, what comes out is the text with every
// byte of a secret hidden.
func TestMaskingByChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var secrets [][]byte
		for range rapid.IntRange(0, 6).Draw(t, "secrets") {
			s := drawText(t, 24, "secret")
			secrets = append(secrets, s)
			if n := len(s); n > 1 && rapid.Bool().Draw(t, "related") { // a prefix of another, or its end
				cut := rapid.IntRange(1, n-1).Draw(t, "cut")
				secrets = append(secrets, s[:cut], s[cut:], s[cut/2:cut])
			}
		}
		var text []byte
		for range rapid.IntRange(0, 12).Draw(t, "pieces") {
			piece := drawText(t, 20, "text")
			if len(secrets) > 0 && rapid.Bool().Draw(t, "plant") {
				piece = rapid.SampledFrom(secrets).Draw(t, "planted")
				piece = piece[:rapid.IntRange(0, len(piece)).Draw(t, "cut off")]
			}
			text = append(text, piece...)
		}
		m := newMasker(secrets)
		if want := maskAll(text, secrets); m.text(string(text)) != string(want) {
			t.Fatalf("%q without %q: %q, wanted %q", text, secrets, m.text(string(text)), want)
		}
		if m == nil {
			return
		}
		f := m.stream()
		var got []byte
		for rest := text; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			if rapid.Bool().Draw(t, "small") {
				n = min(n, 3)
			}
			chunk := slices.Clone(rest[:n])
			got = append(got, f.write(chunk)...)
			for i := range chunk {
				chunk[i] = 'x' // the caller's buffer is used again
			}
			rest = rest[n:]
		}
		got = append(got, f.flush()...)
		if want := maskAll(text, secrets); !bytes.Equal(got, want) {
			t.Fatalf("%q without %q in chunks: %q, wanted %q", text, secrets, got, want)
		}
	})
}

func TestMasking(t *testing.T) {
	for _, c := range []struct {
		secrets []string
		text    string
		want    string
	}{
		{[]string{"hunter22"}, "hunter2 hunter22 hunter222", "hunter2 **** ****2"},
		{[]string{"abc"}, "abc", "abc"}, // too short to tell from anything else
		{[]string{"abcd"}, "abcd", "****"},
		{[]string{"abcdef", "defghi"}, "abcdefghi", "****"},
		{[]string{"abcd", "abcdefgh"}, "abcdefg abcdefgh", "****efg ****"},
		{[]string{"line one\nshort\nline three"}, "line three, short, line one", "****, short, ****"},
		{[]string{"from a file\n"}, "x=from a file!", "x=****!"},
		{[]string{"windows 1\r\nwindows 2\r\n"}, "windows 2\nwindows 1", "****\n****"},
		{[]string{"aaaa"}, strings.Repeat("a", 99), "****"},
		{[]string{"xxabcdyy", "abcd"}, "xxabcdzz", "xx****zz"},
		{[]string{"xxabcdyy", "abcd", "bcdy"}, "xxabcdyz", "xx****z"},
		{nil, "abcd", "abcd"},
	} {
		var secrets [][]byte
		for _, s := range c.secrets {
			secrets = append(secrets, []byte(s))
		}
		if got := newMasker(secrets).text(c.text); got != c.want {
			t.Errorf("%q without %q: %q, wanted %q", c.text, c.secrets, got, c.want)
		}
	}
}

// TestFormsOfASecretAreMasked: what shells and programs print of a secret by accident.
func TestFormsOfASecretAreMasked(t *testing.T) {
	const quotes, lines, signs, odd = "pa'ss\"wo\\rd$1", "key: abc\nuser: x\npw: 12345\n", "hunter2x&y=z w", "tab\there\x01é'\\"
	m := newMasker([][]byte{[]byte(quotes), []byte(lines), []byte(signs), []byte(odd), []byte("short/?"), []byte("<b>\"bold\"")})
	for _, c := range []struct{ what, text, want string }{
		{"bash -x", `+ mysql -p 'pa'\''ss"wo\rd$1'`, `+ mysql -p '****'`},
		{"dash -x", `+ mysql -p 'pa'"'"'ss"wo\rd$1'`, `+ mysql -p '****'`},
		{"bash -x with a control character", `+ echo $'tab\there\001é\'\\'`, `+ echo $'****'`},
		{"the same without a locale", `+ echo $'tab\there\001\303\251\'\\'`, `+ echo $'****'`},
		{"declare -p", `declare -x T="pa'ss\"wo\\rd\$1"`, `declare -x T="****"`},
		{"printf %q", `pa\'ss\"wo\\rd\$1`, `****`},
		{"JSON", `{"password":"pa'ss\"wo\\rd$1","k":"key: abc\nuser: x\npw: 12345\n"}`, `{"password":"****","k":"****\n"}`},
		{"JSON without < and &", `{"a":"hunter2x\u0026y=z w","b":"\u003cb\u003e\"bold\""}`, `{"a":"****","b":"****"}`},
		{"JSON, quotes at the end", `"<b>\"bold\""`, `"****"`},
		{"CRLF", "key: abc\r\nuser: x\r\npw: 12345\r\n", "****\r\n"},
		{"a query", "GET /?p=hunter2x%26y%3Dz+w&q=short%2F%3F", "GET /?p=****&q=****"},
		{"a query by curl", "GET /?p=hunter2x%26y%3Dz%20w", "GET /?p=****"},
		{"a path", "GET /hunter2x&y=z%20w/", "GET /****/"},
		{"Authorization: Basic", "Basic dTpodW50ZXIyeCZ5PXogdw==", "Basic dTp****w=="},
	} {
		if got := m.text(c.text); got != c.want {
			t.Errorf("%s: %s, wanted %s", c.what, got, c.want)
		}
	}
}

// TestFormsGoWithWhatIsAround: a secret in a longer text that is written in another form is masked, wherever it stands; of
// base64 up to a letter at each end, which neighbours share.
func TestFormsGoWithWhatIsAround(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("ab'\"\\$& /+=%<>\n\r\t\x01é!{")), 0, 20, -1)
	rapid.Check(t, func(t *rapid.T) {
		secret := strings.TrimSpace(text.Filter(func(s string) bool { return len(strings.TrimSpace(s)) >= minMaskBase64 }).Draw(t, "secret"))
		before, behind := text.Draw(t, "before"), text.Draw(t, "behind")
		m := newMasker([][]byte{[]byte(secret)})
		for i, form := range formsOfText() {
			whole := form(before + "x" + secret + "x" + behind) // the x keeps \r and \n of different texts apart
			for j, own := range form(secret) {
				if len(whole) != 6 && !strings.Contains(m.text(whole[j]), maskText) {
					t.Fatalf("form %d, %d: %q in %q", i, j, own, whole[j])
				}
			}
		}
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			whole := e.EncodeToString([]byte(before + secret + behind))
			got := m.text(whole)
			if n := len(whole) - len(got) + len(maskText); !strings.Contains(got, maskText) || n < len(secret)*8/6-2 {
				t.Fatalf("%q between %q and %q: %s of %s", secret, before, behind, got, whole)
			}
		}
	})
}

// TestFormsAreBounded: what masks a run's secrets takes some memory, whatever they are.
func TestFormsAreBounded(t *testing.T) {
	var many [][]byte
	for i := range 32 {
		many = append(many, bytes.Repeat([]byte{'\'', 1, byte(i + 'a'), '\n'}, exec.MaxSecretValues/32/4))
	}
	large := [][]byte{bytes.Join(many, nil)[1:]}
	for _, secrets := range [][][]byte{many, large} {
		size := 0
		for _, p := range maskForms(secrets) {
			if size += len(p); len(p) > exec.MaxSecretValues {
				t.Errorf("a form of %d bytes", len(p))
			}
		}
		if size > maxMaskForms {
			t.Errorf("%d bytes of forms", size)
		}
	}
	if got := newMasker(many).text(string(bytes.ReplaceAll(many[9], []byte("'"), []byte(`'\''`)))); got != maskText+"\n" {
		t.Errorf("%.100q", got)
	}
}

// TestMaskingCostsNoMoreThanItsSecrets: what is held back is shorter than the longest secret, whatever is written.
func TestMaskingCostsNoMoreThanItsSecrets(t *testing.T) {
	secret := bytes.Repeat([]byte("a"), exec.MaxSecretValues-1)
	m := newMasker([][]byte{append(secret, 'b')})
	f := m.stream()
	n := 0
	for range 64 {
		n += len(f.write(secret))
		if len(f.held) > exec.MaxSecretValues || len(f.spans) > 1 {
			t.Fatalf("%d bytes are held back, %d spans", len(f.held), len(f.spans))
		}
	}
	if n += len(f.flush()); n != 64*len(secret) {
		t.Errorf("%d bytes came out of %d", n, 64*len(secret))
	}
}

func BenchmarkMask(b *testing.B) {
	m := newMasker([][]byte{[]byte("correct horse battery staple"), []byte("hunter22"), []byte("pa'ss\"wo\\rd$1")})
	chunk := bytes.Repeat([]byte("a line of output like many others, harmless\n"), 1500)
	f := m.stream()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		f.write(chunk)
	}
}
