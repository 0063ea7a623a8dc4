// Package runner runs commands on this host and remembers which it ran.
//
// It owns the ledger on disk (one file, written before every start), the run folders with their output, and the
// supervisors: one small process per run that outlives the agent, holds the run's pipes and its exit code, and kills all
// that the run started when its time is over or it is cancelled. A run is a plan of steps; which of them is next is decided
// by exec/steps. It decides nothing about who may run what and when: whoever calls Start has verified the order.
//
// Invariants: a command is started at most once, and no attempt of a step twice, whatever crashes, whenever, also behind a
// restart of the host; a run whose end nobody saw is Unknown, never a success; a damaged ledger stops everything and is
// never overwritten; after a timeout or a cancel nothing that the run started is alive; the run never waits for the agent.
package runner
