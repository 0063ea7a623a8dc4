// Package steps decides in which order the steps of a run are executed and what each outcome leads to: a plan and the
// journal of what has happened give the next move, also after a crash or a reboot.
//
// It is pure. It owns plans, their journal and its form on disk; it never parses a document (exec/document does), and
// never starts anything (exec/runner does).
//
// Invariants: an attempt that began and has no end is never started again, and nothing after it is: the run is in doubt.
// A step is tried again only by a new attempt, when it failed and may, or when it asked for a reboot and the host has
// another boot ID since. A journal with anything but zeros behind its last good entry is in doubt as well. What an exit
// code means is decided here alone, by the plan; whoever runs a process records facts.
package steps
