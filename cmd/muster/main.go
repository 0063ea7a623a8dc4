package main

import (
	"context"
	"os"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/action"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node/session"
	sessioncopy "github.com/muster-fleet/muster/node/session/copy"
)

// Hidden words by which this binary becomes something else than the command line; none of them can be a command.
const (
	sessionWord = "supervise-session" // the supervisor of one session
	copyWord    = "copy"              // what reads and writes files for muster cp, as the account whose they are
	actWord     = "act"               // one of a document's own actions
)

func main() {
	word := ""
	if len(os.Args) > 1 {
		word = os.Args[1]
	}
	switch word { // before anything else: runs and sessions wait for it
	case superviseWord:
		os.Exit(runner.Supervise(os.Args[2:]))
	case sessionWord:
		os.Exit(session.Supervise(os.Args[2:]))
	case copyWord:
		os.Exit(sessioncopy.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	case actWord:
		os.Exit(action.Main(os.Args[2:], action.Ways{Agent: dialAgent, LetGo: runner.LetGo}, os.Stdin, os.Stdout, os.Stderr))
	}
	code := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if word == "agent" && code == exec.ExitUsage {
		takeBack(os.Args[2:], os.Getenv) // of a version on trial it does not return
	}
	os.Exit(code)
}
