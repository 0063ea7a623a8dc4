package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// In a container the agent may be the first process. What commands leave behind becomes that process' child, and it has to
// take note of each one's end, or the dead pile up until no process can be started. An agent cannot do that beside waiting for
// its own children, so the first process starts the agent and does nothing else.

// firstProcess is the number of the first process of a PID namespace.
const firstProcess = 1

// passedOn are the signals that people and container runtimes send to the first process and mean for the agent.
var passedOn = [...]os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// beInit starts this very command once more, passes signals on to it, and takes note of whoever ends, until it has ended
// itself. It returns with its exit code: what else runs in the container ends with the first process.
func beInit() error {
	signals := make(chan os.Signal, len(passedOn))
	signal.Notify(signals, passedOn[:]...)
	agent, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return fleet.Errorf(fleet.Internal, "the agent cannot be started as a child of the first process: %w", err).
			Hinted("start it by an init of the container's, for example with docker run --init")
	}
	go func() {
		for s := range signals {
			_ = agent.Signal(s) // it may have ended a moment ago
		}
	}()
	status, err := reapUntil(agent.Pid)
	if err != nil {
		return fmt.Errorf("the first process cannot wait for its children: %w", err)
	}
	return exitCode(codeOf(status))
}

// reapUntil takes note of every child's end, until that of one.
func reapUntil(last int) (status unix.WaitStatus, err error) {
	for {
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return status, err
		case pid == last && (status.Exited() || status.Signaled()):
			return status, nil
		}
	}
}

// codeOf returns the exit code that stands for an end, as shells have it.
func codeOf(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
