package main

import (
	"context"
	"os"

	"github.com/muster-fleet/muster/exec/action"
	"github.com/muster-fleet/muster/exec/runner"
)

// actWord is the hidden word by which this binary becomes one of a document's own actions.
const actWord = "act"

func main() {
	if len(os.Args) > 1 && os.Args[1] == superviseWord { // before anything else: every run waits for it
		os.Exit(runner.Supervise(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == actWord {
		os.Exit(action.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
