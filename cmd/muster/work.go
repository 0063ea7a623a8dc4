package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// doing is how a person says what shall be done on each node.
type doing struct {
	doc     string // NAME[:VERSION]; the words are values
	script  string // a file, or - for standard input; the words are its arguments
	timeout time.Duration
	user    string
	dir     string
	env     []string
	stdin   bool
}

func (d *doing) flags(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	d.timeout = exec.DefaultTimeout
	flags.StringVar(&d.doc, "doc", "", "run this document: NAME, NAME:VERSION, NAME:$LATEST; COMMAND is its values, key=value")
	flags.StringVar(&d.script, "script", "", "run this file (- is standard input); COMMAND is its arguments")
	flags.Var((*lifespan)(&d.timeout), "timeout", "how long it may run on a node")
	flags.StringVar(&d.user, "user", "", "account it runs as (default: the agent's)")
	flags.StringVar(&d.dir, "cwd", "", "folder it runs in (default: the account's home)")
	flags.StringArrayVar(&d.env, "env", nil, "environment variable K=V; V may hold {{ ssm:NAME }} and {{ ssm-secure:NAME }}; may be repeated")
	flags.BoolVar(&d.stdin, "stdin", false, "give it what is on standard input")
	a.completeDocuments(cmd, "doc")
}

// check reports what is wrong with what shall be done, before anybody is asked.
func (d doing) check(words []string) error {
	switch {
	case d.doc != "" && d.script != "":
		return fleet.Errorf(fleet.Invalid, "--doc and --script at once")
	case d.doc == "" && d.script == "" && len(words) == 0:
		return fleet.Errorf(fleet.Invalid, "nothing to run").Hinted("muster run --target … -- COMMAND")
	case d.stdin && d.script == "-":
		return fleet.Errorf(fleet.Invalid, "--stdin and --script - both want standard input")
	}
	return nil
}

func (d doing) wantsStdin() bool { return d.stdin || d.script == "-" }

// work is what a command does on each node.
type work struct {
	run       exec.Run
	documents []exec.DocumentRef
	params    []exec.ParamRef // what it takes from the parameter store
	shell     bool            // as policy sees it: a shell line, a script, or a document that is handed one
}

// document returns the name of the document that is run, or "".
func (w work) document() string {
	if len(w.documents) == 0 {
		return ""
	}
	return w.documents[0].Name
}

// workOf reads what shall be done.
func (a *app) workOf(ctx context.Context, p *pen, d doing, words []string) (work, error) {
	run := exec.Run{Env: d.env, Dir: d.dir, User: d.user, Timeout: d.timeout.Milliseconds()}
	var err error
	if d.stdin {
		if run.Stdin, err = readBounded(a.stdin, "standard input"); err != nil {
			return work{}, err
		}
	}
	if d.doc != "" {
		return p.documentWork(ctx, run, d.doc, words)
	}
	run.Argv = words
	switch {
	case d.script == "-":
		run.Script, err = readBounded(a.stdin, "the script")
	case d.script != "":
		run.Script, err = readFile("--script", d.script)
	}
	if err == nil && d.script != "" && len(run.Script) == 0 {
		err = fleet.Errorf(fleet.Invalid, "the script is empty")
	}
	if err != nil {
		return work{}, err
	}
	if slices.ContainsFunc(append(run.Argv[:len(run.Argv):len(run.Argv)], string(run.Script)), document.MentionsStore) {
		a.say("{{ ssm:… }} in a command line is not replaced: a value there could be read as code; --env NAME='{{ ssm:… }}' and \"$NAME\" do it")
	}
	var board pinboard
	if err = board.want(document.EnvironmentRefs(run.Env)); err == nil {
		err = board.read(ctx, p)
	}
	return work{run: run, params: board.sorted(), shell: run.Shell()}, err
}

// readFile reads a file that a flag or an argument names.
func readFile(flag, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "%s: %w", flag, err)
	}
	defer file.Close()
	return readBounded(file, path)
}

func readBounded(r io.Reader, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, exec.MaxCommand+1))
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "cannot read %s: %w", what, err)
	}
	if len(raw) > exec.MaxCommand {
		return nil, fleet.Errorf(fleet.Exhausted, "%s has more than %d bytes, what a command may carry", what, exec.MaxCommand).
			Hinted("put it on the hosts, or let the command fetch it")
	}
	return raw, nil
}

// workText says in one line what a command does, for lists.
func workText(run exec.Run, documents []exec.DocumentRef) string {
	if len(documents) == 0 {
		return run.Text()
	}
	words := []string{documents[0].Name}
	for _, v := range run.Values {
		words = append(words, v.Name+"="+plainValue(v.Value))
	}
	return strings.Join(words, " ")
}

// plainValue writes a value of a document's parameter as a person would: text without JSON's quotes.
func plainValue(value string) string {
	if len(value) >= 2 && value[0] == '"' && !strings.ContainsAny(value[1:len(value)-1], `"\ `) {
		return value[1 : len(value)-1]
	}
	return value
}
