package document

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maker draws scripts that put values where people put them, wisely or not.
type maker struct{ *rand.Rand }

func (m maker) one(of ...string) string { return of[m.IntN(len(of))] }

func (m maker) word() string {
	switch m.IntN(12) {
	case 0:
		return "'{{ p }}'"
	case 1:
		return `"{{ p }}"`
	case 2:
		return m.one("a{{ p }}", "{{ p }}b", "./{{ p }}", "{{ p }}{{ q }}", "-c{{ p }}", "-v{{ p }}", "x={{ p }}", "-e{{ p }}", "--{{ p }}", `""{{ p }}`, `\{{ p }}`, "~{{ p }}", "{a,{{ p }}}")
	case 3:
		return m.one("$x", `"$x"`, "$1", `"$@"`, "${x:-{{ p }}}", `"${x:-{{ p }}}"`, "${x#{{ p }}}", "${!x}", "$((x))", "$(( {{ p }} ))", "$(( {{ n }} ))", "${x:{{ n }}}", "$SSM_p")
	case 4:
		return m.one(`$(echo {{ p }})`, `"$(echo {{ p }})"`, "`echo {{ p }}`", `"$(printf %s '{{ p }}')"`, `$(cat <<< {{ p }})`, "<(echo {{ p }})", "$(sh -c {{ p }})")
	case 5:
		return m.one("-c", "-e", "-v", "-n", "-s", "--", "-", "-i", "-x", "-exec", "-S", "-ec")
	case 6:
		return m.one("x", "y", "file", "'a b'", "sh", "=", "-eq", "%s", "'$1'", `'eval "$1"'`, "'echo $x'", `"x$x"`, "{}", "\\;", "[", "]")
	case 7:
		return m.one("{{ n }}", "{{ e }}", "{{ b }}", "{{ l }}")
	}
	return "{{ p }}"
}

func (m maker) words(n int) string {
	var out []string
	for range n {
		out = append(out, m.word())
	}
	return strings.Join(out, " ")
}

func (m maker) simple() string {
	name := m.one("echo", "echo", "printf", "eval", "sh", "bash", "dash", "test", "[", "read", "export", "unset", "set --", "set", "local", "command", "env",
		"exec", "xargs", "timeout 5", "nice", "f", "trap", "let", "declare", "declare -i", "typeset", "cat", "true", ":", ".", "alias", "x={{ p }}", "x={{ p }} y=$x", "nohup",
		"find . -exec", "awk", "sed", "sed -n", "python3", "perl", "wait", "printf '%s\n'", "printf -v", "mapfile", "getopts", "let x=", "readonly", "declare -n", "shift", "cd", "exit", "[ -n", "test x =", "f | sh; f", "eval \"$(f)\"; f", "eval 'echo $x'; eval", "eval '$x'; true", "trap '$x' EXIT; echo", "sh -c '\"$@\"' sh", "sh -c 'echo \"$1\"' sh",
		"declare -i x; x=y;", "y=x; echo $((y))", "let y=x;", "sed --expression p --expression", "sed -l 5", "sh /dev/stdin", "perl -ne print", "xargs -0", "sudo", "env -i", "flock --timeout 1 l -c", "bash --", "cd {{ p }}; ./x", "return", "sleep 0", "test -v", "[ -v", "{{ p }}", "$x", "busybox", "\\eval", "'eval'", "hash", "sort", "head -n 1", "grep", "type", "ulimit", "umask", "exec 3>", "make -f")
	return name + " " + m.words(1+m.IntN(3))
}

