package document

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shells are those that every host may have as sh.
func shells(t *testing.T) []string {
	t.Helper()
	names := []string{"sh", "bash", "dash"}
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("this test needs %s: %v", name, err)
		}
	}
	return names
}

// evil are values that mean something to a shell, if one looks at them. canary is what they try to run.
var evil = []string{
	"canary", "$(canary)", "`canary`", "; canary", "&& canary", "| canary", "\ncanary\n", "'; canary; '", `"; canary; "`, `'"; canary; "'`,
	"a[$(canary)]", "a[`canary`]=1", "-va[$(canary)]", "-c canary", "-ccanary", "--", "-n", "-e", "-", "x=$(canary)", "${x:=$(canary)}", "${x@P}", "$((a[$(canary)]))",
	"EOF\ncanary", "EOF\ncanary\nEOF\n", "\\", "\\\\", "\\'", "\\\"", "'", "\"", "`", "$", "$x", "${SSM_p}", "$SSM_q", "*", "?", "[a-z]*", "~", "~root", "{a,b}",
	"!!", "!canary", "%s%n", "\t tab", "  two  spaces  ", "", "\n", "\n\n", "a\nb", "\r\n", "<(canary)", ">(canary)", "> /dev/null", "&", "& canary &", "#", "# x", "(canary)",
	"{ canary; }", "e canary", "1e canary", "s/x/canary/e", "} ; canary ; {", "esac; canary", "done; canary", "fi; canary", ") canary (", "\x01\x02\x7f", "é", "\u0081\u0088", "日本語", "😀",
	"() { :; }; canary", "BASH_FUNC_x%%=() { canary; }", "system(\"canary\")", "import os; os.system('canary')", "|canary", "canary|", "{{ p }}", "{{ q }}", "$$", "\\$(canary)", "$'\\x27;canary'",
}

// values draws n values: the evil ones, and words made of them.
func values(r *rand.Rand, n int) []string {
	const signs = "$`\"'\\;&|<>(){}[]*?~#!%=-+@:,. \t\n/aEOF0"
	out := make([]string, n)
	for i := range out {
		if i < len(evil) {
			out[i] = evil[i]
			continue
		}
		var b strings.Builder
		for range 1 + r.IntN(6) {
			if r.IntN(3) == 0 {
				b.WriteString(evil[r.IntN(len(evil))])
			} else {
				b.WriteByte(signs[r.IntN(len(signs))])
			}
		}
		out[i] = b.String()
	}
	return out
}

// place is a script that says what it was given as p.
type place struct {
	script string
	before string // what stands before the value in what it says, and behind it
	after  string
	forks  bool // it starts processes: fewer values go through it
}

var places = []place{
	{script: `say {{ p }}`},
	{script: `say a{{ p }}b`, before: "a", after: "b"},
	{script: `say "a {{ p }} b"`, before: "a ", after: " b"},
	{script: `say 'a "$x" {{ p }} b'`, before: `a "$x" `, after: " b"},
	{script: `say '{{ p }}'`},
	{script: `x={{ p }}; say "$x"`},
	{script: `x="a {{ p }}"; say "$x"`, before: "a "},
	{script: `say ${none:-{{ p }}}`},
	{script: `say "${none:-a {{ p }}}"`, before: "a "},
	{script: `f() { say "$1"; }; f {{ p }}`},
	{script: `for i in {{ p }}; do say "$i"; done`},
	{script: `case {{ p }} in {{ p }}) say {{ p }};; *) say other;; esac`},
	{script: `set -- {{ p }} 'a {{ p }}'; say "$1"`},
	{script: `if [ {{ p }} = "{{ p }}" ]; then say {{ p }}; fi`},
	{script: `export X={{ p }}; say "$X"`},
	{script: "hear <<EOF\na {{ p }} \"b\" 'c'\nEOF", before: "a ", after: " \"b\" 'c'\n"},
	{script: "hear <<'EOF'\na $x {{ p }} `b` \\c \\\\\nEOF", before: "a $x ", after: " `b` \\c \\\\\n"},
	{script: "hear <<-\"E\"\n\ta {{ p }}\n\tE", before: "a ", after: "\n"},
	{script: `x=$(printf '%s.' {{ p }}); say "${x%.}"`, forks: true},
	{script: `x="$(printf '%s.' "a {{ p }}" | cat)"; say "${x%.}"`, before: "a ", forks: true},
	{script: "x=$(cat <<EOF\n$(printf '%s.' {{ p }}).\nEOF\n); say \"${x%..}\"", forks: true},
	{script: `x=$(sh -c 'printf "%s." "$1"' sh {{ p }}); say "${x%.}"`, forks: true},
	{script: `x=$(env A={{ p }} sh -c 'printf "%s." "$A"'); say "${x%.}"`, forks: true},
	{script: "x=$(awk 'BEGIN { printf \"%s.\", ENVIRON[\"A\"] }' </dev/null); A={{ p }}; say \"$A$x\"", after: ".", forks: true},
}

