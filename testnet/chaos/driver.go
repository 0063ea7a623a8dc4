package main

import "context"

// Driver is a fleet that can be broken. Its methods may be called at once from several goroutines; what makes no sense any
// more (a signal to an agent that is gone) does nothing.
type Driver interface {
	// Muster runs muster's command line on a host, as the operator.
	Muster(ctx context.Context, host string, args ...string) Result
	// MusterWith is Muster with standard input.
	MusterWith(ctx context.Context, host, stdin string, args ...string) Result
	// Begin breaks something, End mends it. A fault names hosts, never Leader.
	Begin(ctx context.Context, f Fault) error
	End(ctx context.Context, f Fault) error
	// Heal makes everything whole: network, disks, clocks, addresses, limits; every host is on and its agent runs.
	Heal(ctx context.Context) error
	// Settled waits until all nodes see all nodes and the quorum has its voters.
	Settled(ctx context.Context) error
	// Notes returns what runs have noted on a host.
	Notes(ctx context.Context, host string) (string, error)
	// Processes lists what runs on a host.
	Processes(host string) ([]Process, error)
	// Life tells the agent's processes of a host apart; 0: none runs.
	Life(host string) int
	// Holding lists the files of a host that have a text in them, and its agent's log if it has.
	Holding(ctx context.Context, host, text string) ([]string, error)
	// Crashes says how agents have crashed since it was asked last.
	Crashes() ([]string, error)
	// Keep copies the agents' logs into a folder, for who looks into a violation.
	Keep(dir string) error
	// Close ends everything.
	Close() error
}

// Founder makes a fleet at rest.
type Founder func(ctx context.Context, shape Shape) (Driver, error)

// Result is what a command line printed and returned.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Process is a process on a host.
type Process struct {
	PID     int
	Argv    []string
	Environ []string
}
