package testnet

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const scripts = "testdata/scripts"

// TestScripts types what a person would type about commands and documents, on a fleet of five real agents.
func TestScripts(t *testing.T) {
	f := New(t, 5)
	f.Settled()
	first := f.Nodes[0]
	for i, role := range []string{"db", "web", "web", "web", "web"} {
		f.Must(first, "node", "tag", f.Nodes[i].Name, "role="+role)
	}
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: scripts,
			Setup: func(e *testscript.Env) error {
				e.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+e.Getenv("PATH"))
				for _, kv := range f.env() {
					if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "MUSTER_") {
						e.Setenv(k, v)
					}
				}
				e.Setenv("MUSTER_DATA_DIR", first.Dir)
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "keep": keep},
		})
	})
}

// exits runs a program and holds it to an exit code: exits CODE PROGRAM ARG…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s exits %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// keep takes what a pattern's group finds in the last output into a variable: keep NAME PATTERN
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep NAME PATTERN")
	}
	found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout") + ts.ReadFile("stderr"))
	if len(found) != 2 {
		ts.Fatalf("nothing matches %s", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// TestScriptsUseEveryFlag holds the scripts to the command line: what can be typed has been typed.
func TestScriptsUseEveryFlag(t *testing.T) {
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(scripts + "/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var text strings.Builder
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(raw)
	}
	flag := regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?--([a-z-]+)`)
	for _, command := range []string{
		"run", "doc put", "doc list", "doc show", "doc history", "doc default", "doc diff", "doc delete", "doc validate", "doc help",
		"group put", "group list", "group show", "group delete", "setting put", "setting list",
		"command show", "command rerun", "command cancel", "command list", "command watch", "why", "doctor",
		"param put", "param get", "param list", "param history", "param label", "param unlabel", "param delete", "param watch", "param diff",
		"param rollback", "param export", "param import", "param rotate", "param render", "param run",
		"keyring list", "keyring show", "keyring put", "keyring rotate", "keyring hand-over", "keyring delete",
		"exec", "shell", "forward", "ssh-proxy", "session list", "session show", "session kill", "session replay", "session export", "session watch",
	} {
		typed := typedIn(text.String(), "muster "+command+" ", "muster "+command+"\n")
		if typed == "" {
			t.Errorf("no script uses muster %s", command)
			continue
		}
		out, err := exec.Command(bin, append(strings.Fields(command), "--help")...).Output()
		if err != nil {
			t.Fatal(command, err)
		}
		own, _, _ := strings.Cut(string(out), "--data-dir")
		_, own, _ = strings.Cut(own, "Flags:")
		for _, found := range flag.FindAllStringSubmatch(own, -1) {
			if name := found[1]; name != "help" && !strings.Contains(typed, "--"+name) {
				t.Errorf("no script uses muster %s --%s", command, name)
			}
		}
	}
}

// typedIn returns the lines of text that hold one of several beginnings.
func typedIn(text string, beginnings ...string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		for _, b := range beginnings {
			if strings.Contains(line, b) {
				out.WriteString(line)
				break
			}
		}
	}
	return out.String()
}
