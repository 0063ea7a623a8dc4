package main

import (
	"context"
	"os"

	"github.com/muster-fleet/muster/exec/runner"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == superviseWord { // before anything else: every run waits for it
		os.Exit(runner.Supervise(os.Args[2:]))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
