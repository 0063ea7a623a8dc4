// Package host wires the shells of one host together: the only place, beside tests, where concrete types meet.
//
// It owns the order of starting and stopping, and the thin adapters between packages that do not know each other. It
// decides nothing. The command line and the tests start hosts through it.
package host
