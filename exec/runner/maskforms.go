package runner

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/muster-fleet/muster/exec"
)

const (
	// minMaskBase64 is the fewest bytes of a value that is masked in base64, too: what is known of shorter ones is too few
	// letters.
	minMaskBase64 = 8
	// maxMaskForms bounds the bytes of all forms together. The masker takes about 21 bytes of memory for each.
	maxMaskForms = 128 << 10
)

// maskForms returns the secrets as shells and programs write them by themselves, where that is not how they are: a trace
// (set -x), a log in JSON, the address of a request, its Authorization. All secrets have one form before any has the next,
// so that what is over the bound is the least likely.
func maskForms(secrets [][]byte) [][]byte {
	var out [][]byte
	left := maxMaskForms
	for _, form := range formsOfText() {
		for _, s := range secrets {
			text := string(bytes.Trim(s, " \t\r\n"))
			if len(text) < minMasked {
				continue
			}
			for _, f := range form(text) {
				if f != text && len(f) <= min(left, exec.MaxSecretValues) {
					out, left = append(out, []byte(f)), left-len(f)
				}
			}
		}
	}
	return out
}

// formsOfText are ways to write a text, the likely ones first. Each goes letter by letter, or the text of which a value is a
// part would not have the value's form in it.
func formsOfText() []func(string) []string {
	each := func(old, new string) func(string) []string {
		return func(s string) []string { return []string{strings.ReplaceAll(s, old, new)} }
	}
	return []func(string) []string{
		each("'", `'\''`),  // set -x of bash and ash
		each("'", `'"'"'`), // and of dash
		each("\n", "\r\n"), // a terminal, HTTP
		each("\r\n", "\n"), // a value from there
		inJSON, inBase64, inAddress, inShellCode,
	}
}

// inJSON returns a text within the quotes of a JSON string: as most write it, and as those do who fear HTML.
func inJSON(s string) []string {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	careful, err := json.Marshal(s)
	if err != nil || e.Encode(s) != nil {
		return nil
	}
	return []string{plain.String()[1 : plain.Len()-len("\"\n")], string(careful[1 : len(careful)-1])}
}

// inBase64 returns the letters that are the same whatever stands before and behind the text (user:password): they depend
// on where among three bytes it begins.
func inBase64(s string) []string {
	if len(s) < minMaskBase64 {
		return nil
	}
	var out []string
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			all := alphabet.EncodeToString(append(make([]byte, before), s...))
			out = append(out, all[(before*8+5)/6:(before+len(s))*8/6])
		}
	}
	return out
}

// inAddress returns a text as it stands in an address and in a form that is sent.
func inAddress(s string) []string {
	query := url.QueryEscape(s)
	return []string{query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(s)}
}

// inShellCode returns a text as bash writes it for a shell to read: $'…' where there is something that cannot be printed,
// which all beyond ASCII is to some, in double quotes (declare -p), and by backslashes (printf %q).
func inShellCode(s string) []string {
	var ansi, ascii, double, backslashes strings.Builder
	for i := range len(s) {
		c := s[i]
		short := strings.IndexByte("\a\b\t\n\v\f\r\x1b\\'", c)
		switch {
		case short >= 0:
			ansi.WriteString(`\` + `abtnvfrE\'`[short:short+1])
			ascii.WriteString(`\` + `abtnvfrE\'`[short:short+1])
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&ansi, `\%03o`, c)
			fmt.Fprintf(&ascii, `\%03o`, c)
		case c > 0x7f:
			ansi.WriteByte(c)
			fmt.Fprintf(&ascii, `\%03o`, c)
		default:
			ansi.WriteByte(c)
			ascii.WriteByte(c)
		}
		if strings.IndexByte("\"$\\`", c) >= 0 {
			double.WriteByte('\\')
		}
		double.WriteByte(c)
		if strings.IndexByte("\t !\"$&'()*,;<>?[\\]^`{|}", c) >= 0 {
			backslashes.WriteByte('\\')
		}
		backslashes.WriteByte(c)
	}
	return []string{ansi.String(), ascii.String(), double.String(), backslashes.String()}
}