func (m maker) command(depth int) string {
	if depth > 2 {
		return m.simple()
	}
	inner := func() string { return m.command(depth + 1) }
	switch m.IntN(16) {
	case 0:
		return inner() + " | " + m.one("sh", "bash", "cat", "sh -s", "sh /dev/stdin", "xargs env", "xargs -I{} {}", "sed -f - f", "awk -f -", "bash -s -- x", "xargs sh -c", "while read x; do "+inner()+"; done", "bash -s x", "sudo sh", "read x", "f", "xargs -I{} sh -c {}", "tee >(sh)", inner())
	case 1:
		return m.simple() + " <<EOF\n" + m.one("{{ p }}", "echo {{ p }}", "'{{ p }}'", "`{{ p }}`", "$(echo {{ p }})") + "\nEOF"
	case 2:
		return m.simple() + " <<'EOF'\n" + m.one("{{ p }}", "echo {{ p }}", "$({{ p }})", "`{{ p }}`", "\\{{ p }}") + "\nEOF"
	case 3:
		return m.one("sh", "bash", "cat", "dash -s", "read x", "while read x; do eval $x; done", "f") + " <<< " + m.word()
	case 4:
		return "if " + inner() + "; then " + inner() + "; fi"
	case 5:
		return "for x in " + m.words(2) + "; do " + inner() + "; done"
	case 6:
		return "case " + m.word() + " in " + m.word() + ") " + inner() + ";; esac"
	case 7:
		return "f() { " + inner() + "; }; f " + m.words(2)
	case 8:
		return "x=" + m.word() + "; " + inner()
	case 9:
		return "(" + inner() + ") >" + m.one("/dev/null", "&2", "out", "{{ p }}x", ">(sh)")
	case 10:
		return m.one("[[ ", "[ ") + m.word() + m.one(" -eq ", " = ", " == ", " =~ ", " -gt ", " ") + m.word() + m.one(" ]]", " ]")
	case 11:
		return m.one("(( x = ", "(( ") + m.word() + " ))"
	case 12:
		return m.one("a=(", "a[1]=(", "declare -a a=(") + m.words(2) + "); " + inner()
	case 13:
		return inner() + m.one(" && ", " || ", "; ", "\n", " & ") + inner()
	}
	return m.simple()
}

// TestNoAcceptedScriptRunsAValue draws scripts, and runs those that are taken, with values that would run something if a
// shell ever read them. Scripts that are raw shell by their own account are left out: running values is what they do.
func TestNoAcceptedScriptRunsAValue(t *testing.T) {
	t.Parallel()
	wanted := 120
	if os.Getenv("MUSTER_LONG") != "" {
		wanted = 30_000
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "canary"), []byte("#!/bin/sh\necho \"$0 $*\" >>\"$CANARY\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	attacks := []string{"canary", "$(canary)", "`canary`", "; canary;", "\ncanary\n", "';canary;'", `";canary;"`, "a[$(canary)]", "-va[$(canary)]", "-ccanary",
		"x=$(canary)", "EOF\ncanary", "|canary", "0;canary", "1 canary", "x'$(canary)'", "ecanary", "1ecanary", "s/^/canary/e", "\\$(canary)", "BEGIN{system(\"canary\")}", "-ea[$(canary)]"}
	m := maker{rand.New(rand.NewPCG(2, uint64(wanted)))}
	drawn := 0
	for taken := 0; taken < wanted; drawn++ {
		script := m.command(0)
		shebang := m.one("", "#!/bin/bash\n")
		d, err := Parse([]byte(docWith(shebang + script)))
		if err != nil || d.RawShell() || !strings.Contains(script, "{{ p }}") && !strings.Contains(script, "SSM_p") {
			continue
		}
		taken++
		attack := attacks[m.IntN(len(attacks))]
		v, err := d.Complete([]Argument{{"p", encode(attack)}, {"q", encode(attack)}, {"l", encode([]string{attack, attack})}})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := d.Plan(v, Host{Platform: Linux}, nil)
		if err != nil {
			t.Fatal(err)
		}
		shell := "bash"
		if shebang == "" {
			shell = shells(t)[taken%3]
		}
		if ran := runCanary(t, shell, plan.Steps[0].Script, plan.Steps[0].Env, bin); ran != "" {
			t.Errorf("%s ran %q (%s) in\n%s\nwritten as\n%s", shell, attack, ran, script, plan.Steps[0].Script)
		}
	}
	t.Logf("%d of %d scripts taken", wanted, drawn)
}

func runCanary(t *testing.T, shell string, script []byte, env []string, bin string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "timeout", "-s", "KILL", "5", shell, file)
	cmd.Dir = dir
	cmd.Env = append([]string{fmt.Sprintf("PATH=%s:%s", bin, os.Getenv("PATH")), "CANARY=" + filepath.Join(dir, "ran")}, env...)
	_ = cmd.Run() // most of these scripts fail
	ran, _ := os.ReadFile(filepath.Join(dir, "ran"))
	return string(ran)
}
