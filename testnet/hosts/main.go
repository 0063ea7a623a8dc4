package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := exit(newRoot().ExecuteContext(ctx))
	stop()
	os.Exit(code)
}

// ended is that a command on a host has exited with something else than 0. It has said why.
type ended struct{ code int }

func (e ended) Error() string { return fmt.Sprintf("exit %d", e.code) }

// exit says what went wrong, and returns what to exit with: what a command on a host has exited with, else 1.
func exit(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[ended](err); ok {
		return e.code
	}
	fmt.Fprintln(os.Stderr, "hosts:", err)
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		fmt.Fprintln(os.Stderr, "  ", e.Hint)
	}
	return 1
}
