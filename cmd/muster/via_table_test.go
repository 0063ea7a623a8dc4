package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// where says of every command from where it is given: here, on the host that it is about, or from elsewhere as well, by --via.
// A new command is listed here, and, if it works by --via, in a script of testdata, all of which run by --via, too.
func where() map[string]string {
	const here, via = "here", "via"
	return map[string]string{
		"init": here, "join": here, "agent": here, "agent install": here, "agent uninstall": here, "agent generalize": here, "agent readmit": here, "demo": here, "version": here,
		"agent pause": here, "agent resume": here, "config show": here, "config check": here, "config reload": here,
		"node leave": here, "operator request": here,

		"manual": here, "debug bundle": here,

		"run": via, "upgrade": via, "why": via, "status": via, "top": via, "doctor": via, "quorum status": via,
		"shell": via, "exec": via, "forward": via, "ssh-proxy": via, "cp": via,
		"session list": via, "session show": via, "session kill": via, "session replay": via, "session export": via, "session watch": via,
		"command list": via, "command show": via, "command watch": via, "command cancel": via, "command rerun": via,
		"doc put": via, "doc list": via, "doc show": via, "doc help": via, "doc history": via, "doc delete": via, "doc diff": via, "doc default": via,
		"doc validate": via,
		"group put":    via, "group list": via, "group show": via, "group delete": via,
		"setting list": via, "setting put": via,
		"param put": via, "param get": via, "param list": via, "param history": via, "param diff": via, "param delete": via, "param label": via,
		"param unlabel": via, "param rollback": via, "param rotate": via, "param render": via, "param run": via, "param export": via,
		"param import": via, "param watch": via,
		"keyring put": via, "keyring list": via, "keyring show": via, "keyring delete": via, "keyring rotate": via, "keyring hand-over": via,
		"node list": via, "node show": via, "node tag": via, "node drain": via, "node undrain": via, "node delete": via,
		"token create": via, "token list": via, "token delete": via,
		"operator list": via, "operator approve": via, "operator delete": via,
	}
}

// TestWhereCommandsAreGiven: every command is in the table, and says itself what the table says of it.
func TestWhereCommandsAreGiven(t *testing.T) {
	t.Parallel()
	table := where()
	scripts := scriptTexts(t)
	seen := map[string]bool{}
	for _, cmd := range commandsBelow(newRootCommand(&app{getenv: func(string) string { return "" }})) {
		path := strings.TrimPrefix(cmd.CommandPath(), "muster ")
		seen[path] = true
		said := "via"
		if doneHere(cmd) {
			said = "here"
		}
		switch from, listed := table[path]; {
		case !listed:
			t.Errorf("muster %s is not in the table: is it given by --via, too?", path)
		case from != said:
			t.Errorf("muster %s is given %s by the table, and %s by itself", path, from, said)
		case from == "via" && !scripts.have(path):
			t.Errorf("no script in testdata has muster %s", path)
		}
	}
	for path := range table {
		if !seen[path] {
			t.Errorf("the table has muster %s, which there is not", path)
		}
	}
}

// commandsBelow lists the commands that do something.
func commandsBelow(cmd *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, c := range cmd.Commands() {
		if c.Runnable() && (!c.HasSubCommands() || c.Flags().HasFlags() && c.Name() == "agent") {
			out = append(out, c)
		}
		out = append(out, commandsBelow(c)...)
	}
	return out
}

type texts []string

func scriptTexts(t *testing.T) texts {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var out texts
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// have reports whether a script gives a command.
func (all texts) have(path string) bool {
	line := regexp.MustCompile(`(?m)^.*(muster|exits \d+|each \d+ \d+) (-\S+ )*` + regexp.QuoteMeta(path) + `( |$)`)
	return slices.ContainsFunc(all, line.MatchString)
}

// TestScriptsElsewhere runs the scripts once more, from a host that has no agent: all that they do goes by --via.
func TestScriptsElsewhere(t *testing.T) {
	t.Parallel()
	params := scriptParams("testdata")
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("FROM_ELSEWHERE", "1")
		return setup(env)
	}
	params.Condition = func(name string) (bool, error) { return true, notElsewhere(name) }
	testscript.Run(t, params)
}

// notElsewhere is the error of a condition other than elsewhere, which says that the script runs by --via.
func notElsewhere(name string) error {
	if name != "elsewhere" {
		return fmt.Errorf("no condition %q", name)
	}
	return nil
}

// onlyOnTheHost reports whether a script's line is one that goes to the local agent in any case.
func onlyOnTheHost(args []string) bool {
	line := strings.Join(args, " ")
	return slices.Contains(args, "--as-host") || strings.Contains(line, "operator request") || strings.Contains(line, "node leave")
}
