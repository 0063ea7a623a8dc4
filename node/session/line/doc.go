// Package line is one end of a session's line: it carries flow's numbered frames over whichever connection is the newest, for
// the client before the session as for the supervisor behind it.
//
// It owns the goroutines, the lock and the waiting; what is sent again and what is too much, node/session/flow decides. It never
// opens a connection (its callers do), and never decides that a session is over.
//
// Invariants:
//   - One connection is served at a time. Where a newer one begins, nothing more is taken from the older one.
//   - Reading never waits for whoever consumes: a sign of life, a signal and an acknowledgement pass a queue that nobody
//     empties. The queue is bounded by the window, and the other end is cut off where it does not keep to that.
//   - An idle end holds a few kilobytes.
package line
