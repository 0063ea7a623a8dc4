// Package fleet is muster's vocabulary: IDs, names, members, tags, targets and errors.
//
// It owns the words that every other package speaks and the language that selects nodes. It is pure: no clock, no I/O,
// no goroutine. It never decides who may do what (node/auth does) nor what a node does next (node does).
package fleet
