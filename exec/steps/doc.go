// Package steps decides in which order the steps of a run are executed and what each outcome leads to: a plan and the
// journal of what has happened give the next move, also after a crash or a reboot.
//
// It is pure. It owns plans and their journal; it never parses a document (exec/document does), and never starts
// anything (exec/runner does). A step whose start is in the journal and whose end is not is never started again.
package steps
