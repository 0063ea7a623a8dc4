// Package decisions keeps what this host decided about commands, on its disk, so that its owner can ask why.
//
// It owns two files, and the memory of what is not written yet. It never judges a decision, and nothing hangs on one: they
// are for people. That is why nothing here is synced, and why whoever decides never waits.
//
// Invariants: Put returns at once, whatever the disk does; the files never take more than Options.MaxBytes together, while
// one is rewritten too; whatever is missing (too many at once, too old, a damaged file) is said where it is missing; what
// was heard from anybody cannot push out what an operator signed.
package decisions