// own are the commands that a value may be given to without another process seeing it.
const own = `say() { printf '%s\0' "$1"; }
`

// prelude has the commands of the places, without a process: say writes its argument and a zero byte.
const prelude = own + `hear() { heard=; while IFS= read -r line; do heard="$heard$line
"; done; say "$heard"; }
canary() { echo "$SSM_p" >>"$CANARY"; }
SSM_q=other
`

// TestHostileValuesArriveUnchangedAndRunNothing is the promise of the rewriting. MUSTER_LONG=1 makes a million of it.
func TestHostileValuesArriveUnchangedAndRunNothing(t *testing.T) {
	t.Parallel()
	rounds, batch := 4, 5_000
	if os.Getenv("MUSTER_LONG") != "" {
		rounds = 200
	}
	scripts := rewritten(t)
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 4))
		all := values(r, batch)
		for _, shell := range shells(t) {
			throughShell(t, shell, scripts, all, r)
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// route is a place with where the value in it comes from.
type route struct {
	place
	text     string // the script as it became
	variable string // that holds the value
}

// rewritten returns all places, with the value of a document's own parameter, of one of the store's, and with a secret
// where one may be.
func rewritten(t *testing.T) []route {
	t.Helper()
	var out []route
	for _, p := range places {
		for _, ref := range []string{"{{ p }}", "{{ ssm:/a/x-1:3 }}", "{{ ssm-secure:x }}"} {
			d, err := Parse([]byte(docWith(own + strings.ReplaceAll(p.script, "{{ p }}", ref))))
			if err != nil && strings.Contains(err.Error(), "as an argument of") {
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", p.script, err)
			}
			variable := "SSM_p"
			if c := d.steps[0].compiled; len(c.stored) > 0 {
				variable = c.stored[0].variable()
			}
			out = append(out, route{p, d.steps[0].compiled.text, variable})
		}
	}
	if len(out) < 3*len(places)-5 {
		t.Fatalf("%d routes through %d places: a secret may be in most of them", len(out), len(places))
	}
	return out
}

// throughShell runs one process that puts every value into some place.
func throughShell(t *testing.T, shell string, scripts []route, all []string, r *rand.Rand) {
	t.Helper()
	var driver bytes.Buffer
	driver.WriteString(prelude)
	for i, s := range scripts {
		fmt.Fprintf(&driver, "place%d() {\n%s\n}\n", i, s.text)
	}
	chosen := make([]int, len(all))
	for i, v := range all {
		chosen[i] = r.IntN(len(scripts))
		for scripts[chosen[i]].forks && r.IntN(20) > 0 {
			chosen[i] = r.IntN(len(scripts))
		}
		fmt.Fprintf(&driver, "%[1]s='%[2]s'\nexport %[1]s\nplace%[3]d\n", scripts[chosen[i]].variable, strings.ReplaceAll(v, "'", `'\''`), chosen[i])
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "driver")
	if err := os.WriteFile(file, driver.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shell, file)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CANARY=" + filepath.Join(dir, "canary"), "LC_ALL=C.UTF-8"}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%.500s", shell, err, errs.String())
	}
	if ran, err := os.ReadFile(filepath.Join(dir, "canary")); err == nil {
		t.Fatalf("%s: a value was run: %.300q", shell, ran)
	}
	said := strings.Split(string(out), "\x00")
	if len(said) != len(all)+1 {
		t.Fatalf("%s: %d values went in, %d came out\n%.500s", shell, len(all), len(said)-1, errs.String())
	}
	for i, v := range all {
		p := scripts[chosen[i]]
		if want := p.before + v + p.after; said[i] != want {
			t.Errorf("%s: %s: %q came out as %q", shell, p.script, want, said[i])
		}
	}
}
